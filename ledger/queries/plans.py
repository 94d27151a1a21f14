"""Royalty plans, as others ask for them."""

from __future__ import annotations

from ledger.models import RoyaltyPlan
from ledger.money import ASSETS


def currencies() -> frozenset[str]:
    """The currencies of plans that are proposed or in effect; before the first plan, all that the ledger keeps."""
    plans = RoyaltyPlan.objects.exclude(state=RoyaltyPlan.State.REJECTED)
    return frozenset(plans.values_list("currency", flat=True)) or frozenset(ASSETS)
