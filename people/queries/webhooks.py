"""Reads of an owner's webhook endpoints, for the API and the pages."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Count, Prefetch, Q, QuerySet

from people.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint


def endpoints_of(owner: str) -> QuerySet[WebhookEndpoint]:
    """The owner's endpoints, the newest first, with `waiting` and `failed`, the numbers of such deliveries."""
    return (
        WebhookEndpoint.objects.filter(owner=owner, removed_at__isnull=True)
        .annotate(
            waiting=Count("deliveries", filter=Q(deliveries__state="pending")),
            failed=Count("deliveries", filter=Q(deliveries__state="failed")),
        )
        .order_by("-id")
    )


def endpoint_of(owner: str, public_id: UUID) -> WebhookEndpoint | None:
    return endpoints_of(owner).filter(public_id=public_id).first()


def deliveries_of(endpoint: WebhookEndpoint, *, before: int | None = None) -> QuerySet[WebhookDelivery]:
    """Its deliveries, the newest first, each with its message and its attempts; `before` is the id to go on from."""
    rows = WebhookDelivery.objects.filter(endpoint=endpoint).select_related("message").order_by("-id")
    attempts = Prefetch("attempts", WebhookAttempt.objects.order_by("id"))
    return (rows.filter(id__lt=before) if before is not None else rows).prefetch_related(attempts)
