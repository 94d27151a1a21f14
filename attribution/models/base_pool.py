"""Proposals that the base pool pays the generations of an index that is not evaluated."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from attribution.models.indexes import AttributionIndex
from people.models import TWO_PEOPLE, Proposal


class BasePoolProposal(Proposal):
    """That generations go on without an evaluation of their index, and the base pool pays them alone."""

    index = models.ForeignKey(AttributionIndex, on_delete=models.PROTECT, related_name="base_pool_proposals")
    reason = models.CharField(max_length=300)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["index"], condition=Q(state="proposed"), name="the_base_pool_is_proposed_once_at_a_time"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="a_payment_by_the_base_pool_says_why"),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"payment by the base pool for {self.index}"
