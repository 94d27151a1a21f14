"""Webhook endpoints of an owner, and the messages to them: written in the transaction of the event."""

from __future__ import annotations

import base64
import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from people import sealing
from people.actor import logged
from people.models import User, WebhookDelivery, WebhookEndpoint, WebhookMessage

ENDPOINTS_MAX = 10
# An endpoint with more messages that wait is stopped: nothing grows without a limit, and its owner is told why.
WAITING_MAX = 100_000
OLD_SECRET_GOES_ON = timedelta(days=1)
KEPT_FOR = timedelta(days=30)
EVERY_SERVICE = "service:*"


class UnableToRegisterEndpoint(Exception):
    """The address or the events are not valid, or the owner has too many endpoints."""

    status = 422
    problem = "webhook-endpoint-invalid"


class UnableToReplay(Exception):
    """The endpoint is stopped or removed, or the delivery waits already."""

    status = 409
    problem = "webhook-not-replayable"


# --- endpoints ------------------------------------------------------------------------------------------------------
def register_endpoint(*, owner: str, url: str, events: Collection[str], at: datetime) -> tuple[WebhookEndpoint, str]:
    """Register an address; returns the endpoint and its signing secret (`whsec_...`), which no later call shows.

    Raises UnableToRegisterEndpoint.
    """
    allowed = WebhookEndpoint.FOR_SERVICES if owner.startswith("service:") else WebhookEndpoint.FOR_CONTRIBUTORS
    if unknown := sorted(set(events) - set(allowed)):
        raise UnableToRegisterEndpoint(f"There is no event {unknown[0]}; there are {', '.join(allowed)}.")
    if not events:
        raise UnableToRegisterEndpoint(f"Name at least one event of {', '.join(allowed)}.")
    url = checked_url(url)
    text, sealed = _new_secret()
    mine = WebhookEndpoint.objects.filter(owner=owner, removed_at__isnull=True)
    if mine.count() >= ENDPOINTS_MAX:
        raise UnableToRegisterEndpoint(f"There are {ENDPOINTS_MAX} endpoints already; remove one first.")
    try:
        with transaction.atomic():
            endpoint = WebhookEndpoint.objects.create(
                owner=owner, url=url, events=sorted(set(events)), secret=sealed, created_at=at
            )
    except IntegrityError as error:
        raise UnableToRegisterEndpoint(f"{url} is registered already; remove it first to change it.") from error
    return endpoint, text


def checked_url(url: str) -> str:
    """Return the address if a message may go to it. Its host is resolved and checked again at each delivery.

    Raises UnableToRegisterEndpoint.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UnableToRegisterEndpoint(f"{url} is not an address: {error}.") from error
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.WEBHOOKS_TO_PRIVATE):
        raise UnableToRegisterEndpoint("The address has to begin with https://.")
    if not parts.hostname or parts.username or parts.password or parts.fragment or port == 0:
        raise UnableToRegisterEndpoint("The address needs a host, and takes neither a user name nor a fragment.")
    if len(url) > 500 or not url.isascii() or not url.isprintable() or " " in url:
        raise UnableToRegisterEndpoint("The address may have at most 500 printable ASCII characters and no space.")
    return url


def remove_endpoint(*, endpoint: WebhookEndpoint, at: datetime) -> None:
    """Remove it; messages that wait for it are given up. Repeatable."""
    with transaction.atomic():
        WebhookEndpoint.objects.filter(pk=endpoint.pk, removed_at__isnull=True).update(removed_at=at)
        _give_up(endpoint, at)


def stop_endpoint(*, endpoint: WebhookEndpoint, because: str, at: datetime) -> None:
    """Send nothing more to it until it is resumed. Waiting messages are kept as failed, so that a replay finds them."""
    with transaction.atomic():
        WebhookEndpoint.objects.filter(pk=endpoint.pk, stopped_at__isnull=True).update(
            stopped_at=at, stopped_because=because[:200]
        )
        _give_up(endpoint, at)


@logged("webhook_endpoint", "url", key="public_id")
def resume_endpoint(*, endpoint: WebhookEndpoint, at: datetime, by: User | None = None) -> WebhookEndpoint:
    """Send new messages to it again. Failed ones are sent by a replay of each."""
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(stopped_at=None, stopped_because="")
    endpoint.refresh_from_db()
    return endpoint


def rotate_secret(*, endpoint: WebhookEndpoint, at: datetime) -> str:
    """Give it a new secret and return it. The old one signs beside it for a day."""
    text, sealed = _new_secret()
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(
        secret=sealed, old_secret=bytes(endpoint.secret), old_secret_ends=at + OLD_SECRET_GOES_ON
    )
    return text


def _new_secret() -> tuple[str, bytes]:
    # Standard Webhooks: 24 to 64 random bytes, in base64 behind `whsec_`.
    text = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    return text, sealing.seal(text.encode())


def _give_up(endpoint: WebhookEndpoint, at: datetime) -> None:
    endpoint.deliveries.filter(state=WebhookDelivery.State.PENDING).update(
        state=WebhookDelivery.State.FAILED, settled_at=at
    )


# --- messages -------------------------------------------------------------------------------------------------------
def emit(*, event: str, owners: Sequence[str], data: Mapping[str, Any], at: datetime) -> int:
    """Write one message to every endpoint of the owners that wants the event; returns the number of deliveries.

    `service:*` stands for every service. The rows are written in the caller's transaction: no event is told that did
    not happen, and none is lost. Without an endpoint no row is written.
    """
    wanted = Q(owner__in=owners)
    if EVERY_SERVICE in owners:
        wanted |= Q(owner__startswith="service:")
    found = _wanting(event).filter(wanted)
    return _write(event, [(data, list(found))], at)


def emit_each(*, event: str, of: Mapping[str, Mapping[str, Any]], at: datetime) -> int:
    """Write each owner its own message: `of` maps owners to data. One query where nobody listens."""
    listening: dict[str, list[WebhookEndpoint]] = defaultdict(list)
    for endpoint in _wanting(event).filter(owner__in=list(of)):
        listening[endpoint.owner].append(endpoint)
    return _write(event, [(of[owner], endpoints) for owner, endpoints in listening.items()], at)


def _wanting(event: str) -> QuerySet[WebhookEndpoint]:
    return WebhookEndpoint.objects.filter(events__contains=[event], stopped_at=None, removed_at=None)


def _write(event: str, parts: Sequence[tuple[Mapping[str, Any], list[WebhookEndpoint]]], at: datetime) -> int:
    written = 0
    for data, endpoints in parts:
        told = [endpoint for endpoint in endpoints if not _is_full(endpoint, at)]
        if not told:
            continue
        body = orjson.dumps({"type": event, "timestamp": at.isoformat(), "data": data}).decode()
        with transaction.atomic():
            message = WebhookMessage.objects.create(event=event, body=body, created_at=at)
            WebhookDelivery.objects.bulk_create(
                WebhookDelivery(endpoint=endpoint, message=message, next_at=at) for endpoint in told
            )
        written += len(told)
    return written


def _is_full(endpoint: WebhookEndpoint, at: datetime) -> bool:
    waiting = endpoint.deliveries.filter(state=WebhookDelivery.State.PENDING)[: WAITING_MAX + 1].count()
    if waiting <= WAITING_MAX:
        return False
    stop_endpoint(endpoint=endpoint, because=f"More than {WAITING_MAX:,} messages waited for it.", at=at)
    return True


@logged("webhook_endpoint", "public_id", "state", key="endpoint.public_id")
def replay(*, delivery: WebhookDelivery, at: datetime, by: User | None = None) -> WebhookDelivery:
    """Send a message again, with the same id and body. Raises UnableToReplay."""
    with transaction.atomic():
        fresh = WebhookDelivery.objects.select_for_update(no_key=True).select_related("endpoint").get(pk=delivery.pk)
        if not fresh.endpoint.is_active:
            raise UnableToReplay("The endpoint is stopped or removed; resume it first.")
        if fresh.state == WebhookDelivery.State.PENDING:
            raise UnableToReplay(f"The message waits already; it is sent at {fresh.next_at:%H:%M:%S} UTC.")
        fresh.state, fresh.tries, fresh.next_at, fresh.settled_at = WebhookDelivery.State.PENDING, 0, at, None
        fresh.save(update_fields=["state", "tries", "next_at", "settled_at"])
    return fresh


def forget_old_messages(*, at: datetime, limit: int = 5_000) -> int:
    """Delete up to `limit` messages of KEPT_FOR ago that no endpoint waits for; returns their number."""
    old = WebhookMessage.objects.filter(created_at__lt=at - KEPT_FOR).exclude(deliveries__state="pending")
    gone, _ = WebhookMessage.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()
    return gone
