"""Webhooks to services and contributors: endpoints, messages, deliveries and their attempts.

A delivery's row is the queue: a worker claims it by moving `next_at` on, so that a dead worker's row comes again.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from people.models.users import uuid7


class WebhookEndpoint(models.Model):
    """An address that an owner, such as `service:7` or `contributor:3`, wants to be told at."""

    class Event(models.TextChoices):
        RECEIPTS_ACCRUED = "receipts.accrued", "Receipts were accrued"
        GENERATIONS_UNATTRIBUTABLE = "generations.unattributable", "Generations cannot be attributed"
        INDEX_EVALUATED = "index.evaluated", "An index was evaluated"
        CONSENT_CHANGED = "consent.changed", "A consent was given or withdrawn"
        WORK_WITHDRAWN = "work.withdrawn", "A work left the training data"
        LIMIT_THRESHOLD = "limit.threshold", "A threshold of the month's charges was reached"
        STATEMENT_READY = "statement.ready", "A statement is final"
        PAYOUT_SENT = "payout.sent", "A payout was sent"

    # Events for each kind of owner: no service reads of a contributor's money.
    FOR_SERVICES: ClassVar[tuple[str, ...]] = (
        "receipts.accrued",
        "generations.unattributable",
        "index.evaluated",
        "consent.changed",
        "work.withdrawn",
        "limit.threshold",
    )
    FOR_CONTRIBUTORS: ClassVar[tuple[str, ...]] = (
        "consent.changed",
        "work.withdrawn",
        "statement.ready",
        "payout.sent",
    )

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    owner = models.CharField(max_length=60)
    url = models.URLField(max_length=500)
    events = ArrayField(models.CharField(max_length=40, choices=Event.choices))
    # Sealed (people/sealing.py). After a rotation messages carry both signatures until `old_secret_ends`.
    secret = models.BinaryField()
    old_secret = models.BinaryField(null=True, blank=True)
    old_secret_ends = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    # Empty while it is active.
    stopped_because = models.CharField(max_length=200, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["owner"], condition=Q(removed_at__isnull=True), name="webhook_endpoints_of")]
        constraints = [
            models.CheckConstraint(condition=Q(events__len__gt=0), name="webhook_endpoint_wants_an_event"),
            models.CheckConstraint(
                condition=Q(stopped_at__isnull=True, stopped_because="")
                | Q(stopped_at__isnull=False) & ~Q(stopped_because=""),
                name="webhook_endpoint_stops_for_a_reason",
            ),
            models.UniqueConstraint(
                fields=["owner", "url"], condition=Q(removed_at__isnull=True), name="an_owner_names_a_url_once"
            ),
        ]

    def __str__(self) -> str:
        return self.url

    @property
    def is_active(self) -> bool:
        return self.stopped_at is None and self.removed_at is None


class WebhookMessage(models.Model):
    """One event as it is told: the exact body that is signed. Append-only while a delivery names it."""

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    event = models.CharField(max_length=40, choices=WebhookEndpoint.Event.choices)
    body = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["created_at"], name="webhook_messages_by_age")]

    def __str__(self) -> str:
        return f"{self.event} {self.public_id}"


class WebhookDelivery(models.Model):
    """A message on its way to one endpoint."""

    # pending: it is tried at `next_at`. delivered: the endpoint took it. failed: no try is left, until a replay.
    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "pending": {"delivered", "failed"},
        "delivered": {"pending"},
        "failed": {"pending"},
    }
    BEGINS: ClassVar[set[str]] = {"pending"}

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.PROTECT, related_name="deliveries")
    message = models.ForeignKey(WebhookMessage, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    tries = models.IntegerField(default=0)
    next_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["next_at"], condition=Q(state="pending"), name="webhook_deliveries_due"),
            models.Index(fields=["endpoint", "-id"], name="webhook_deliveries_of"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "message"], name="an_endpoint_is_told_a_message_once")
        ]

    def __str__(self) -> str:
        return f"{self.message} to {self.endpoint}"

    @property
    def last_attempt(self) -> WebhookAttempt | None:
        """The last try, from the attempts that a query has read."""
        tries = list(self.attempts.all())
        return tries[-1] if tries else None


class WebhookAttempt(models.Model):
    """One try: the HTTP status or the error, and its milliseconds. Append-only."""

    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="attempts")
    at = models.DateTimeField()
    status = models.IntegerField(null=True, blank=True)
    milliseconds = models.IntegerField()
    # The first characters of the answer, or the error.
    answer = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"{self.delivery} at {self.at:%Y-%m-%d %H:%M:%S}: {self.status or self.answer}"
