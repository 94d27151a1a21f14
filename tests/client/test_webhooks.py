"""Messages that the product really sends are verified by the client, and by the standard's own library."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
from tributary.webhooks import InvalidSignature, Webhook

from clients.python.tests.servers import Reply, Server, serving
from people.operations import webhook_deliveries, webhooks

pytestmark = pytest.mark.django_db
OWNER, EVENT = "service:7", "index.evaluated"


@pytest.fixture
def receiver() -> Iterator[Server]:
    with serving() as server:
        server.reply = lambda request: Reply(200, {})
        yield server


def test_a_delivered_message_is_verified_before_during_and_after_a_rotation(receiver: Server) -> None:
    now = datetime.now(UTC)
    endpoint, old = webhooks.register_endpoint(owner=OWNER, url=f"{receiver.url}/hook", events=[EVENT], at=now)
    new = webhooks.rotate_secret(endpoint=endpoint, at=now)
    webhooks.emit(event=EVENT, owners=[OWNER], data={"index": "i1"}, at=now)
    assert webhook_deliveries.deliver_due(at=now) == 1
    (message,) = receiver.received
    for secrets in (old, new, [new, old]):
        event = Webhook(secrets).verify(message.body, message.headers)
        assert (event["type"], event["data"]) == (EVENT, {"index": "i1"})
        with pytest.raises(InvalidSignature, match="No signature"):
            Webhook(secrets).verify(message.body.replace(b"i1", b"i2"), message.headers)
    with pytest.raises(InvalidSignature, match="old; 300 s are allowed"):
        Webhook(new).verify(message.body, message.headers, now=(now + timedelta(minutes=6)).timestamp())


def test_a_signature_of_the_client_is_one_of_the_standard() -> None:
    secret, body, moment = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"type":"x"}', int(datetime.now(UTC).timestamp())
    headers = {"webhook-id": "m1", "webhook-timestamp": str(moment)}
    headers["webhook-signature"] = Webhook(secret).sign("m1", moment, body)
    assert standardwebhooks.Webhook(secret).verify(body, headers) == {"type": "x"}
