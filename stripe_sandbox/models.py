"""The state of the sandbox: accounts, balances, movements, events, and the stored answer of each key.

All state is in PostgreSQL, so that a killed server goes on where it stood. Money is in the currency's minor unit, as
Stripe counts it. The sandbox is a stranger to the product: no table here points at one of the product's.
"""

from __future__ import annotations

import secrets
from functools import partial

from django.db import models
from django.db.models import F, Q

PLATFORM = "acct_sandboxplatform"


def mint(prefix: str) -> str:
    """A new identifier that looks like Stripe's: `tr_1` and 24 hexadecimal digits."""
    return f"{prefix}_1{secrets.token_hex(12)}"


def reference(prefix: str) -> models.CharField[str, str]:
    """The identifier that callers see; the primary key is its order in time."""
    return models.CharField(max_length=64, unique=True, default=partial(mint, prefix))


def owner() -> models.ForeignKey[Account, Account]:
    """The account, by the identifier that callers see, so that no join is needed to show it."""
    return models.ForeignKey("stripe_sandbox.Account", models.PROTECT, to_field="reference", related_name="+")


def status_is_one_of(*words: str, name: str) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(status__in=words), name=name)


class Configuration(models.Model):
    """One row: the sandbox's own clock, and how slow, strict and unreliable it is."""

    clock_offset_seconds = models.BigIntegerField(default=0)
    latency_ms = models.PositiveIntegerField(default=0)
    reads_per_second = models.PositiveIntegerField(default=100)
    writes_per_second = models.PositiveIntegerField(default=100)
    topup_seconds = models.PositiveIntegerField(default=0)
    webhook_duplicates_ppm = models.PositiveIntegerField(default=0)
    webhook_shuffle_ms = models.PositiveIntegerField(default=0)
    webhook_retry_ms = models.PositiveIntegerField(default=500)
    webhook_paused = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="there_is_one_configuration"),
            models.CheckConstraint(condition=Q(clock_offset_seconds__gte=0), name="the_sandbox_clock_never_runs_back"),
        ]

    def __str__(self) -> str:
        return f"clock +{self.clock_offset_seconds} s, latency {self.latency_ms} ms"


class Account(models.Model):
    """The platform itself, or an account connected to it."""

    reference = reference("acct")
    is_platform = models.BooleanField(default=False)
    kind = models.CharField(max_length=8, default="none")
    controller = models.JSONField(default=dict)
    country = models.CharField(max_length=2)
    default_currency = models.CharField(max_length=3)
    email = models.CharField(max_length=5000, blank=True)
    business_type = models.CharField(max_length=20, blank=True)
    service_agreement = models.CharField(max_length=9, default="full")
    metadata = models.JSONField(default=dict)
    details_submitted = models.BooleanField(default=False)
    payouts_enabled = models.BooleanField(default=False)
    disabled_reason = models.CharField(max_length=60, blank=True)
    currently_due = models.JSONField(default=list)
    past_due = models.JSONField(default=list)
    eventually_due = models.JSONField(default=list)
    # Until then payouts go on although something is currently due.
    current_deadline = models.DateTimeField(null=True)
    # Asked for from a day to come, when it takes the place of the present requirements.
    future_due = models.JSONField(default=list)
    future_deadline = models.DateTimeField(null=True)
    pending_verification = models.JSONField(default=list)
    tos_accepted_at = models.DateTimeField(null=True)
    bank = models.JSONField(null=True)
    payout_schedule = models.JSONField(default=partial(dict, interval="daily"))
    next_payout_at = models.DateTimeField(null=True)
    minimum_balances = models.JSONField(default=dict)
    statement_descriptor = models.CharField(max_length=22, blank=True)
    debit_negative_balances = models.BooleanField(default=False)
    disconnected_at = models.DateTimeField(null=True)
    created = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["is_platform"], condition=Q(is_platform=True), name="there_is_one_platform"
            ),
        ]
        indexes = [
            models.Index(fields=["next_payout_at"], name="sandbox_payout_due"),
            models.Index(
                fields=["current_deadline", "future_deadline"],
                condition=Q(current_deadline__isnull=False) | Q(future_deadline__isnull=False),
                name="sandbox_requirement_due",
            ),
        ]

    def __str__(self) -> str:
        return self.reference


class Capability(models.Model):
    """An ability that a connected account asked for, and its state."""

    account = owner()
    name = models.CharField(max_length=60)
    requested = models.BooleanField(default=True)
    status = models.CharField(max_length=12, default="inactive")
    requested_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "name"], name="one_row_per_capability"),
            status_is_one_of("active", "inactive", "pending", "unrequested", name="a_capability_has_a_known_status"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.name} {self.status}"


class Balance(models.Model):
    """The money of an account in one currency. Every movement of its money locks this row first."""

    account = owner()
    currency = models.CharField(max_length=3)
    available = models.BigIntegerField(default=0)
    pending = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "currency"], name="one_balance_per_currency")]

    def __str__(self) -> str:
        return f"{self.account_id} {self.available} + {self.pending} {self.currency}"


class BalanceTransaction(models.Model):
    """One movement on one balance."""

    reference = reference("txn")
    account = owner()
    kind = models.CharField(max_length=40)
    amount = models.BigIntegerField()
    fee = models.BigIntegerField(default=0)
    currency = models.CharField(max_length=3)
    exchange_rate = models.FloatField(null=True)
    source = models.CharField(max_length=64)
    payout = models.CharField(max_length=64, blank=True)
    description = models.CharField(max_length=5000, blank=True)
    status = models.CharField(max_length=9, default="available")
    available_on = models.DateTimeField()
    created = models.DateTimeField()

    class Meta:
        constraints = [status_is_one_of("available", "pending", name="a_movement_is_available_or_pending")]
        indexes = [
            models.Index(fields=["source"], name="sandbox_movement_source"),
            models.Index(fields=["account", "-id"], name="sandbox_movement_account"),
            models.Index(fields=["available_on"], condition=Q(status="pending"), name="sandbox_movement_maturing"),
            models.Index(fields=["payout"], condition=~Q(payout=""), name="sandbox_movement_payout"),
        ]

    def __str__(self) -> str:
        return f"{self.reference} {self.kind} {self.amount} {self.currency}"


class Transfer(models.Model):
    """Money moved from the platform to a connected account. It has no status: it was made, or it was not."""

    reference = reference("tr")
    amount = models.BigIntegerField()
    amount_reversed = models.BigIntegerField(default=0)
    currency = models.CharField(max_length=3)
    destination = owner()
    destination_payment = models.CharField(max_length=64, unique=True, default=partial(mint, "py"))
    destination_amount = models.BigIntegerField()
    destination_currency = models.CharField(max_length=3)
    balance_transaction = models.CharField(max_length=64)
    destination_balance_transaction = models.CharField(max_length=64)
    transfer_group = models.CharField(max_length=5000, blank=True)
    source_type = models.CharField(max_length=12, default="card")
    description = models.CharField(max_length=5000, blank=True)
    metadata = models.JSONField(default=dict)
    created = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="transfer_amount_is_positive"),
            models.CheckConstraint(
                condition=Q(amount_reversed__gte=0) & Q(amount_reversed__lte=F("amount")),
                name="no_more_is_reversed_than_was_transferred",
            ),
        ]
        indexes = [
            models.Index(fields=["transfer_group"], name="sandbox_transfer_group"),
            models.Index(fields=["destination", "-id"], name="sandbox_transfer_destination"),
        ]

    def __str__(self) -> str:
        return self.reference


class Reversal(models.Model):
    """Money of a transfer taken back from its destination, in whole or in part."""

    reference = reference("trr")
    transfer = models.ForeignKey(Transfer, models.PROTECT, to_field="reference", related_name="reversals")
    amount = models.BigIntegerField()
    destination_amount = models.BigIntegerField()
    balance_transaction = models.CharField(max_length=64)
    destination_payment_refund = models.CharField(max_length=64, unique=True, default=partial(mint, "pyr"))
    destination_balance_transaction = models.CharField(max_length=64)
    metadata = models.JSONField(default=dict)
    created = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(amount__gt=0), name="sandbox_reversal_amount_is_positive")]

    def __str__(self) -> str:
        return self.reference


# pending -> in_transit -> paid -> failed (a bank returns money up to five days after it was shown as paid)
#    |            +-----------------^
#    +-> canceled (a manual payout only)
class Payout(models.Model):
    """Money on its way from an account's balance to its bank."""

    reference = reference("po")
    account = owner()
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    status = models.CharField(max_length=10, default="pending")
    automatic = models.BooleanField()
    method = models.CharField(max_length=8, default="standard")
    destination = models.CharField(max_length=64)
    balance_transaction = models.CharField(max_length=64)
    failure_balance_transaction = models.CharField(max_length=64, blank=True)
    failure_code = models.CharField(max_length=60, blank=True)
    # The code with which it will fail when it would have been paid; a fault switch puts it there.
    failure_due = models.CharField(max_length=60, blank=True)
    source_type = models.CharField(max_length=12, default="card")
    statement_descriptor = models.CharField(max_length=22, blank=True)
    description = models.CharField(max_length=5000, blank=True)
    metadata = models.JSONField(default=dict)
    reconciliation_status = models.CharField(max_length=14)
    trace = models.CharField(max_length=64, blank=True)
    next_step_at = models.DateTimeField(null=True)
    arrival_date = models.DateTimeField()
    created = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="sandbox_payout_amount_is_positive"),
            status_is_one_of(
                "pending", "in_transit", "paid", "failed", "canceled", name="a_sandbox_payout_has_a_known_status"
            ),
        ]
        indexes = [
            models.Index(fields=["next_step_at"], name="sandbox_payout_step"),
            models.Index(fields=["account", "-id"], name="sandbox_payout_account"),
        ]

    def __str__(self) -> str:
        return f"{self.reference} {self.status}"


class Topup(models.Model):
    """Money that the platform adds to its own balance from its bank."""

    reference = reference("tu")
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    status = models.CharField(max_length=9, default="pending")
    balance_transaction = models.CharField(max_length=64, blank=True)
    description = models.CharField(max_length=5000, blank=True)
    statement_descriptor = models.CharField(max_length=15, blank=True)
    transfer_group = models.CharField(max_length=5000, blank=True)
    metadata = models.JSONField(default=dict)
    available_on = models.DateTimeField()
    created = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(amount__gt=0), name="topup_amount_is_positive")]

    def __str__(self) -> str:
        return f"{self.reference} {self.status}"


class AccountLink(models.Model):
    """A page on which a person completes an account. It opens once, and not for long."""

    token = models.CharField(max_length=64, unique=True)
    account = owner()
    kind = models.CharField(max_length=20)
    return_url = models.CharField(max_length=5000)
    refresh_url = models.CharField(max_length=5000)
    # Handed out when the page is opened: the form answers to it, the link no longer opens.
    visit = models.CharField(max_length=64, blank=True)
    opened_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()
    created = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["visit"], name="sandbox_link_visit")]

    def __str__(self) -> str:
        return f"link for {self.account_id}"


class Event(models.Model):
    """A change of state, with the object as it was just after it."""

    reference = reference("evt")
    # Empty for an event of the platform itself.
    account = models.CharField(max_length=64, blank=True)
    kind = models.CharField(max_length=80)
    data = models.JSONField()
    request = models.CharField(max_length=64, blank=True)
    idempotency_key = models.CharField(max_length=255, blank=True)
    created = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["account", "-id"], name="sandbox_event_account")]

    def __str__(self) -> str:
        return f"{self.reference} {self.kind}"


class WebhookEndpoint(models.Model):
    """Destination of events: the platform's own, or (connect) those of connected accounts."""

    reference = reference("we")
    url = models.CharField(max_length=5000)
    secret = models.CharField(max_length=100)
    connect = models.BooleanField(default=False)
    enabled_events = models.JSONField()
    status = models.CharField(max_length=8, default="enabled")
    api_version = models.CharField(max_length=40, blank=True)
    description = models.CharField(max_length=5000, blank=True)
    metadata = models.JSONField(default=dict)
    created = models.DateTimeField()

    def __str__(self) -> str:
        return self.url


class Delivery(models.Model):
    """One event owed to one endpoint: written with the event, gone only when the endpoint has answered 2xx."""

    event = models.ForeignKey(Event, models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, models.CASCADE, related_name="deliveries")
    attempts = models.PositiveIntegerField(default=0)
    last_status = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["event", "endpoint"], name="one_delivery_per_endpoint")]
        indexes = [models.Index(fields=["next_try_at"], condition=Q(delivered_at=None), name="sandbox_delivery_due")]

    def __str__(self) -> str:
        return f"{self.event_id} -> {self.endpoint_id}"


class StoredAnswer(models.Model):
    """The answer under an idempotency key; the same key gets the same answer for 24 hours."""

    account = models.CharField(max_length=64)
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField()
    status = models.PositiveSmallIntegerField()
    body = models.TextField()
    created = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "key"], name="one_answer_per_idempotency_key")]
        indexes = [models.Index(fields=["created"], name="sandbox_answer_age")]

    def __str__(self) -> str:
        return f"{self.key}: {self.status}"


class Fault(models.Model):
    """A way in which a request goes wrong: once (a queue) or with a probability (a standing rule)."""

    method = models.CharField(max_length=6, blank=True)
    path = models.CharField(max_length=200)
    account = models.CharField(max_length=64, blank=True)
    kind = models.CharField(max_length=60)
    # Null: a one-shot fault, taken from the queue by the first request that it fits.
    probability_ppm = models.PositiveIntegerField(null=True)
    seconds = models.FloatField(default=1)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(probability_ppm=None) | Q(probability_ppm__lte=1_000_000),
                name="fault_probability_is_at_most_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} on {self.path}"
