"""Proposed transactions: a business verb with its lines, proposed by one person and approved by another."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from ledger.models.books import Entry, EntryKind
from ledger.models.proposals import Proposal, decided_by_another


class VerbProposal(Proposal):
    """One use of a verb. `lines`: [kind, currency, owner, contract, amount], credit positive, posted as they stand."""

    # proposed -> approved (by somebody else, with its entry) | rejected
    class State(models.TextChoices):
        PROPOSED = "proposed"
        APPROVED = "approved"
        REJECTED = "rejected"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "proposed": {"approved", "rejected"},
        "approved": set(),
        "rejected": set(),
    }
    BEGINS: ClassVar[set[str]] = {"proposed"}

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
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="verb_proposal")

    class Meta:
        constraints = [
            # A form that is sent twice asks once.
            models.UniqueConstraint(
                fields=["idem_key"], condition=~Q(state="rejected"), name="a_transaction_is_proposed_once"
            ),
            models.CheckConstraint(condition=~Q(reference=""), name="a_transaction_has_a_reference"),
            models.CheckConstraint(
                condition=Q(state="approved", entry__isnull=False) | ~Q(state="approved") & Q(entry__isnull=True),
                name="an_approved_transaction_names_its_entry",
            ),
            *decided_by_another(
                accepted="approved",
                says="a_decided_transaction_says_by_whom_and_when",
                another="a_transaction_is_approved_by_somebody_else",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.reference}"
