"""Reads of differences, reconciliations and webhook events."""

from __future__ import annotations

from django.db.models import QuerySet

from payouts.models import Difference, PayoutRun, Reconciliation, WebhookEvent


def open_differences(run: PayoutRun | None = None) -> QuerySet[Difference]:
    found = Difference.objects.filter(state=Difference.State.OPEN).select_related("run", "payout")
    return (found.filter(run=run) if run is not None else found).order_by("found_at", "pk")


def latest_reconciliation(currency: str | None = None) -> Reconciliation | None:
    found = Reconciliation.objects.order_by("-finished_at", "-pk")
    return (found.filter(currency=currency) if currency else found).first()


def dead_webhooks() -> QuerySet[WebhookEvent]:
    return WebhookEvent.objects.filter(state=WebhookEvent.State.DEAD).order_by("-received_at")
