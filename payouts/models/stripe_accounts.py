"""Accounts at Stripe: the tries to set one up, and those that ended."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class SetUpAttempt(models.Model):
    """One try to open an account at Stripe, with its key and its parameters, written down before it is sent.

    The same attempt always sends the same bytes. After a failure that Stripe stored, the next try is another attempt
    with another key. Append-only but for its result.
    """

    account = models.ForeignKey("payouts.PayoutAccount", on_delete=models.PROTECT, related_name="set_ups")
    number = models.IntegerField()
    idempotency_key = models.CharField(max_length=120, unique=True)
    # Of create_account (rails/stripe/calls.py), without the key.
    parameters = models.JSONField()
    provider_account_id = models.CharField(max_length=64, null=True, blank=True, unique=True)
    failed_at = models.DateTimeField(null=True, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    requested_by = models.ForeignKey("people.User", on_delete=models.PROTECT, related_name="+")
    first_sent_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "number"], name="an_account_numbers_a_set_up_once"),
            models.UniqueConstraint(
                fields=["account"],
                condition=Q(provider_account_id__isnull=True, failed_at__isnull=True),
                name="one_open_set_up",
            ),
            models.CheckConstraint(
                condition=Q(provider_account_id__isnull=True) | Q(failed_at__isnull=True),
                name="a_set_up_has_one_result",
            ),
        ]

    def __str__(self) -> str:
        return self.idempotency_key


class EndedAccount(models.Model):
    """An account at Stripe that a contributor had and that is never paid again. Append-only.

    Past payouts keep its id as their destination, and events about it still find the contributor.
    """

    class Why(models.TextChoices):
        DISCONNECTED = "disconnected", "It was closed or disconnected"
        REJECTED = "rejected", "Stripe rejected it"
        COUNTRY_CHANGED = "country_changed", "The contributor's country changed"
        KIND_CHANGED = "kind_changed", "The contributor became a person or an organisation"
        BY_STAFF = "by_staff", "Finance opened a new one"

    account = models.ForeignKey("payouts.PayoutAccount", on_delete=models.PROTECT, related_name="ended")
    provider_account_id = models.CharField(max_length=64, unique=True)
    country = models.CharField(max_length=2)
    why = models.CharField(max_length=15, choices=Why.choices)
    note = models.CharField(max_length=500, blank=True)
    ended_by = models.ForeignKey("people.User", on_delete=models.PROTECT, related_name="+")
    ended_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(provider_account_id=""), name="an_ended_account_has_an_id"),
        ]

    def __str__(self) -> str:
        return self.provider_account_id
