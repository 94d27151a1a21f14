"""A service's webhook endpoints for staff: their state, every attempt, and a button that sends a message again."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from attribution.console.model_services import READERS
from attribution.models import ModelService
from people.console.guard import staff_required, user_of
from people.models import WebhookDelivery, WebhookEndpoint
from people.operations import webhooks as operations
from people.queries.webhooks import deliveries_of, endpoints_of

DELIVERIES_SHOWN = 20
CHANGERS = ("admin", "model_team")


@staff_required(*READERS)
@require_safe
def webhooks(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The endpoints of one service with their last deliveries."""
    service = get_object_or_404(ModelService, public_id=public_id)
    context = {
        "service": service,
        "endpoints": [
            (endpoint, deliveries_of(endpoint)[:DELIVERIES_SHOWN]) for endpoint in endpoints_of(f"service:{service.pk}")
        ],
        "may_change": user_of(request).has_role(*CHANGERS),
    }
    return render(request, "attribution/console/service_webhooks.html", context)


@staff_required(*CHANGERS)
@require_POST
def resume(request: HttpRequest, public_id: uuid.UUID, endpoint_id: uuid.UUID) -> HttpResponse:
    service, endpoint = _found(public_id, endpoint_id)
    operations.resume_endpoint(endpoint=endpoint, by=user_of(request), at=timezone.now())
    messages.success(request, f"New messages go to {endpoint.url} again.")
    return redirect("attribution:webhooks", service.public_id)


@staff_required(*CHANGERS)
@require_POST
def replay(request: HttpRequest, public_id: uuid.UUID, delivery_id: uuid.UUID) -> HttpResponse:
    service = get_object_or_404(ModelService, public_id=public_id)
    delivery = get_object_or_404(
        WebhookDelivery, public_id=delivery_id, endpoint__owner=f"service:{service.pk}", endpoint__removed_at=None
    )
    try:
        operations.replay(delivery=delivery, by=user_of(request), at=timezone.now())
    except operations.UnableToReplay as reason:
        messages.error(request, str(reason))
    else:
        messages.success(request, "The message is sent again within seconds.")
    return redirect("attribution:webhooks", service.public_id)


def _found(public_id: uuid.UUID, endpoint_id: uuid.UUID) -> tuple[ModelService, WebhookEndpoint]:
    service = get_object_or_404(ModelService, public_id=public_id)
    endpoint = get_object_or_404(WebhookEndpoint, public_id=endpoint_id, owner=f"service:{service.pk}", removed_at=None)
    return service, endpoint
