"""Webhook events, reconciliations with their differences, and notices."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from people.models import uuid7


class WebhookEvent(models.Model):
    """An event that Stripe sent and signed. A hint only: the object is fetched again before anything is believed."""

    # received -> applied | ignored | retrying -> applied | ignored | dead (every try failed, over four days)
    class State(models.TextChoices):
        RECEIVED = "received"
        RETRYING = "retrying"
        APPLIED = "applied"
        IGNORED = "ignored"
        DEAD = "dead"

    class Endpoint(models.TextChoices):
        PLATFORM = "platform"
        CONNECT = "connect"

    WAITING: ClassVar[tuple[str, ...]] = ("received", "retrying")

    endpoint = models.CharField(max_length=8, choices=Endpoint.choices)
    event_id = models.CharField(max_length=64)
    account = models.CharField(max_length=64, blank=True)
    type = models.CharField(max_length=100)
    object_id = models.CharField(max_length=64, blank=True)
    created = models.DateTimeField()
    livemode = models.BooleanField()
    payload = models.TextField()
    headers = models.JSONField(default=dict)
    received_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.RECEIVED)
    tries = models.IntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    applied_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], condition=Q(state__in=["received", "retrying"]), name="webhook_event_to_apply"),
            models.Index(fields=["object_id"], name="webhook_events_of_an_object"),
        ]
        constraints = [models.UniqueConstraint(fields=["endpoint", "event_id"], name="webhook_once")]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"


class IgnoredEvent(models.Model):
    """A count of signed events that were answered with 200 and not stored, by their reason and type."""

    class Reason(models.TextChoices):
        OTHER_MODE = "other_mode", "Of Stripe's other mode (test or live)"
        THIN = "thin", "An event of API v2, which says only that something changed"

    endpoint = models.CharField(max_length=8, choices=WebhookEvent.Endpoint.choices)
    reason = models.CharField(max_length=10, choices=Reason.choices)
    type = models.CharField(max_length=100)
    n = models.BigIntegerField(default=1)
    last_event_id = models.CharField(max_length=64)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "reason", "type"], name="ignored_events_are_counted_once"),
            models.CheckConstraint(condition=Q(n__gt=0), name="an_ignored_event_was_seen"),
        ]

    def __str__(self) -> str:
        return f"{self.n} x {self.type}: {self.reason}"


class Reconciliation(models.Model):
    """One comparison of our rows, the ledger and Stripe, with the figures as they were found. Append-only."""

    class Kind(models.TextChoices):
        RUN = "run"
        DAY = "day"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    kind = models.CharField(max_length=3, choices=Kind.choices)
    run = models.ForeignKey(
        "payouts.PayoutRun", on_delete=models.PROTECT, null=True, blank=True, related_name="reconciliations"
    )
    currency = models.CharField(max_length=3)
    since = models.DateTimeField()
    until = models.DateTimeField()
    n_attempts = models.IntegerField()
    n_transfers = models.IntegerField()
    n_balance_transactions = models.IntegerField()
    ours_minor = models.BigIntegerField()
    stripe_minor = models.BigIntegerField()
    # Units at the asset's scale, both positive when money is there.
    ledger_balance = models.BigIntegerField()
    stripe_balance = models.BigIntegerField()
    in_transit_ledger = models.BigIntegerField()
    in_transit_live = models.BigIntegerField()
    n_differences = models.IntegerField()
    finished_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.kind} until {self.until:%Y-%m-%d %H:%M}: {self.n_differences} differences"

    @property
    def is_clean(self) -> bool:
        return self.n_differences == 0


class Difference(models.Model):
    """Something that our rows, the ledger and Stripe do not agree on. Open until explained by a second person."""

    # open -> resolved (a later comparison no longer finds it) | signed_off (a person explained it)
    class State(models.TextChoices):
        OPEN = "open"
        RESOLVED = "resolved"
        SIGNED_OFF = "signed_off"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "open": {"resolved", "signed_off"},
        "resolved": set(),
        "signed_off": set(),
    }
    BEGINS: ClassVar[set[str]] = {"open"}

    class Type(models.TextChoices):
        MISSING_LOCAL = "missing_local"
        MISSING_REMOTE = "missing_remote"
        AMOUNT = "amount"
        CURRENCY = "currency"
        DESTINATION = "destination"
        DUPLICATE_GROUP = "duplicate_group"
        UNEXPECTED_REVERSAL = "unexpected_reversal"
        FEE = "fee"
        UNKNOWN_TYPE = "unknown_type"
        LEDGER_BALANCE = "ledger_balance"
        IN_TRANSIT = "in_transit"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    type = models.CharField(max_length=20, choices=Type.choices)
    run = models.ForeignKey(
        "payouts.PayoutRun", on_delete=models.PROTECT, null=True, blank=True, related_name="differences"
    )
    payout = models.ForeignKey(
        "payouts.Payout", on_delete=models.PROTECT, null=True, blank=True, related_name="differences"
    )
    currency = models.CharField(max_length=3)
    # Its subject: a transfer, a balance transaction, an attempt's key, an account of the ledger.
    subject = models.CharField(max_length=120)
    expected = models.CharField(max_length=200, blank=True)
    found = models.CharField(max_length=200, blank=True)
    words = models.CharField(max_length=500)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    found_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    signed_off_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    note = models.CharField(max_length=1000, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["type", "currency", "subject"], condition=Q(state="open"), name="a_difference_is_open_once"
            ),
            models.CheckConstraint(
                condition=~Q(state="signed_off") | (Q(signed_off_by__isnull=False) & ~Q(note="")),
                name="a_sign_off_has_a_person_and_a_note",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type}: {self.words}"


class Notice(models.Model):
    """Something a contributor or finance is told, written in the transaction that made it true. Once a subject."""

    contributor = models.ForeignKey(
        "contributors.Contributor", on_delete=models.PROTECT, null=True, blank=True, related_name="notices"
    )
    kind = models.CharField(max_length=40)
    # Its subject, for example "payout:<id>": the same thing is told once.
    subject = models.CharField(max_length=120)
    # The subject of its mail where it names an amount or a day; empty: the subject of its kind.
    title = models.CharField(max_length=150, blank=True)
    words = models.CharField(max_length=1000)
    created_at = models.DateTimeField()
    # Its mail: gone, to be tried again, or given up (why stands in `error`). A notice that nobody wants as mail has
    # `given_up_at` without an error.
    sent_at = models.DateTimeField(null=True, blank=True)
    tries = models.IntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    given_up_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["contributor", "-created_at"], name="notices_of_a_contributor"),
            models.Index(
                fields=["id"], condition=Q(sent_at__isnull=True, given_up_at__isnull=True), name="notice_to_mail"
            ),
        ]
        constraints = [models.UniqueConstraint(fields=["kind", "subject"], name="a_notice_is_given_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class MutedNotice(models.Model):
    """A kind of notice that a contributor does not want as mail. It still stands in the portal."""

    contributor = models.ForeignKey("contributors.Contributor", on_delete=models.CASCADE, related_name="muted_notices")
    kind = models.CharField(max_length=40)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["contributor", "kind"], name="a_kind_is_muted_once")]

    def __str__(self) -> str:
        return f"{self.contributor}: no mail of {self.kind}"
