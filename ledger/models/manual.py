"""Manual entries: what no operation posts, proposed by one person of finance and posted by another."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from ledger.models.books import Entry


class ManualEntry(models.Model):
    """A proposal of lines with its reason. `lines`: [kind, currency, owner, contract, amount], credit positive."""

    # proposed -> posted (by somebody else, with its entry) | rejected
    class State(models.TextChoices):
        PROPOSED = "proposed"
        POSTED = "posted"
        REJECTED = "rejected"

    reason = models.CharField(max_length=300)
    # What it rests on: a letter, a ticket, a bank's reference.
    reference = models.CharField(max_length=200)
    lines = models.JSONField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="manual_entry")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="a_manual_entry_has_a_reason"),
            models.CheckConstraint(condition=~Q(reference=""), name="a_manual_entry_has_a_reference"),
            models.CheckConstraint(
                condition=Q(state="proposed", decided_by__isnull=True, decided_at__isnull=True)
                | ~Q(state="proposed") & Q(decided_by__isnull=False, decided_at__isnull=False),
                name="a_decided_manual_entry_says_by_whom_and_when",
            ),
            models.CheckConstraint(
                condition=Q(state="posted", entry__isnull=False) | ~Q(state="posted") & Q(entry__isnull=True),
                name="a_posted_manual_entry_names_its_entry",
            ),
            models.CheckConstraint(
                condition=~Q(state="posted") | ~Q(decided_by=F("proposed_by")),
                name="a_manual_entry_is_posted_by_somebody_else",
            ),
        ]

    def __str__(self) -> str:
        return f"manual entry {self.pk}"
