"""The manual rail: the destination of a bank transfer, the file that orders it, and the bank's report on it."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from people.models import uuid7


class BankDetails(models.Model):
    """A bank account that a contributor named. Append-only: a change is a new row, and starts a cool-down.

    The account number is sealed (payouts/rails/bank/sealing.py): a copy of the database alone does not tell it. A
    payout freezes the fingerprint as its destination, so that an approver agrees to exactly this account.
    """

    account = models.ForeignKey("payouts.PayoutAccount", on_delete=models.PROTECT, related_name="bank_details")
    holder_name = models.CharField(max_length=70)
    sealed = models.BinaryField()
    fingerprint = models.CharField(max_length=64)
    country = models.CharField(max_length=2)
    last4 = models.CharField(max_length=4)
    bank_name = models.CharField(max_length=140, blank=True)
    recorded_by = models.ForeignKey("people.User", on_delete=models.PROTECT, related_name="+")
    recorded_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["fingerprint"], name="bank_details_by_fingerprint")]
        constraints = [models.CheckConstraint(condition=~Q(holder_name=""), name="a_bank_account_has_a_holder")]

    def __str__(self) -> str:
        return f"{self.country} … {self.last4}"


class BankFile(models.Model):
    """One file of payment orders (ISO 20022 pain.001), byte for byte as it is handed to the bank."""

    # made -> sent (somebody handed it to the bank) | withdrawn (two people say that nobody did)
    class State(models.TextChoices):
        MADE = "made"
        SENT = "sent"
        WITHDRAWN = "withdrawn"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {"made": {"sent", "withdrawn"}, "sent": set(), "withdrawn": set()}
    BEGINS: ClassVar[set[str]] = {"made"}

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    run = models.ForeignKey("payouts.PayoutRun", on_delete=models.PROTECT, related_name="bank_files")
    number = models.IntegerField()
    message_id = models.CharField(max_length=35, unique=True)
    # The file's bytes, sealed, because they name every account; and the digest of the bytes themselves.
    sealed = models.BinaryField()
    sha256 = models.BinaryField(max_length=32)
    n_payments = models.IntegerField()
    total_minor = models.BigIntegerField()
    execution_on = models.DateField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.MADE)
    made_by = models.ForeignKey("people.User", on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()
    sent_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    sent_at = models.DateTimeField(null=True, blank=True)
    withdrawn_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "number"], name="a_run_numbers_a_bank_file_once"),
            models.CheckConstraint(
                condition=Q(n_payments__gt=0, total_minor__gt=0), name="a_bank_file_orders_something"
            ),
            models.CheckConstraint(
                condition=~Q(state="sent") | Q(sent_by__isnull=False, sent_at__isnull=False),
                name="a_sent_bank_file_says_by_whom",
            ),
            models.CheckConstraint(
                condition=~Q(state="withdrawn")
                | (Q(withdrawn_by__isnull=False, withdrawn_at__isnull=False) & ~Q(note="")),
                name="a_withdrawn_bank_file_says_why",
            ),
            models.CheckConstraint(
                condition=Q(withdrawn_by__isnull=True) | ~Q(withdrawn_by=F("made_by")),
                name="whoever_made_a_bank_file_does_not_withdraw_it",
            ),
        ]

    def __str__(self) -> str:
        return self.message_id


class BankLine(models.Model):
    """The bank's report on one payment order. Append-only, once for each reference of the bank."""

    class Kind(models.TextChoices):
        EXECUTED = "executed"
        REJECTED = "rejected"
        RETURNED = "returned"

    class Source(models.TextChoices):
        TABLE = "table"
        CAMT_053 = "camt.053", "camt.053"
        CAMT_054 = "camt.054", "camt.054"
        PAIN_002 = "pain.002", "pain.002"
        MT940 = "MT940", "MT940"

    kind = models.CharField(max_length=8, choices=Kind.choices)
    # The bank's own reference of the booking, or of the refusal.
    reference = models.CharField(max_length=64, unique=True)
    # The report that told it first: another kind of report may tell the same booking under another reference.
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.TABLE)
    attempt = models.ForeignKey("payouts.PayoutAttempt", on_delete=models.PROTECT, related_name="bank_lines")
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    booked_on = models.DateField()
    reason = models.CharField(max_length=200, blank=True)
    recorded_by = models.ForeignKey("people.User", on_delete=models.PROTECT, related_name="+")
    recorded_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="bank_line_amount_is_positive"),
            models.UniqueConstraint(
                fields=["attempt"],
                condition=Q(kind__in=["executed", "rejected"]),
                name="a_payment_order_has_one_outcome",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}"
