"""Manual entries: movements that no operation posts, proposed by one person of finance and posted by another."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import MD5, Cast

from ledger.models.books import Entry
from people.models import TWO_PEOPLE, Proposal


class ManualEntry(Proposal):
    """A proposal of lines with its reason. `lines`: [kind, currency, owner, contract, amount], credit positive."""

    reason = models.CharField(max_length=300)
    # The source that it rests on: a letter, a ticket, a bank's reference.
    reference = models.CharField(max_length=200)
    lines = models.JSONField()
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="manual_entry")

    class Meta:
        constraints = [
            # A form that is sent twice asks once. An index takes no more than 2.7 kB, and the lines may be longer.
            models.UniqueConstraint(
                MD5(Cast("lines", models.TextField())),
                "reference",
                condition=Q(state="proposed"),
                name="an_equal_manual_entry_is_proposed_once_at_a_time",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="a_manual_entry_has_a_reason"),
            models.CheckConstraint(condition=~Q(reference=""), name="a_manual_entry_has_a_reference"),
            models.CheckConstraint(
                condition=Q(state="approved", entry__isnull=False) | ~Q(state="approved") & Q(entry__isnull=True),
                name="a_posted_manual_entry_names_its_entry",
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"manual entry {self.pk}"
