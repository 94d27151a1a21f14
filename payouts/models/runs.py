"""Runs, the contributors that they skip, and the money that is put at Stripe for them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from payouts.models.accounts import HoldReason, Rail
from people.models import uuid7
from people.presentation import dates


class PayoutRun(models.Model):
    """A batch of payouts of one currency under four eyes."""

    # draft <-> calculating -> in_review -> approved -> executing <-> paused
    #   ^                        | ^ |        |             |
    #   +--- (edited, split) ----+ | +> rejected            +-> reconciled -> closed
    #                              +-- (approval expired, split) -- approved
    # draft, set_aside, in_review, approved -> cancelled;   in_review, approved -> rejected
    # set_aside (split off, waits for its sibling) -> draft
    # A rejected run stays as it was judged; a new run replaces it and names it in `supersedes`.
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
    BEGINS: ClassVar[set[str]] = {"draft", "set_aside"}

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
    created_by = models.ForeignKey("people.User", on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    last_edited_by = models.ForeignKey("people.User", on_delete=models.PROTECT, related_name="+")
    last_edited_at = models.DateTimeField()
    # Frozen when the run goes into review.
    submitted_at = models.DateTimeField(null=True, blank=True)
    content_hash = models.BinaryField(max_length=32, null=True, blank=True)
    n_payouts = models.IntegerField(default=0)
    total_minor = models.BigIntegerField(default=0)
    needs_second_approval = models.BooleanField(default=False)
    approved_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    approved_at = models.DateTimeField(null=True, blank=True)
    approved_hash = models.BinaryField(max_length=32, null=True, blank=True)
    second_approved_by = models.ForeignKey(
        "people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    second_approved_at = models.DateTimeField(null=True, blank=True)
    approval_expires_at = models.DateTimeField(null=True, blank=True)
    rejected_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    reject_reason = models.CharField(max_length=500, blank=True)
    started_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    started_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    pause_code = models.CharField(max_length=48, choices=PauseCode.choices, blank=True)
    pause_note = models.CharField(max_length=500, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    reconciled_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["-created_at"], name="payout_run_recent")]
        constraints = [
            # A contributor is paid on one rail, and `one_live_payout` watches over both. A bank that takes days to
            # confirm a file need not stop the payouts through Stripe.
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
        return f"{self.currency}{kind} run {self.pk} of {dates.utc_day(self.cut_off)}"

    @property
    def is_frozen(self) -> bool:
        """Paused for a reason that more than one person must look at."""
        return self.state == self.State.PAUSED and self.pause_code in self.FREEZES

    @property
    def hash_hex(self) -> str:
        return bytes(self.content_hash).hex() if self.content_hash else ""


class LeftOut(models.Model):
    """A contributor with money that a run does not pay, the reason, and the remedy."""

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
    # Units at the asset's scale: the amount that stays owed, to the last billionth.
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


class TopUp(models.Model):
    """Money moved from the programme's bank to its Stripe balance, so that a run can be paid."""

    # requested -> succeeded (the money is at Stripe) | failed; succeeded -> reversed (the bank took it back)
    # found (somebody made it at Stripe's dashboard) -> succeeded (a person booked it) | failed
    class State(models.TextChoices):
        FOUND = "found"
        REQUESTED = "requested"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        REVERSED = "reversed"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "found": {"succeeded", "failed"},
        "requested": {"succeeded", "failed"},
        "succeeded": {"reversed"},
        "failed": set(),
        "reversed": set(),
    }
    BEGINS: ClassVar[set[str]] = {"found", "requested"}

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.REQUESTED)
    provider_topup_id = models.CharField(max_length=64, null=True, blank=True, unique=True)
    entry = models.BigIntegerField(null=True, blank=True)
    reversal_entry = models.BigIntegerField(null=True, blank=True)
    # Null for one that was made at Stripe.
    requested_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, related_name="+")
    requested_at = models.DateTimeField()
    # The person that booked one that was made at Stripe.
    booked_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    # How often it may have gone on the wire, and how many of those Stripe answered with "not executed".
    sends = models.IntegerField(default=1)
    sends_not_executed = models.IntegerField(default=0)
    next_look_at = models.DateTimeField(null=True, blank=True)
    error_message = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="top_up_is_positive"),
            models.CheckConstraint(
                condition=~Q(state__in=["succeeded", "reversed"])
                | Q(provider_topup_id__isnull=False, entry__isnull=False),
                name="a_top_up_that_succeeded_is_booked",
            ),
            models.CheckConstraint(
                condition=Q(requested_by__isnull=False, booked_by__isnull=True)
                | Q(requested_by__isnull=True, provider_topup_id__isnull=False)
                & (~Q(state__in=["succeeded", "reversed"]) | Q(booked_by__isnull=False)),
                name="a_top_up_made_at_stripe_is_booked_by_a_person",
            ),
            models.CheckConstraint(
                condition=~Q(state="found") | Q(requested_by__isnull=True),
                name="only_a_top_up_made_at_stripe_is_found",
            ),
            models.CheckConstraint(
                condition=Q(state="reversed", reversal_entry__isnull=False)
                | ~Q(state="reversed") & Q(reversal_entry__isnull=True),
                name="a_top_up_that_came_back_is_booked_back",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_minor} {self.currency} (minor units)"

    @property
    def idempotency_key(self) -> str:
        return f"topup_{self.public_id.hex}"
