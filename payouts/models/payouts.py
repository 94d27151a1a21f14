"""Payouts, the attempts at each, and the parts of them that came back or arrived."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from payouts.models.accounts import Rail
from payouts.models.runs import PayoutRun
from people.models import uuid7


class Payout(models.Model):
    """The payment to one contributor in one run. Its amounts and destination never change once the run left draft."""

    # ready <-> approved -> sending -> transferred | refused | unknown
    #              |  ^                 ^    unknown -> transferred | approved (next attempt)
    #              |  +-- refused ------|--  refused -> approved (next attempt) | held
    #              +-> held (a hold since approval, the balance fell, or another run pays them by now)
    # transferred -> settled (the bank has it) | bank_failed | reversed | partially_reversed
    # settled -> bank_failed (banks return money days later); bank_failed -> settled (Stripe pays again by itself)
    class State(models.TextChoices):
        READY = "ready"
        APPROVED = "approved"
        SENDING = "sending"
        UNKNOWN = "unknown"
        REFUSED = "refused"
        HELD = "held"
        TRANSFERRED = "transferred"
        SETTLED = "settled"
        BANK_FAILED = "bank_failed"
        PARTIALLY_REVERSED = "partially_reversed"
        REVERSED = "reversed"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "ready": {"approved"},
        "approved": {"ready", "sending", "held"},
        "sending": {"transferred", "refused", "unknown"},
        "unknown": {"transferred", "approved"},
        "refused": {"approved", "held"},
        "held": set(),
        "transferred": {"settled", "bank_failed", "partially_reversed", "reversed"},
        "settled": {"bank_failed", "partially_reversed", "reversed"},
        "bank_failed": {"settled", "partially_reversed", "reversed"},
        "partially_reversed": {"reversed"},
        "reversed": set(),
    }
    LIVE: ClassVar[tuple[str, ...]] = ("approved", "sending", "unknown")
    # Money left the platform's balance for it.
    PAID: ClassVar[tuple[str, ...]] = ("transferred", "settled", "bank_failed", "partially_reversed", "reversed")
    BEGINS: ClassVar[set[str]] = {"ready"}

    # Also Stripe's transfer_group and the stem of every idempotency key, so that two installations never share one.
    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    run = models.ForeignKey(PayoutRun, on_delete=models.PROTECT, related_name="payouts")
    contributor = models.ForeignKey("contributors.Contributor", on_delete=models.PROTECT, related_name="payouts")
    account = models.ForeignKey("payouts.PayoutAccount", on_delete=models.PROTECT, related_name="payouts")
    rail = models.CharField(max_length=16, choices=Rail.choices, default=Rail.STRIPE_TRANSFER)
    currency = models.CharField(max_length=3)
    # gross leaves the contributor's payable; tax is withheld; amount is sent.
    gross_minor = models.BigIntegerField()
    tax_minor = models.BigIntegerField(default=0)
    tax_jurisdiction = models.CharField(max_length=2, blank=True)
    # The rate and the treaty of the withholding table, as the entry keeps them.
    tax_basis = models.CharField(max_length=60, blank=True)
    amount_minor = models.BigIntegerField()
    destination = models.CharField(max_length=64)
    destination_currency = models.CharField(max_length=3)
    row_sha256 = models.BinaryField(max_length=32)
    state = models.CharField(max_length=18, choices=State.choices, default=State.READY)
    # Why it is held or was refused, for staff; payouts/queries/words.py has the words for the contributor.
    reason = models.CharField(max_length=64, blank=True)
    reason_note = models.CharField(max_length=500, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True)
    next_try_at = models.DateTimeField(null=True, blank=True)
    # Nothing more happens by itself: the console lists it for a person.
    needs_person_since = models.DateTimeField(null=True, blank=True)
    reversed_minor = models.BigIntegerField(default=0)
    bank_payout = models.ForeignKey(
        "payouts.BankPayout", on_delete=models.PROTECT, null=True, blank=True, related_name="payouts"
    )
    # The amount that reached the payee's bank, by Stripe's balance transaction. Null: not known. The currency alone may
    # be known. The rate stands as its source states it, in `arrived_currency` for one of `currency`.
    arrived_minor = models.BigIntegerField(null=True, blank=True)
    arrived_currency = models.CharField(max_length=3, blank=True)
    exchange_rate = models.CharField(max_length=32, blank=True)
    arrival_source = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField()
    approved_at = models.DateTimeField(null=True, blank=True)
    transferred_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["id"], condition=Q(state__in=["approved", "sending", "unknown"]), name="payout_to_execute"
            ),
            models.Index(fields=["contributor", "-created_at"], name="payouts_of_a_contributor"),
            models.Index(fields=["run", "state"], name="payouts_of_a_run"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["run", "contributor", "currency"], name="one_payout_per_run"),
            models.UniqueConstraint(
                fields=["contributor", "currency"],
                condition=Q(state__in=["approved", "sending", "unknown"]),
                name="one_live_payout",
            ),
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="payout_amount_is_positive"),
            models.CheckConstraint(
                condition=Q(tax_minor__gte=0, gross_minor=F("amount_minor") + F("tax_minor")),
                name="payout_is_gross_less_tax",
            ),
            models.CheckConstraint(
                condition=Q(reversed_minor__gte=0, reversed_minor__lte=F("amount_minor")),
                name="no_more_is_reversed_than_was_paid",
            ),
            models.CheckConstraint(condition=~Q(destination=""), name="payout_has_a_destination"),
            models.CheckConstraint(
                condition=Q(arrived_minor__isnull=True, exchange_rate="", arrival_source="")
                | (Q(arrived_minor__gt=0) & ~Q(arrived_currency="") & ~Q(arrival_source="")),
                name="an_arrived_amount_has_a_currency_and_a_source",
            ),
            models.CheckConstraint(
                condition=~Q(state="reversed") | Q(reversed_minor=F("amount_minor")),
                name="a_reversed_payout_came_back_whole",
            ),
            models.CheckConstraint(condition=~Q(state="held") | ~Q(reason=""), name="a_held_payout_says_why"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_minor} {self.currency} (minor units) to {self.contributor}"

    @property
    def transfer_group(self) -> str:
        return f"payout_{self.public_id.hex}"


class PayoutAttempt(models.Model):
    """One try at the gateway, written down before anything goes on the wire. Append-only but for its outcome."""

    # sent -> succeeded | refused | unknown;   unknown -> succeeded | void
    # void: the key's stored answer is a failure and two look-ups, a quarter of an hour apart, found nothing.
    class State(models.TextChoices):
        SENT = "sent"
        UNKNOWN = "unknown"
        SUCCEEDED = "succeeded"
        REFUSED = "refused"
        VOID = "void"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "sent": {"succeeded", "refused", "unknown"},
        "unknown": {"succeeded", "void"},
        "succeeded": set(),
        "refused": set(),
        "void": set(),
    }
    BEGINS: ClassVar[set[str]] = {"sent"}

    class Kind(models.TextChoices):
        PAY = "pay"
        REVERSAL = "reversal"

    payout = models.ForeignKey(Payout, on_delete=models.PROTECT, related_name="attempts")
    number = models.IntegerField()
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.PAY)
    provider = models.CharField(max_length=16, choices=Rail.choices, default=Rail.STRIPE_TRANSFER)
    idempotency_key = models.CharField(max_length=120, unique=True)
    amount_minor = models.BigIntegerField()
    # The form body, byte for byte as it is sent; the sender refuses when its own bytes differ.
    request = models.TextField()
    request_sha256 = models.BinaryField(max_length=32)
    state = models.CharField(max_length=9, choices=State.choices, default=State.SENT)
    first_sent_at = models.DateTimeField()
    # How often it may have gone on the wire, and how many of those Stripe answered with "not executed".
    sends = models.IntegerField(default=1)
    sends_not_executed = models.IntegerField(default=0)
    # The key's stored answer is a failure: its time and its content.
    failure_stored_at = models.DateTimeField(null=True, blank=True)
    empty_look_up_at = models.DateTimeField(null=True, blank=True)
    http_status = models.IntegerField(null=True, blank=True)
    error_code = models.CharField(max_length=100, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    # The file that orders it, on the manual rail: an attempt stands in one file, for ever.
    bank_file = models.ForeignKey(
        "payouts.BankFile", on_delete=models.PROTECT, null=True, blank=True, related_name="attempts"
    )
    # The journal entry that moved the money into transit; null for a reversal.
    reserve_entry = models.BigIntegerField(null=True, blank=True)
    provider_transfer_id = models.CharField(max_length=64, null=True, blank=True)
    provider_reversal_id = models.CharField(max_length=64, null=True, blank=True)
    balance_transaction = models.CharField(max_length=64, blank=True)
    destination_payment = models.CharField(max_length=64, blank=True)
    requested_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, related_name="+")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["payout"],
                condition=Q(kind="pay", state__in=["sent", "unknown", "succeeded"]),
                name="one_open_attempt",
            ),
            models.UniqueConstraint(
                fields=["payout"],
                condition=Q(kind="reversal", state__in=["sent", "unknown"]),
                name="one_open_reversal",
            ),
            models.UniqueConstraint(fields=["payout", "number"], name="a_payout_numbers_an_attempt_once"),
            models.UniqueConstraint(fields=["provider", "provider_transfer_id"], name="a_transfer_answers_one_attempt"),
            models.UniqueConstraint(fields=["provider", "provider_reversal_id"], name="a_reversal_answers_one_attempt"),
            models.CheckConstraint(
                condition=Q(provider="manual_bank_file", kind="pay", bank_file__isnull=False)
                | (Q(bank_file__isnull=True) & (~Q(provider="manual_bank_file") | ~Q(kind="pay"))),
                name="a_bank_transfer_stands_in_a_file",
            ),
            models.CheckConstraint(condition=Q(number__gt=0), name="attempt_number_is_positive"),
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="attempt_amount_is_positive"),
            models.CheckConstraint(
                condition=~Q(kind="pay", state="succeeded") | Q(provider_transfer_id__isnull=False),
                name="a_succeeded_attempt_names_its_transfer",
            ),
            models.CheckConstraint(
                condition=~Q(kind="pay") | Q(reserve_entry__isnull=False), name="an_attempt_to_pay_reserved_the_money"
            ),
        ]

    def __str__(self) -> str:
        return self.idempotency_key


class Reversal(models.Model):
    """Money that came back from a transfer, by our request or somebody else's at Stripe. Append-only."""

    payout = models.ForeignKey(Payout, on_delete=models.PROTECT, related_name="reversals")
    attempt = models.OneToOneField(
        PayoutAttempt, on_delete=models.PROTECT, null=True, blank=True, related_name="reversal"
    )
    provider_reversal_id = models.CharField(max_length=64, unique=True)
    amount_minor = models.BigIntegerField()
    balance_transaction = models.CharField(max_length=64, blank=True)
    entry = models.BigIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(amount_minor__gt=0), name="reversal_amount_is_positive")]

    def __str__(self) -> str:
        return self.provider_reversal_id


class BankPayout(models.Model):
    """Stripe's payout from a contributor's Stripe balance to the bank: tracked, not driven by us."""

    # pending -> in_transit -> paid | failed | canceled;   paid -> failed (within five business days)
    RANK: ClassVar[dict[str, int]] = {"pending": 0, "in_transit": 1, "paid": 2, "canceled": 3, "failed": 3}

    account = models.ForeignKey("payouts.PayoutAccount", on_delete=models.PROTECT, related_name="bank_payouts")
    # The account at Stripe that it left: the payee may have another one by now. Empty on rows older than that.
    provider_account_id = models.CharField(max_length=64, blank=True)
    provider_payout_id = models.CharField(max_length=64, unique=True)
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    # Made by Stripe on its schedule. Of one that the payee asked for, Stripe lists no parts.
    automatic = models.BooleanField(default=True)
    # Said where the payments that it carried cannot be told.
    note = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=10)
    arrives_on = models.DateField(null=True, blank=True)
    failure_code = models.CharField(max_length=64, blank=True)
    failure_message = models.CharField(max_length=500, blank=True)
    trace_id = models.CharField(max_length=100, blank=True)
    # At Stripe. Of two that carry the same money (the bank sent the first one back) the later one counts.
    made_at = models.DateTimeField(null=True, blank=True)
    synced_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.provider_payout_id} {self.state}"
