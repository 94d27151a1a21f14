"""Runs, the payouts in them, the attempts at each, and what came of them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from contributors.models import uuid7
from payouts.models.accounts import HoldReason, Rail


class PayoutRun(models.Model):
    """A batch of payouts of one currency under four eyes."""

    # draft <-> calculating -> in_review -> approved -> executing <-> paused
    #   ^                        | ^ |        |             |
    #   +--- (edited, split) ----+ | +> rejected            +-> reconciled -> closed
    #                              +-- (approval expired, split) -- approved
    # draft, set_aside, in_review, approved -> cancelled;   in_review, approved -> rejected
    # set_aside (split off, waits for its sibling) -> draft
    # A rejected run stays as it was judged; what replaces it is a new run that names it in `supersedes`.
    # Settled and partly failed are read off the payouts, not stored.
    class State(models.TextChoices):
        DRAFT = "draft"
        CALCULATING = "calculating"
        SET_ASIDE = "set_aside"
        IN_REVIEW = "in_review"
        APPROVED = "approved"
        EXECUTING = "executing"
        PAUSED = "paused"
        RECONCILED = "reconciled"
        CLOSED = "closed"
        REJECTED = "rejected"
        CANCELLED = "cancelled"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "draft": {"calculating", "cancelled"},
        "calculating": {"draft", "in_review"},
        "set_aside": {"draft", "cancelled"},
        "in_review": {"approved", "draft", "rejected", "cancelled"},
        "approved": {"executing", "in_review", "rejected", "cancelled"},
        "executing": {"paused", "reconciled"},
        "paused": {"executing"},
        "reconciled": {"closed"},
        "closed": set(),
        "rejected": set(),
        "cancelled": set(),
    }
    # One run of a currency may be in one of these at a time.
    OPEN: ClassVar[tuple[str, ...]] = ("draft", "calculating", "in_review", "approved", "executing", "paused")

    class PauseCode(models.TextChoices):
        PERSON = "person"
        BALANCE = "balance_insufficient"
        CONFIGURATION = "stripe_refuses_our_key"
        # The rest is a freeze: only compliance or an administrator resumes.
        RISK = "stripe_refused_for_risk"
        REQUEST_DIFFERS = "a_key_was_used_for_another_request"
        PAID_TWICE = "more_than_one_transfer_for_a_payout"
        HASH_DIFFERS = "a_payout_differs_from_what_was_approved"

    FREEZES: ClassVar[frozenset[str]] = frozenset(
        {PauseCode.RISK, PauseCode.REQUEST_DIFFERS, PauseCode.PAID_TWICE, PauseCode.HASH_DIFFERS}
    )

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    currency = models.CharField(max_length=3)
    rail = models.CharField(max_length=16, choices=Rail.choices, default=Rail.STRIPE_TRANSFER)
    # Credits up to here are paid, less those younger than the maturity delay.
    cut_off = models.DateTimeField()
    matured_before = models.DateTimeField()
    state = models.CharField(max_length=11, choices=State.choices, default=State.DRAFT)
    # The policy's version and every figure of it that the calculation used; part of the content hash.
    configuration = models.JSONField(default=dict)
    supersedes = models.OneToOneField("self", on_delete=models.PROTECT, null=True, blank=True, related_name="successor")
    split_from = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="splits")
    created_by = models.ForeignKey("contributors.User", on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    last_edited_by = models.ForeignKey("contributors.User", on_delete=models.PROTECT, related_name="+")
    last_edited_at = models.DateTimeField()
    # Frozen when the run goes into review.
    submitted_at = models.DateTimeField(null=True, blank=True)
    content_hash = models.BinaryField(max_length=32, null=True, blank=True)
    n_payouts = models.IntegerField(default=0)
    total_minor = models.BigIntegerField(default=0)
    needs_second_approval = models.BooleanField(default=False)
    approved_by = models.ForeignKey(
        "contributors.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    approved_at = models.DateTimeField(null=True, blank=True)
    approved_hash = models.BinaryField(max_length=32, null=True, blank=True)
    second_approved_by = models.ForeignKey(
        "contributors.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    second_approved_at = models.DateTimeField(null=True, blank=True)
    approval_expires_at = models.DateTimeField(null=True, blank=True)
    rejected_by = models.ForeignKey(
        "contributors.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    reject_reason = models.CharField(max_length=500, blank=True)
    started_by = models.ForeignKey(
        "contributors.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    started_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    pause_code = models.CharField(max_length=48, choices=PauseCode.choices, blank=True)
    pause_note = models.CharField(max_length=500, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    reconciled_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.ForeignKey(
        "contributors.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["-created_at"], name="payout_run_recent")]
        constraints = [
            # A contributor is paid on one rail, and `one_live_payout` watches over both: a bank that takes days to
            # confirm a file need not stop those who are paid through Stripe.
            models.UniqueConstraint(
                fields=["currency", "rail"],
                condition=Q(state__in=["draft", "calculating", "in_review", "approved", "executing", "paused"]),
                name="one_run_at_a_time",
            ),
            models.CheckConstraint(
                condition=Q(approved_by__isnull=True)
                | (~Q(approved_by=F("created_by")) & ~Q(approved_by=F("last_edited_by"))),
                name="approver_is_neither_creator_nor_last_editor",
            ),
            models.CheckConstraint(
                condition=Q(second_approved_by__isnull=True)
                | (
                    Q(approved_by__isnull=False)
                    & ~Q(second_approved_by=F("created_by"))
                    & ~Q(second_approved_by=F("last_edited_by"))
                    & ~Q(second_approved_by=F("approved_by"))
                ),
                name="second_approver_is_somebody_else",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["approved", "executing", "paused", "reconciled", "closed"])
                | (
                    Q(approved_by__isnull=False, approved_at__isnull=False, approved_hash=F("content_hash"))
                    & (Q(needs_second_approval=False) | Q(second_approved_at__isnull=False))
                ),
                name="only_an_approved_run_executes",
            ),
            models.CheckConstraint(
                condition=Q(approved_by__isnull=True) | Q(approved_at__isnull=False, approval_expires_at__isnull=False),
                name="an_approval_has_a_time",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["in_review", "approved", "executing", "paused", "reconciled", "closed"])
                | Q(content_hash__isnull=False, submitted_at__isnull=False, n_payouts__gt=0, total_minor__gt=0),
                name="a_run_in_review_is_frozen",
            ),
            models.CheckConstraint(
                condition=~Q(state="paused") | (Q(paused_at__isnull=False) & ~Q(pause_code="")),
                name="a_pause_has_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(matured_before__lte=F("cut_off")), name="maturity_does_not_end_after_the_cut_off"
            ),
        ]

    def __str__(self) -> str:
        kind = " bank" if self.rail == Rail.MANUAL_BANK_FILE else ""
        return f"{self.currency}{kind} run {self.pk} of {self.cut_off:%Y-%m-%d}"

    @property
    def is_frozen(self) -> bool:
        """Paused for a reason that more than one person must look at."""
        return self.state == self.State.PAUSED and self.pause_code in self.FREEZES

    @property
    def hash_hex(self) -> str:
        return bytes(self.content_hash).hex() if self.content_hash else ""


class Payout(models.Model):
    """What one contributor gets in one run. Its amounts and destination never change once the run left draft."""

    # ready <-> approved -> sending -> transferred | refused | unknown
    #              |  ^                 ^    unknown -> transferred | approved (next attempt)
    #              |  +-- refused ------|--  refused -> approved (next attempt) | held
    #              +-> held (a hold since approval, or the balance fell)
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
    # Why it is held or was refused, for staff; payouts/words.py has the words for the contributor.
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
                condition=~Q(state="reversed") | Q(reversed_minor=F("amount_minor")),
                name="a_reversed_payout_came_back_whole",
            ),
            models.CheckConstraint(
                condition=~Q(state="held") | ~Q(reason=""), name="a_held_payout_says_why"
            ),
        ]  # fmt: skip

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
    # The key's stored answer is a failure: said when, and what.
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
    requested_by = models.ForeignKey("contributors.User", on_delete=models.PROTECT, null=True, related_name="+")
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


class LeftOut(models.Model):
    """Somebody with money whom a run does not pay, why, and what to do about it."""

    class Reason(models.TextChoices):
        BELOW_THRESHOLD = "below_threshold"
        IMMATURE = "immature"
        HELD = "held"
        NOT_ONBOARDED = "not_onboarded"
        NEGATIVE_BALANCE = "negative_balance"
        BELOW_PAYABLE_UNIT = "below_payable_unit"
        LIVE_ELSEWHERE = "live_elsewhere"
        EXCLUDED = "excluded"
        OTHER_RAIL = "other_rail"

    run = models.ForeignKey(PayoutRun, on_delete=models.PROTECT, related_name="left_out")
    contributor = models.ForeignKey("contributors.Contributor", on_delete=models.PROTECT, related_name="left_out")
    currency = models.CharField(max_length=3)
    # Units at the asset's scale: what stays owed to the last billionth.
    amount = models.BigIntegerField()
    reason = models.CharField(max_length=20, choices=Reason.choices)
    hold_reason = models.CharField(max_length=32, choices=HoldReason.choices, blank=True)
    words = models.CharField(max_length=500)
    remedy = models.CharField(max_length=500)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "contributor"], name="a_contributor_is_left_out_of_a_run_once")
        ]

    def __str__(self) -> str:
        return f"{self.contributor}: {self.words}"


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
    provider_payout_id = models.CharField(max_length=64, unique=True)
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
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


class TopUp(models.Model):
    """Money moved from the programme's bank to its Stripe balance, so that a run can be paid."""

    # requested -> succeeded | failed
    class State(models.TextChoices):
        REQUESTED = "requested"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.REQUESTED)
    provider_topup_id = models.CharField(max_length=64, null=True, blank=True, unique=True)
    entry = models.BigIntegerField(null=True, blank=True)
    requested_by = models.ForeignKey("contributors.User", on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField()
    error_message = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="top_up_is_positive"),
            models.CheckConstraint(
                condition=~Q(state="succeeded") | Q(provider_topup_id__isnull=False, entry__isnull=False),
                name="a_top_up_that_succeeded_is_booked",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_minor} {self.currency} (minor units)"
