"""Model services and their keys."""

from __future__ import annotations

from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from people.models import uuid7


class ModelService(models.Model):
    """An API caller that runs models and reports their generations."""

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    name = models.CharField(max_length=100, unique=True)
    active = models.BooleanField(default=True)
    # Whether receipts may show its pictures, small, to the contributors with works that shaped them.
    shows_outputs = models.BooleanField(default=False)
    # Days from the report after which prompts, outputs and media are deleted. Null: they are kept.
    text_retention_days = models.IntegerField(null=True, blank=True, default=365)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(text_retention_days__isnull=True) | Q(text_retention_days__gt=0),
                name="texts_are_kept_for_a_day_at_least",
            )
        ]

    def __str__(self) -> str:
        return self.name


class ReportStop(models.Model):
    """New reports of a service in one currency are refused until a moment, with these words and facts.

    A floor above writes and lifts it, such as the limit of a month's spending.
    """

    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="report_stops", db_index=False)
    currency = models.CharField(max_length=3)
    until = models.DateTimeField()
    problem = models.CharField(max_length=40)
    detail = models.CharField(max_length=500)
    facts = models.JSONField(default=dict)
    began_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service", "currency"], name="a_service_is_stopped_once_a_currency"),
            models.CheckConstraint(condition=~Q(detail=""), name="a_stop_says_why"),
        ]

    def __str__(self) -> str:
        return f"{self.service}: no reports in {self.currency} until {self.until:%Y-%m-%d}"


class ServiceKeyQuerySet(models.QuerySet["ServiceKey"]):
    def in_force(self, at: datetime) -> ServiceKeyQuerySet:
        """Keys that prove something at `at`."""
        not_ended = Q(expires_at__isnull=True) | Q(expires_at__gt=at)
        not_revoked = Q(revoked_at__isnull=True) | Q(revoked_at__gt=at)
        return self.filter(not_ended, not_revoked)


class ServiceKey(models.Model):
    """A service's credential. Shown once; only its digest is stored, and that never changes (trigger)."""

    class Scope(models.TextChoices):
        GENERATIONS_WRITE = "generations:write"
        GENERATIONS_READ = "generations:read"
        MODELS_WRITE = "models:write"
        FEATURES_WRITE = "features:write"
        WEBHOOKS_WRITE = "webhooks:write"
        USAGE_READ = "usage:read"
        WORKS_READ = "works:read"
        WORKS_WRITE = "works:write"
        LIMITS_WRITE = "limits:write"

    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="keys")
    prefix = models.CharField(max_length=16, unique=True)
    digest = models.BinaryField(max_length=32)
    scopes = ArrayField(models.CharField(max_length=24, choices=Scope.choices))
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    # The key that this one took over from when it was rotated.
    replaces = models.OneToOneField("self", on_delete=models.PROTECT, null=True, blank=True, related_name="replaced_by")
    issued_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")

    objects = ServiceKeyQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(scopes__len__gt=0), name="service_key_has_a_scope"),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gte=F("created_at")),
                name="service_key_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return self.prefix

    def in_force(self, at: datetime) -> bool:
        return not (self.expires_at and self.expires_at <= at) and not (self.revoked_at and self.revoked_at <= at)
