"""Events and webhook endpoints: each change of state is written down together with the change itself.

The event and its deliveries to each endpoint are committed with the change, so neither can exist without the other;
`delivery` sends them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from stripe_sandbox import configuration, refusals
from stripe_sandbox.lists import page, unix
from stripe_sandbox.models import Account, Delivery, Event, WebhookEndpoint, mint
from stripe_sandbox.refusals import UnableToServe

API_VERSION = "2026-10-28.endive"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
EVENTS_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class Call:
    """One accepted request: its key, account, parameters and time."""

    key: str
    account: Account
    params: dict[str, Any]
    args: Mapping[str, str]
    at: datetime
    request_id: str
    idempotency_key: str
    base_url: str


# One statement: the event, and a delivery to each endpoint that wants it.
_EMIT = """
WITH event AS (
  INSERT INTO stripe_sandbox_event (reference, account, kind, data, request, idempotency_key, created)
  VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id
)
INSERT INTO stripe_sandbox_delivery (event_id, endpoint_id, attempts, last_status, next_try_at)
SELECT event.id, endpoint.id, 0, 0, clock_timestamp() + random() * %s * interval '1 ms'
FROM event, stripe_sandbox_webhookendpoint endpoint
WHERE status = 'enabled' AND connect = %s AND jsonb_exists_any(enabled_events, ARRAY[%s, '*'])
"""


def emit(
    kind: str,
    shown: Mapping[str, Any],
    *,
    at: datetime,
    account: Account | None = None,
    previous: Mapping[str, Any] | None = None,
    call: Call | None = None,
) -> None:
    """Write an event down and owe it to every endpoint that wants it. Runs inside the transaction of the change."""
    assert connection.in_atomic_block, "an event is written with the change that it tells of"
    of_connected = account is not None and not account.is_platform
    data = {"object": shown} if previous is None else {"object": shown, "previous_attributes": previous}
    with connection.cursor() as cursor:
        cursor.execute(_EMIT, [
            mint("evt"), account.reference if account is not None and of_connected else "", kind, json.dumps(data),
            call.request_id if call else "", call.idempotency_key if call else "", at,
            configuration.current().webhook_shuffle_ms, of_connected, kind,
        ])  # fmt: skip
        if cursor.rowcount:
            transaction.on_commit(wake)


def wake() -> None:
    """Tell the delivery that something is owed. It would find out by itself, a moment later."""
    from stripe_sandbox import delivery

    delivery.WORK.set()


def event_json(event: Event) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": event.reference,
        "object": "event",
        "api_version": API_VERSION,
        "created": unix(event.created),
        "data": event.data,
        "livemode": False,
        "pending_webhooks": Delivery.objects.filter(event=event, delivered_at=None).count(),
        "request": {"id": event.request or None, "idempotency_key": event.idempotency_key or None},
        "type": event.kind,
    }
    return shown | ({"account": event.account} if event.account else {})


def payload(event: Event) -> str:
    """The body that is signed and sent."""
    return json.dumps(event_json(event), indent=2)


def _events_of(call: Call) -> QuerySet[Event]:
    mine = "" if call.account.is_platform else call.account.reference
    return Event.objects.filter(account=mine, created__gte=call.at - EVENTS_KEPT)


def list_events(call: Call) -> dict[str, Any]:
    events, params = _events_of(call), call.params
    if "type" in params:
        wanted = str(params["type"])
        events = events.filter(kind__startswith=wanted[:-1]) if wanted.endswith("*") else events.filter(kind=wanted)
    if "types" in params:
        events = events.filter(kind__in=params["types"])
    if "delivery_success" in params:
        owed = Exists(Delivery.objects.filter(event=OuterRef("pk"), delivered_at=None))
        events = events.filter(~owed) if params["delivery_success"] else events.filter(owed)
    return page(events, params, event_json, "/v1/events")


def get_event(call: Call) -> dict[str, Any]:
    event = _events_of(call).filter(reference=call.args["id"]).first()
    if event is None:
        raise refusals.no_such("event", call.args["id"])
    return event_json(event)


def endpoint_json(endpoint: WebhookEndpoint, *, with_secret: bool = False) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": endpoint.reference,
        "object": "webhook_endpoint",
        "api_version": endpoint.api_version or None,
        "application": None,
        "created": unix(endpoint.created),
        "description": endpoint.description or None,
        "enabled_events": endpoint.enabled_events,
        "livemode": False,
        "metadata": endpoint.metadata,
        "status": endpoint.status,
        "url": endpoint.url,
    }
    return shown | ({"secret": endpoint.secret} if with_secret else {})


def _loopback_only(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.hostname not in LOOPBACK:
        raise UnableToServe("Invalid URL: the sandbox sends webhooks to this machine only (127.0.0.1).", param="url")
    return url


def create_endpoint(call: Call) -> dict[str, Any]:
    """A new endpoint; its secret is shown in this answer and never again."""
    params = call.params
    endpoint = WebhookEndpoint.objects.create(
        url=_loopback_only(params["url"]),
        secret=f"whsec_{secrets.token_hex(16)}",
        connect=params.get("connect", False),
        enabled_events=params["enabled_events"],
        api_version=params.get("api_version", ""),
        description=params.get("description", ""),
        metadata=params.get("metadata") or {},
        created=call.at,
    )
    return endpoint_json(endpoint, with_secret=True)


def ensure_endpoint(*, url: str, connect: bool, secret: str, at: datetime) -> WebhookEndpoint:
    """The endpoint at `url` with a secret that the receiver already knows; for the command that starts the sandbox."""
    _loopback_only(url)
    WebhookEndpoint.objects.filter(connect=connect).exclude(url=url).filter(metadata__has_key="command").delete()
    values = {"secret": secret or f"whsec_{secrets.token_hex(16)}", "enabled_events": ["*"], "status": "enabled"}
    endpoint, _ = WebhookEndpoint.objects.update_or_create(
        url=url,
        connect=connect,
        defaults=values,
        create_defaults={**values, "created": at, "reference": mint("we"), "metadata": {"command": "sandbox"}},
    )
    return endpoint


def _endpoint(call: Call) -> WebhookEndpoint:
    reference = call.args["webhook_endpoint"]
    found = WebhookEndpoint.objects.filter(reference=reference).first()
    if found is None:
        raise refusals.no_such("webhook endpoint", reference)
    return found


def get_endpoint(call: Call) -> dict[str, Any]:
    return endpoint_json(_endpoint(call))


def list_endpoints(call: Call) -> dict[str, Any]:
    return page(WebhookEndpoint.objects.all(), call.params, endpoint_json, "/v1/webhook_endpoints")


def update_endpoint(call: Call) -> dict[str, Any]:
    endpoint, params = _endpoint(call), call.params
    if "url" in params:
        endpoint.url = _loopback_only(params["url"])
    if "enabled_events" in params:
        endpoint.enabled_events = params["enabled_events"]
    if "disabled" in params:
        endpoint.status = "disabled" if params["disabled"] else "enabled"
    endpoint.description = params.get("description", endpoint.description)
    endpoint.metadata = merged(endpoint.metadata, params.get("metadata"))
    endpoint.save()
    return endpoint_json(endpoint)


def delete_endpoint(call: Call) -> dict[str, Any]:
    endpoint = _endpoint(call)
    endpoint.delete()
    return {"id": endpoint.reference, "object": "webhook_endpoint", "deleted": True}


def merged(metadata: dict[str, str], given: Any) -> dict[str, str]:
    """Stripe's rule: keys are added or replaced, an empty value removes its key, an empty string removes them all.

    Raises UnableToServe beyond 50 keys of 40 characters with values of 500.
    Source: https://docs.stripe.com/api/metadata
    """
    if given is None:
        return metadata
    kept = {} if given == "" else {key: value for key, value in (metadata | given).items() if value != ""}
    if len(kept) > 50 or any(len(key) > 40 or len(value) > 500 for key, value in kept.items()):
        raise UnableToServe("Metadata holds at most 50 keys of 40 characters, with values of 500.", param="metadata")
    return kept
