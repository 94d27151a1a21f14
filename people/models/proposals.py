"""Proposals of staff: one person proposes, another approves or rejects, and the proposer may withdraw."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q


class ProposalState(models.TextChoices):
    """The states of every kind of proposal. The later life of an approved row is dated and has no state here."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class Proposal(models.Model):
    """A row that stands as proposed and is decided once. Heirs add the proposed facts and a rule against equal ones."""

    State = ProposalState

    # proposed -> approved (by another person) | rejected | withdrawn (by its proposer)
    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "proposed": {"approved", "rejected", "withdrawn"},
        "approved": set(),
        "rejected": set(),
        "withdrawn": set(),
    }
    BEGINS: ClassVar[set[str]] = {"proposed"}

    state = models.CharField(max_length=9, choices=ProposalState.choices, default=ProposalState.PROPOSED)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    # Why it was rejected; the proposer reads it.
    rejection = models.CharField(max_length=300, blank=True, default="", db_default="")

    class Meta:
        abstract = True


# The rules of every heir, for its Meta.constraints. A row that no person proposed needs no decider.
TWO_PEOPLE: list[models.BaseConstraint] = [
    models.CheckConstraint(
        condition=Q(state="proposed", decided_by__isnull=True, decided_at__isnull=True)
        | ~Q(state="proposed") & Q(decided_by__isnull=False, decided_at__isnull=False)
        | Q(state="approved", proposed_by__isnull=True),
        name="a_decided_%(class)s_names_its_decider_and_time",
    ),
    models.CheckConstraint(
        condition=~Q(state="approved") | ~Q(decided_by=F("proposed_by")),
        name="a_%(class)s_is_approved_by_somebody_else",
    ),
    models.CheckConstraint(
        condition=~Q(state="withdrawn") | Q(decided_by=F("proposed_by")),
        name="a_%(class)s_is_withdrawn_by_its_proposer",
    ),
    models.CheckConstraint(
        condition=Q(state="rejected") | Q(rejection=""), name="only_a_rejected_%(class)s_has_a_reason_for_it"
    ),
]
