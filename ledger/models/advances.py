"""Advances on later royalties: proposed by one person of finance under a contract, approved by another."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from ledger.models.books import Entry
from ledger.models.contracts import Contract
from people.models import TWO_PEOPLE, Proposal


class AdvanceProposal(Proposal):
    """An amount, in units of its currency, to be paid now and earned back from the contributor's later earnings."""

    contract = models.ForeignKey(Contract, on_delete=models.PROTECT, related_name="advance_proposals")
    currency = models.CharField(max_length=3)
    amount = models.BigIntegerField()
    reason = models.CharField(max_length=300)
    # The source that it rests on: a clause, a letter, a decision.
    reference = models.CharField(max_length=200)
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
                condition=Q(state="approved", entry__isnull=False) | ~Q(state="approved") & Q(entry__isnull=True),
                name="an_approved_advance_names_its_entry",
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"advance {self.pk}"


class AdvanceCancellation(Proposal):
    """The part of a granted advance that is not earned back any more: reversed before it was paid, or given up
    after.
    """

    class Way(models.TextChoices):
        TAKE_BACK = "take_back", "reversed, for it is not paid out yet"
        WRITE_OFF = "write_off", "written off: the programme bears it"

    advance = models.ForeignKey(AdvanceProposal, on_delete=models.PROTECT, related_name="cancellations")
    way = models.CharField(max_length=9, choices=Way.choices)
    reason = models.CharField(max_length=300)
    # Fixed when it is approved: the open amount at that moment.
    amount = models.BigIntegerField(null=True, blank=True)
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
                condition=Q(state="approved", entry__isnull=False, amount__gt=0)
                | ~Q(state="approved") & Q(entry__isnull=True, amount__isnull=True),
                name="an_approved_cancellation_names_its_entry_and_amount",
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"cancellation of {self.advance}"
