"""Webhooks on their way: every owed delivery is signed and sent, again and again, until the receiver takes it.

Owed deliveries stand in the database since the change itself was committed, so a killed server loses nothing. A lease
keeps two senders from one delivery, and an expired lease is taken up again. An event may therefore arrive twice, as
Stripe's may. Source of the signature: https://docs.stripe.com/webhooks#verify-manually
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import requests
from django.db import close_old_connections, transaction

from stripe_sandbox import configuration, faults
from stripe_sandbox.events import LOOPBACK, payload
from stripe_sandbox.models import Delivery

logger = logging.getLogger(__name__)

WORK = threading.Event()
LEASE = timedelta(seconds=30)
GIVEN_UP_AFTER = timedelta(days=3)
RETRY_SECONDS_MAX = 3600.0
ANSWER_SECONDS_MAX = 10
BATCH = 64
SENDERS = 4
POLL_SECONDS = 0.5
_local = threading.local()


def sign(body: str, secret: str, timestamp: int) -> str:
    digest = hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def claim() -> list[int]:
    """Lease the owed deliveries that are due; the rows of another sender are passed over."""
    if configuration.current().webhook_paused:
        return []
    moment = datetime.now(UTC)
    with transaction.atomic():
        due = Delivery.objects.select_for_update(skip_locked=True, no_key=True).filter(
            delivered_at=None, next_try_at__lte=moment, endpoint__status="enabled"
        )
        keys = list(due.order_by("next_try_at", "pk").values_list("pk", flat=True)[:BATCH])
        Delivery.objects.filter(pk__in=keys).update(next_try_at=moment + LEASE)
    if configuration.current().webhook_shuffle_ms:
        random.shuffle(keys)
    return keys


def _session() -> requests.Session:
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        # A proxy or a .netrc of the machine has no business with a message to the machine itself.
        _local.session.trust_env = False
    session: requests.Session = _local.session
    return session


def _post(url: str, body: str, secret: str) -> int:
    """The status that the receiver answered, 0 where it did not."""
    if urlsplit(url).hostname not in LOOPBACK:
        return 0
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (Tributary sandbox)",
        "Stripe-Signature": sign(body, secret, int(time.time())),
    }
    try:
        answered = _session().post(
            url, data=body.encode(), headers=headers, timeout=ANSWER_SECONDS_MAX, allow_redirects=False
        )
    except requests.RequestException as error:
        logger.info("webhook not delivered to %s: %s", url, type(error).__name__)
        return 0
    return answered.status_code


def send(key: int) -> None:
    """Send one leased delivery and record its result."""
    close_old_connections()
    try:
        found = Delivery.objects.select_related("event", "endpoint").filter(pk=key, delivered_at=None).first()
        if found is None:
            return
        body = payload(found.event)
        status = _post(found.endpoint.url, body, found.endpoint.secret)
        if faults.chance(configuration.current().webhook_duplicates_ppm):
            _post(found.endpoint.url, body, found.endpoint.secret)
        _record(found, status)
    except Exception:
        # The lease runs out and the delivery is taken up again; a sender must not die of one bad message.
        logger.exception("webhook delivery %s failed", key)


def _record(delivery: Delivery, status: int) -> None:
    moment = datetime.now(UTC)
    attempts = delivery.attempts + 1
    values: dict[str, object] = {"attempts": attempts, "last_status": status}
    if 200 <= status < 300:
        values["delivered_at"] = moment
    else:
        first = configuration.current().webhook_retry_ms / 1000
        wait = timedelta(seconds=min(first * 2 ** min(attempts - 1, 20), RETRY_SECONDS_MAX))
        values["next_try_at"] = moment + (wait if delivery.event.created > moment - GIVEN_UP_AFTER else GIVEN_UP_AFTER)
    Delivery.objects.filter(pk=delivery.pk).update(**values)


def run(stopping: threading.Event) -> None:
    """Send until told to stop; woken by each new event, and by itself twice a second."""
    with ThreadPoolExecutor(SENDERS, thread_name_prefix="webhook") as senders:
        while not stopping.is_set():
            WORK.wait(POLL_SECONDS)
            WORK.clear()
            close_old_connections()
            try:
                while not stopping.is_set() and (keys := claim()):
                    list(senders.map(send, keys))
            except Exception:
                logger.exception("webhooks could not be claimed")
                stopping.wait(1)
