"""A reset second factor of a contributor's member: payouts wait as after a new bank account."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from contributors.models import Membership
from payouts.models import PayoutAccount
from payouts.operations.accounts import hold_as_account_says
from people.models import FactorReset, User
from people.operations import resets


def _apply(row: FactorReset, by: User, at: datetime) -> dict[str, Any]:
    """Remove the factors, and start the cool-down of every account that the person could redirect."""
    written = resets.apply_reset(row, by, at)
    managed = Membership.objects.filter(user=row.user_id, role__in=Membership.MANAGING).values("contributor")
    accounts = PayoutAccount.objects.select_for_update(no_key=True).filter(contributor__in=managed)
    for account in accounts.order_by("contributor_id"):
        account.bank_changed_at = at
        account.save(update_fields=["bank_changed_at"])
        hold_as_account_says(account, at)
    return written


KIND = dataclasses.replace(resets.KIND, apply=_apply)
