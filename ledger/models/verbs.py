"""Proposed transactions: a business verb with its lines, proposed by one person and approved by another."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from ledger.models.books import Entry, EntryKind
from people.models import TWO_PEOPLE, Proposal


class VerbProposal(Proposal):
    """One use of a verb. `lines`: [kind, currency, owner, contract, amount], credit positive, posted as they stand."""

    # A key of the table of verbs, and the kind of entry that it posts.
    verb = models.CharField(max_length=24)
    kind = models.CharField(max_length=24, choices=EntryKind.choices)
    # The document that it rests on: an invoice number, the bank's reference.
    reference = models.CharField(max_length=120)
    note = models.CharField(max_length=300, blank=True)
    lines = models.JSONField()
    # The rate and source of an exchange, which the entry keeps.
    rule = models.CharField(max_length=60, blank=True)
    idem_key = models.CharField(max_length=200)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="verb_proposal")

    class Meta:
        constraints = [
            # A form that is sent twice asks once.
            models.UniqueConstraint(
                fields=["idem_key"],
                condition=Q(state__in=["proposed", "approved"]),
                name="a_transaction_is_proposed_once",
            ),
            models.CheckConstraint(condition=~Q(reference=""), name="a_transaction_has_a_reference"),
            models.CheckConstraint(
                condition=Q(state="approved", entry__isnull=False) | ~Q(state="approved") & Q(entry__isnull=True),
                name="an_approved_transaction_names_its_entry",
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.reference}"
