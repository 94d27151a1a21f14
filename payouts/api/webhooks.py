"""The two webhook endpoints that Stripe calls. Verify, store once, answer; nothing else happens in the request."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import structlog
from celery import current_app
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.http.request import RawPostDataException
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from prometheus_client import Counter

from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import WebhookEvent
from payouts.rails.stripe import webhooks
from payouts.reconciliation import inbox
from people.address import client_address

log = structlog.get_logger(__name__)

RECEIVED = Counter("tributary_webhooks_received", "Webhook deliveries by endpoint and answer", ["endpoint", "answer"])
IGNORED = Counter("tributary_webhooks_ignored", "Signed events that were not stored", ["endpoint", "reason"])
# Never the signature itself: these headers help to find a delivery in Stripe's log.
KEPT_HEADERS = ("User-Agent", "Stripe-Webhook-Id", "Content-Type")


@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Events of the platform's own account."""
    return _receive(request, WebhookEvent.Endpoint.PLATFORM, settings.STRIPE_WEBHOOK_SECRETS)


@csrf_exempt
@require_POST
def stripe_connect_webhook(request: HttpRequest) -> HttpResponse:
    """Events of connected accounts."""
    return _receive(request, WebhookEvent.Endpoint.CONNECT, settings.STRIPE_CONNECT_WEBHOOK_SECRETS)


def _receive(request: HttpRequest, endpoint: WebhookEvent.Endpoint, secrets: Sequence[str]) -> HttpResponse:
    body = _body(request)
    if body is None:
        return _answer(endpoint, 413, "The body is larger than 256 KiB.")
    try:
        event = webhooks.verify_webhook(body, request.headers.get("Stripe-Signature", ""), secrets)
        if reason := inbox.why_ignored(event):
            # Anything but 2xx would make Stripe switch the endpoint off after some days.
            inbox.count_ignored(endpoint=endpoint, reason=reason, event=event, at=timezone.now())
            IGNORED.labels(endpoint=str(endpoint), reason=reason).inc()
            return _answer(endpoint, 200, f"ignored: {reason.label}")
        stored = inbox.record_webhook(
            endpoint=endpoint,
            event=event,
            payload=body.decode(),
            headers={name: request.headers[name][:200] for name in KEPT_HEADERS if name in request.headers},
            at=timezone.now(),
        )
    except (webhooks.UnableToVerify, inbox.UnableToRecordWebhook) as error:
        if _too_many_refused(request):
            return _answer(endpoint, 429, "Too many deliveries with a wrong signature.")
        log.warning("webhook_refused", endpoint=str(endpoint), error=str(error))
        return _answer(endpoint, 400, str(error))
    crashpoint(CrashPoint.WEBHOOK_STORED)
    if stored is not None:
        # Only a hint; the sweep applies the events that no message reached.
        with contextlib.suppress(Exception):
            current_app.send_task("payouts.tasks.apply_webhook", args=[stored], queue="payouts", retry=False)
    return _answer(endpoint, 200, "stored" if stored is not None else "known")


REFUSED_PER_MINUTE_MAX = 60


def _too_many_refused(request: HttpRequest) -> bool:
    """Count one more refused delivery of this address. A rightly signed delivery is never counted and always taken.
    Otherwise an attacker behind the same proxy could shut Stripe out."""
    key = f"webhook-refused:{client_address(request) or ''}:{int(timezone.now().timestamp()) // 60}"
    with contextlib.suppress(Exception):
        cache.add(key, 0, timeout=120)
        return int(cache.incr(key)) > REFUSED_PER_MINUTE_MAX
    return False


def _body(request: HttpRequest) -> bytes | None:
    """The raw body, or None when it is too large; never more than the limit is read."""
    limit = settings.WEBHOOK_BYTES_MAX
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > limit:
        return None
    try:
        body = request.read(limit + 1)
    except RawPostDataException:
        body = request.body
    return body if len(body) <= limit else None


def _answer(endpoint: WebhookEvent.Endpoint, status: int, text: str) -> HttpResponse:
    RECEIVED.labels(endpoint=str(endpoint), answer=str(status)).inc()
    return HttpResponse(text, status=status, content_type="text/plain")
