"""Limits that services set for their charges of a month, and the alerts on the way to them."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q


class SpendLimit(models.Model):
    """The limit of one service and currency. It moves no money."""

    class AtLimit(models.TextChoices):
        ALERT = "alert", "Alert only"
        REFUSE = "refuse", "Refuse new reports until the next month"

    service = models.ForeignKey(
        "attribution.ModelService", on_delete=models.PROTECT, related_name="spend_limits", db_index=False
    )
    currency = models.CharField(max_length=3)
    # In units of the currency.
    amount = models.BigIntegerField()
    # Per cent of the limit, ascending, with 100.
    thresholds = ArrayField(models.SmallIntegerField())
    at_limit = models.CharField(max_length=6, choices=AtLimit.choices, default=AtLimit.ALERT)
    # Addresses of the service's people, without an account here.
    contacts = ArrayField(models.EmailField(max_length=254), default=list)
    set_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service", "currency"], name="a_service_has_one_limit_a_currency"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="a_limit_is_positive"),
            models.CheckConstraint(condition=Q(thresholds__len__gt=0), name="a_limit_has_a_threshold"),
        ]

    def __str__(self) -> str:
        return f"{self.service} {self.currency}"


class MonthSpent(models.Model):
    """The charges of a service dated in a month, added up to an entry of the journal."""

    service = models.ForeignKey("attribution.ModelService", on_delete=models.PROTECT, related_name="+", db_index=False)
    currency = models.CharField(max_length=3)
    month = models.DateField()
    spent = models.BigIntegerField(default=0)
    # Lines of later entries are not in it yet.
    entry_id = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service", "currency", "month"], name="a_month_is_added_up_once"),
        ]

    def __str__(self) -> str:
        return f"{self.service} {self.currency} {self.month:%Y-%m}"


class SpendAlert(models.Model):
    """A threshold that was reached in a month: told once, by mail and webhook."""

    service = models.ForeignKey("attribution.ModelService", on_delete=models.PROTECT, related_name="+", db_index=False)
    currency = models.CharField(max_length=3)
    month = models.DateField()
    percent = models.SmallIntegerField()
    amount = models.BigIntegerField()
    spent = models.BigIntegerField()
    at_limit = models.CharField(max_length=6, choices=SpendLimit.AtLimit.choices)
    contacts = ArrayField(models.EmailField(max_length=254), default=list)
    at = models.DateTimeField()
    # When the mail is tried next; null once it went out or was given up.
    next_at = models.DateTimeField(null=True)
    tries = models.SmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [models.Index(fields=["next_at"], condition=Q(next_at__isnull=False), name="spend_alert_to_mail")]
        constraints = [
            models.UniqueConstraint(
                fields=["service", "currency", "month", "percent"], name="a_threshold_is_told_once_a_month"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.service} {self.currency} {self.month:%Y-%m}: {self.percent} %"
