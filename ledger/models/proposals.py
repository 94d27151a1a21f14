"""Proposals by one member of the staff that another decides: the two persons, the moments, and the rule that they
differ.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q


class Proposal(models.Model):
    """Stands as it was proposed; decided once. The proposed facts, and the states after `proposed`, are the heirs'."""

    state = models.CharField(max_length=8, default="proposed")
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


def decided_by_another(*, accepted: str, says: str, another: str) -> list[models.BaseConstraint]:
    """A decided proposal names its decider and the moment; an `accepted` one was decided by a person other than its
    proposer.
    """
    return [
        models.CheckConstraint(
            condition=Q(state="proposed", decided_by__isnull=True, decided_at__isnull=True)
            | ~Q(state="proposed") & Q(decided_by__isnull=False, decided_at__isnull=False),
            name=says,
        ),
        models.CheckConstraint(condition=~Q(state=accepted) | ~Q(decided_by=F("proposed_by")), name=another),
    ]
