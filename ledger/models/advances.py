"""Advances on later royalties: proposed by one person of finance under a contract, granted by another."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from ledger.models.books import Entry
from ledger.models.contracts import Contract
from ledger.models.proposals import Proposal, decided_by_another


class AdvanceProposal(Proposal):
    """An amount, in units of its currency, to be paid now and earned back from the contributor's later earnings."""

    # proposed -> granted (by somebody else, with its entry) | rejected
    class State(models.TextChoices):
        PROPOSED = "proposed"
        GRANTED = "granted"
        REJECTED = "rejected"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "proposed": {"granted", "rejected"},
        "granted": set(),
        "rejected": set(),
    }
    BEGINS: ClassVar[set[str]] = {"proposed"}

    contract = models.ForeignKey(Contract, on_delete=models.PROTECT, related_name="advance_proposals")
    currency = models.CharField(max_length=3)
    amount = models.BigIntegerField()
    reason = models.CharField(max_length=300)
    # The source that it rests on: a clause, a letter, a decision.
    reference = models.CharField(max_length=200)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="advance")

    class Meta:
        constraints = [
            # A form that is sent twice asks once.
            models.UniqueConstraint(
                fields=["contract", "currency", "amount", "reference"],
                condition=Q(state="proposed"),
                name="an_equal_advance_is_proposed_once_at_a_time",
            ),
            models.CheckConstraint(condition=Q(amount__gt=0), name="an_advance_is_positive"),
            models.CheckConstraint(condition=~Q(reason=""), name="an_advance_has_a_reason"),
            models.CheckConstraint(condition=~Q(reference=""), name="an_advance_has_a_reference"),
            models.CheckConstraint(
                condition=Q(state="granted", entry__isnull=False) | ~Q(state="granted") & Q(entry__isnull=True),
                name="a_granted_advance_names_its_entry",
            ),
            *decided_by_another(
                accepted="granted",
                says="a_decided_advance_says_by_whom_and_when",
                another="an_advance_is_granted_by_somebody_else",
            ),
        ]

    def __str__(self) -> str:
        return f"advance {self.pk}"


class AdvanceCancellation(Proposal):
    """The part of a granted advance that is not earned back any more: reversed before it was paid, or given up
    after.
    """

    # proposed -> posted (by somebody else, with its entry and amount) | rejected
    class State(models.TextChoices):
        PROPOSED = "proposed"
        POSTED = "posted"
        REJECTED = "rejected"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "proposed": {"posted", "rejected"},
        "posted": set(),
        "rejected": set(),
    }
    BEGINS: ClassVar[set[str]] = {"proposed"}

    class Way(models.TextChoices):
        TAKE_BACK = "take_back", "taken back, for it is not paid out yet"
        WRITE_OFF = "write_off", "written off: the programme bears it"

    advance = models.ForeignKey(AdvanceProposal, on_delete=models.PROTECT, related_name="cancellations")
    way = models.CharField(max_length=9, choices=Way.choices)
    reason = models.CharField(max_length=300)
    # Fixed when it is posted: the open amount at that moment.
    amount = models.BigIntegerField(null=True, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    entry = models.OneToOneField(
        Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="advance_cancellation"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["advance"], condition=Q(state="proposed"), name="a_cancellation_is_proposed_once_at_a_time"
            ),
            models.CheckConstraint(condition=Q(way__in=["take_back", "write_off"]), name="a_cancellation_has_a_way"),
            models.CheckConstraint(condition=~Q(reason=""), name="a_cancellation_has_a_reason"),
            models.CheckConstraint(
                condition=Q(state="posted", entry__isnull=False, amount__gt=0)
                | ~Q(state="posted") & Q(entry__isnull=True, amount__isnull=True),
                name="a_posted_cancellation_names_its_entry_and_amount",
            ),
            *decided_by_another(
                accepted="posted",
                says="a_decided_cancellation_says_by_whom_and_when",
                another="a_cancellation_is_posted_by_somebody_else",
            ),
        ]

    def __str__(self) -> str:
        return f"cancellation of {self.advance}"
