"""Webhooks out: signed, tried again, sent again, and never to a private network."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import transaction
from standardwebhooks import Webhook, WebhookVerificationError

from people.models import WebhookDelivery, WebhookEndpoint, WebhookMessage
from people.operations import webhook_deliveries, webhooks

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC).replace(microsecond=0)
OWNER = "service:7"


@dataclass
class Listener:
    """A real server that keeps the messages it gets and answers as told."""

    url: str
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status, headers = made.answers.pop(0) if made.answers else (204, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/hook?for=us"
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def registered(url: str, *events: str) -> tuple[WebhookEndpoint, str]:
    return webhooks.register_endpoint(owner=OWNER, url=url, events=events or ("index.evaluated",), at=NOW)


def tell(**data: Any) -> int:
    return webhooks.emit(event="index.evaluated", owners=[OWNER], data=data, at=NOW)


def states() -> list[str]:
    return list(WebhookDelivery.objects.order_by("pk").values_list("state", flat=True))


def test_a_message_is_signed_and_verified_by_the_standard_s_own_library(listener: Listener) -> None:
    _, secret = registered(listener.url)
    assert tell(index="i1", weight_ppb=5) == 1
    # The library takes a message of the last five minutes; NOW may be older than that.
    assert webhook_deliveries.deliver_due(at=datetime.now(UTC)) == 1
    ((headers, body),) = listener.got
    message = Webhook(secret).verify(body, headers)
    assert message == {
        "type": "index.evaluated",
        "timestamp": NOW.isoformat(),
        "data": {"index": "i1", "weight_ppb": 5},
    }
    assert headers["webhook-id"] == str(WebhookMessage.objects.get().public_id)
    assert headers["host"] == listener.url.split("/")[2]
    assert states() == ["delivered"]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"i1", b"i2"), headers)
    assert webhook_deliveries.deliver_due(at=NOW + timedelta(days=4)) == 0


def test_for_a_day_after_a_rotation_both_secrets_verify(listener: Listener) -> None:
    endpoint, old = registered(listener.url)
    new = webhooks.rotate_secret(endpoint=endpoint, at=NOW)
    assert new != old
    tell()
    webhook_deliveries.deliver_due(at=datetime.now(UTC))
    headers, body = listener.got[0]
    for secret in (old, new):
        Webhook(secret).verify(body, headers)
    endpoint.refresh_from_db()
    delivery = WebhookDelivery.objects.select_related("endpoint", "message").get()
    later = webhook_deliveries.signed_headers(delivery, NOW + timedelta(days=1))
    assert later["webhook-signature"].count("v1,") == 1


def test_a_refused_message_is_tried_again_on_schedule_with_the_same_id(listener: Listener) -> None:
    registered(listener.url)
    tell()
    listener.answers = [(500, {}), (503, {"Retry-After": "900"}), (302, {"Location": "http://127.0.0.1:1/"})]
    waits = []
    at = NOW
    for _ in range(4):
        assert webhook_deliveries.deliver_due(at=at) == 1
        delivery = WebhookDelivery.objects.get()
        waits.append((delivery.next_at - at).total_seconds())
        assert webhook_deliveries.deliver_due(at=delivery.next_at - timedelta(seconds=1)) == 0
        at = delivery.next_at
    assert waits[:3] == [5, 900, 1800]
    assert states() == ["delivered"]
    assert len({headers["webhook-id"] for headers, _ in listener.got}) == 1
    assert [attempt.status for attempt in delivery.attempts.order_by("pk")] == [500, 503, 302, 204]


def test_an_endpoint_that_takes_nothing_for_three_days_is_stopped_and_its_messages_can_be_sent_again(
    listener: Listener,
) -> None:
    endpoint, _ = registered(listener.url)
    tell()
    listener.answers = [(500, {})] * 10
    at = NOW
    for _ in range(10):
        assert webhook_deliveries.deliver_due(at=at) == 1
        at = WebhookDelivery.objects.get().next_at
    endpoint.refresh_from_db()
    assert states() == ["failed"]
    assert endpoint.stopped_because == "It took no message in three days."
    assert tell() == 0
    delivery = WebhookDelivery.objects.get()
    with pytest.raises(webhooks.UnableToReplay, match="resume it first"):
        webhooks.replay(delivery=delivery, at=at)
    webhooks.resume_endpoint(endpoint=endpoint, at=at)
    webhooks.replay(delivery=delivery, at=at)
    with pytest.raises(webhooks.UnableToReplay, match="waits already"):
        webhooks.replay(delivery=delivery, at=at)
    assert webhook_deliveries.deliver_due(at=at) == 1
    assert states() == ["delivered"]


def test_gone_stops_an_endpoint_at_once(listener: Listener) -> None:
    endpoint, _ = registered(listener.url)
    tell()
    tell()
    listener.answers = [(410, {}), (410, {})]
    webhook_deliveries.deliver_due(at=NOW)
    endpoint.refresh_from_db()
    assert endpoint.stopped_because == "It answered 410 Gone."
    assert states() == ["failed", "failed"]


def test_a_dead_host_is_an_attempt_with_its_error(listener: Listener) -> None:
    registered("http://127.0.0.1:1/")
    tell()
    webhook_deliveries.deliver_due(at=NOW)
    attempt = WebhookDelivery.objects.get().attempts.get()
    assert attempt.status is None
    assert "refused" in attempt.answer


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "https://169.254.169.254/latest/meta-data", "https://[::1]/", "https://localhost/"]
)
def test_no_message_goes_into_a_private_network(settings: Any, url: str) -> None:
    settings.WEBHOOKS_TO_PRIVATE = False
    registered(url)
    tell()
    webhook_deliveries.deliver_due(at=NOW)
    assert "private network" in WebhookDelivery.objects.get().attempts.get().answer


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/", "https://"),
        ("ftp://example.org/", "https://"),
        ("https://user:secret@example.org/", "user name"),
        ("https://example.org/#top", "fragment"),
        ("https://", "host"),
        ("https://example.org:99999/", "not an address"),
        (f"https://example.org/{'a' * 500}", "500"),
        ("https://exämple.org/", "ASCII"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_in_words(settings: Any, url: str, words: str) -> None:
    settings.WEBHOOKS_TO_PRIVATE = False
    with pytest.raises(webhooks.UnableToRegisterEndpoint, match=words):
        registered(url)


def test_an_owner_asks_only_for_events_of_its_kind_and_has_a_limit_of_endpoints() -> None:
    with pytest.raises(webhooks.UnableToRegisterEndpoint, match=r"no event payout\.sent"):
        registered("https://example.org/", "payout.sent")
    registered("https://example.org/same")
    with pytest.raises(webhooks.UnableToRegisterEndpoint, match="registered already"):
        registered("https://example.org/same")
    for number in range(webhooks.ENDPOINTS_MAX - 1):
        registered(f"https://example.org/{number}")
    with pytest.raises(webhooks.UnableToRegisterEndpoint, match="remove one first"):
        registered("https://example.org/more")


def test_an_event_that_is_rolled_back_is_told_to_nobody(listener: Listener) -> None:
    registered(listener.url)
    with transaction.atomic():
        tell()
        assert states() == ["pending"]
        transaction.set_rollback(True)
    assert states() == []


def test_an_endpoint_with_too_many_waiting_messages_is_stopped_with_a_reason(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WAITING_MAX", 2)
    endpoint, _ = registered(listener.url)
    assert [tell() for _ in range(4)] == [1, 1, 1, 0]
    endpoint.refresh_from_db()
    assert "waited for it" in endpoint.stopped_because


def test_a_removed_endpoint_gets_nothing_more_and_old_messages_are_forgotten(listener: Listener) -> None:
    endpoint, _ = registered(listener.url)
    tell()
    webhooks.remove_endpoint(endpoint=endpoint, at=NOW)
    assert tell() == 0
    assert webhook_deliveries.deliver_due(at=NOW) == 0
    assert listener.got == []
    assert webhooks.forget_old_messages(at=NOW + timedelta(days=29)) == 0
    assert webhooks.forget_old_messages(at=NOW + timedelta(days=31)) > 0
    assert not WebhookMessage.objects.exists()


def test_a_message_to_every_service_reaches_services_alone(listener: Listener) -> None:
    registered(listener.url, "consent.changed")
    webhooks.register_endpoint(owner="contributor:3", url=listener.url, events=["consent.changed"], at=NOW)
    told = webhooks.emit(event="consent.changed", owners=[webhooks.EVERY_SERVICE], data={"a": 1}, at=NOW)
    assert told == 1
    webhook_deliveries.deliver_due(at=NOW)
    assert json.loads(listener.got[0][1])["data"] == {"a": 1}
