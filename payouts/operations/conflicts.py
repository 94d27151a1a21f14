"""Conflicts of interest of staff with the payees of a run."""

from __future__ import annotations

from django.db.models import QuerySet

from contributors.operations.deciding import acts_for
from contributors.queries.interests import accounts_of
from payouts.models import Payout
from people.models import User


def acts_for_payee(by: User, payouts: QuerySet[Payout]) -> str:
    """Return the reason why a person that acts for a payee of these payouts decides nothing about them; "" for anybody
    else."""
    own = payouts.filter(contributor_id__in=accounts_of(by)).values_list("contributor_id", flat=True)
    return acts_for(by=by, contributors=list(own))
