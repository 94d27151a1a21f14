"""Deliver webhook messages: claimed, sent without an open transaction, and recorded.

Source of headers, signature and the schedule of retries: the specification of Standard Webhooks.
"""

from __future__ import annotations

import email.utils
import ipaddress
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import urllib3
from django.conf import settings
from django.db import transaction
from django.db.models import F
from standardwebhooks import Webhook

from people import outbound, sealing
from people.models import WebhookAttempt, WebhookDelivery
from people.operations.webhooks import stop_endpoint

# Waits before each further try, in seconds: three days in all.
WAITS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
WAIT_MAX = timedelta(days=1)
BATCH = 50
THREADS = 8
# Longer than a try may take; a claimed row of a dead worker is tried again after it.
LEASE = timedelta(seconds=60)
CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0
ANSWER_BYTES = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one try. `status` is None without one; `retry_after`, in seconds, where the endpoint named it."""

    status: int | None
    answer: str
    milliseconds: int
    retry_after: float | None = None

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class UnableToReach(Exception):
    """The host has no address to which a message may go."""


def deliver_due(*, at: datetime, limit: int = BATCH) -> int:
    """Try up to `limit` deliveries that are due; returns their number. Two workers never try the same one at a time."""
    claimed = _claim(at, limit)
    if not claimed:
        return 0
    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = list(pool.map(_try, claimed, [at] * len(claimed)))
    for delivery, outcome in zip(claimed, outcomes, strict=True):
        _record(delivery, outcome, at)
    return len(claimed)


def _claim(at: datetime, limit: int) -> list[WebhookDelivery]:
    with transaction.atomic():
        due = WebhookDelivery.objects.filter(state=WebhookDelivery.State.PENDING, next_at__lte=at).order_by("next_at")
        found = list(
            due.select_for_update(no_key=True, skip_locked=True, of=("self",))[:limit].values_list("pk", flat=True)
        )
        WebhookDelivery.objects.filter(pk__in=found).update(next_at=at + LEASE, tries=F("tries") + 1)
    return list(WebhookDelivery.objects.filter(pk__in=found).select_related("endpoint", "message").order_by("pk"))


def _try(delivery: WebhookDelivery, at: datetime) -> Outcome:
    begun = time.monotonic()
    try:
        answer = _post(delivery, at)
        status, text = answer.status, answer.read(ANSWER_BYTES, decode_content=False).decode("utf-8", "replace")
        retry_after = _seconds(answer.headers.get("Retry-After"), at)
        answer.close()
    except (UnableToReach, sealing.UnableToUnseal, urllib3.exceptions.HTTPError, OSError) as error:
        status, text, retry_after = None, f"{type(error).__name__}: {error}", None
    took = round((time.monotonic() - begun) * 1000)
    printable = "".join(c if c.isprintable() else " " for c in text)
    return Outcome(status, printable[:ANSWER_BYTES], took, retry_after)


def _post(delivery: WebhookDelivery, at: datetime) -> urllib3.BaseHTTPResponse:
    endpoint, message = delivery.endpoint, delivery.message
    parts = urlsplit(endpoint.url)
    assert parts.hostname is not None
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
    # The checked address is the one that is connected to: a name that resolves anew could lead elsewhere.
    address = _public_address(parts.hostname, port)
    options: dict[str, Any] = {"timeout": timeout}
    if secure:
        name = parts.hostname
        options |= {"server_hostname": name, "assert_hostname": name, "ssl_context": outbound.tls()}
    pools: urllib3.PoolManager
    if proxy := outbound.proxy_for(endpoint.url):
        # The proxy is asked for the checked address, too.
        pools = outbound.proxy_manager(proxy, **options)
    else:
        pools = urllib3.PoolManager(**options)
    place = f"[{address}]" if ":" in address else address
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": f"Tributary/{settings.VERSION}",
        **signed_headers(delivery, at),
    }
    return pools.urlopen(
        "POST",
        f"{parts.scheme}://{place}:{port}{path}",
        body=message.body.encode(),
        headers=headers,
        retries=False,
        redirect=False,
        preload_content=False,
    )


def signed_headers(delivery: WebhookDelivery, at: datetime) -> dict[str, str]:
    """Id, time and signatures of a message, one for each secret in force."""
    endpoint, message = delivery.endpoint, delivery.message
    sealed = [bytes(endpoint.secret)]
    if endpoint.old_secret is not None and endpoint.old_secret_ends is not None and at < endpoint.old_secret_ends:
        sealed.append(bytes(endpoint.old_secret))
    number = str(message.public_id)
    signatures = [Webhook(sealing.unseal(one).decode()).sign(number, at, message.body) for one in sealed]
    return {
        "webhook-id": number,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _public_address(host: str, port: int) -> str:
    """Resolve a host. Raises UnableToReach for addresses inside a private network, and OSError for none."""
    found = [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not settings.WEBHOOKS_TO_PRIVATE:
        for address in found:
            if not ipaddress.ip_address(address).is_global:
                raise UnableToReach(f"{host} is an address of a private network.")
    # Hosts without IPv6 are more frequent than hosts without IPv4.
    return min(found, key=lambda address: ":" in address)


def _seconds(header: str | None, at: datetime) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment - at).total_seconds()) if moment.tzinfo else None


def _record(delivery: WebhookDelivery, outcome: Outcome, at: datetime) -> None:
    with transaction.atomic():
        fresh = WebhookDelivery.objects.select_for_update(no_key=True, of=("self",)).get(pk=delivery.pk)
        WebhookAttempt.objects.create(
            delivery=fresh, at=at, status=outcome.status, milliseconds=outcome.milliseconds, answer=outcome.answer
        )
        if fresh.state != WebhookDelivery.State.PENDING:
            # It was given up meanwhile, because its endpoint was removed or stopped.
            return
        if outcome.is_taken:
            fresh.state, fresh.settled_at = WebhookDelivery.State.DELIVERED, at
        elif fresh.tries > len(WAITS) or outcome.status == 410:
            fresh.state, fresh.settled_at = WebhookDelivery.State.FAILED, at
        else:
            fresh.next_at = at + _wait(fresh.tries, outcome)
        fresh.save(update_fields=["state", "settled_at", "next_at"])
        if outcome.status == 410:
            stop_endpoint(endpoint=delivery.endpoint, because="It answered 410 Gone.", at=at)
        elif fresh.state == WebhookDelivery.State.FAILED:
            stop_endpoint(endpoint=delivery.endpoint, because="It took no message in three days.", at=at)


def _wait(tries: int, outcome: Outcome) -> timedelta:
    wait = timedelta(seconds=WAITS[tries - 1])
    if outcome.retry_after is not None and outcome.status in (429, 503):
        wait = max(wait, timedelta(seconds=outcome.retry_after))
    return min(wait, WAIT_MAX)
