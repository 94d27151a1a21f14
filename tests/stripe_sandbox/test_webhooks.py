"""Events and webhooks: signed as Stripe signs, sent until taken, to the endpoints that want them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from tests.sandbox_server import StripeSandbox, code_of
from tests.stripe_sandbox.receiver import Receiver, receiving


def endpoint(sandbox: StripeSandbox, receiver: Receiver, *kinds: str, connect: bool = False) -> stripe.WebhookEndpoint:
    given: Any = {"url": receiver.url, "enabled_events": list(kinds) or ["*"], "connect": connect}
    made = sandbox.client().v1.webhook_endpoints.create(given)
    assert made.secret is not None
    receiver.secret = made.secret
    return made


@pytest.fixture
def receiver(sandbox: StripeSandbox) -> Iterator[Receiver]:
    with receiving() as made:
        yield made
        for one in sandbox.client().v1.webhook_endpoints.list({"limit": 100}).data:
            if one.url == made.url:
                sandbox.client().v1.webhook_endpoints.delete(one.id)


def pay(sandbox: StripeSandbox, account: str, amount: int = 1_000) -> stripe.Transfer:
    given: Any = {"amount": amount, "currency": "usd", "destination": account}
    return sandbox.client().v1.transfers.create(given, {"idempotency_key": f"webhook {account} {amount}"})


def test_a_transfer_is_told_to_the_platform_with_a_signature_that_holds(
    sandbox: StripeSandbox, receiver: Receiver
) -> None:
    endpoint(sandbox, receiver)
    transfer = pay(sandbox, sandbox.add_account())
    (event,) = receiver.wait_for(lambda events: len(events) >= 1)
    assert receiver.bad == []
    assert event.type == "transfer.created"
    assert event.data.object["id"] == transfer.id
    assert not event.livemode
    assert "account" not in event
    assert event.request is not None
    assert event.request.idempotency_key == f"webhook {transfer.destination} 1000"
    fetched = sandbox.client().v1.events.retrieve(event.id)
    assert fetched.data.object["id"] == transfer.id
    sandbox.wait_for_deliveries()
    assert sandbox.client().v1.events.retrieve(event.id).pending_webhooks == 0


def test_what_happens_to_contributors_goes_to_the_connect_endpoint_with_their_account(
    sandbox: StripeSandbox, receiver: Receiver
) -> None:
    endpoint(sandbox, receiver, connect=True)
    account = sandbox.add_account()
    pay(sandbox, account)
    sandbox.advance_to_midnight()
    sandbox.advance(days=3)
    (payout,) = sandbox.client().v1.payouts.list(options={"stripe_account": account}).data
    sandbox.fail_payout(payout.id)
    sandbox.happens(account, "disconnect")
    receiver.wait_for(lambda events: any(event.type == "account.application.deauthorized" for event in events))
    mine = [event for event in receiver.events if event.account == account]
    assert {event.type for event in mine} == {
        "account.updated",
        "capability.updated",
        "account.external_account.created",
        "payout.created",
        "payout.updated",
        "payout.paid",
        "payout.reconciliation_completed",
        "payout.failed",
        "account.external_account.updated",
        "account.application.deauthorized",
    }
    assert all(event.account for event in receiver.events)
    assert receiver.bad == []


def test_an_endpoint_gets_only_the_events_that_it_asked_for(sandbox: StripeSandbox, receiver: Receiver) -> None:
    made = endpoint(sandbox, receiver, "transfer.reversed")
    transfer = pay(sandbox, sandbox.add_account())
    sandbox.client().v1.transfers.reversals.create(transfer.id)
    receiver.wait_for(lambda events: len(events) == 1)
    assert receiver.kinds() == ["transfer.reversed"]
    sandbox.client().v1.webhook_endpoints.update(made.id, {"disabled": True})
    other = pay(sandbox, sandbox.add_account(), 5)
    sandbox.client().v1.transfers.reversals.create(other.id)
    sandbox.wait_for_deliveries()
    assert len(receiver.events) == 1


def test_a_receiver_that_fails_is_asked_again_until_it_takes_the_event(
    undisturbed: StripeSandbox, receiver: Receiver
) -> None:
    undisturbed.settings(webhook_retry_ms=20)
    endpoint(undisturbed, receiver, "transfer.created")
    receiver.answers = [500, 404, 301]
    transfer = pay(undisturbed, undisturbed.add_account())
    receiver.wait_for(lambda events: len(events) == 4)
    undisturbed.wait_for_deliveries()
    assert {event.data.object["id"] for event in receiver.events} == {transfer.id}
    assert len(set(receiver.ids())) == 1


def test_duplicates_and_another_order_come_when_they_are_asked_for(
    undisturbed: StripeSandbox, receiver: Receiver
) -> None:
    endpoint(undisturbed, receiver, "transfer.created")
    undisturbed.settings(webhook_shuffle_ms=800, webhook_duplicates_ppm=1_000_000)
    account = undisturbed.add_account()
    sent = [pay(undisturbed, account, 10 + number).id for number in range(12)]
    receiver.wait_for(lambda events: len(events) == 24)
    came = [event.data.object["id"] for event in receiver.events]
    assert sorted(set(came)) == sorted(sent)
    assert all(came.count(one) == 2 for one in sent)
    assert list(dict.fromkeys(came)) != sent


def test_events_can_be_sent_again_and_listed_for_a_back_fill(sandbox: StripeSandbox, receiver: Receiver) -> None:
    endpoint(sandbox, receiver, "transfer.created")
    client, account = sandbox.client(), sandbox.add_account()
    pay(sandbox, account)
    (event,) = receiver.wait_for(lambda events: len(events) == 1)
    sandbox.wait_for_deliveries()
    assert sandbox.resend(event.id) == 1
    receiver.wait_for(lambda events: len(events) == 2)
    listed = client.v1.events.list({"type": "transfer.*", "created": {"gte": event.created}, "limit": 100})
    assert event.id in [one.id for one in listed.data]
    theirs = client.v1.events.list({"types": ["account.updated"]}, {"stripe_account": account})
    assert [one.type for one in theirs.data] == ["account.updated"]
    sandbox.wait_for_deliveries()
    assert event.id in [one.id for one in client.v1.events.list({"delivery_success": True, "limit": 100}).data]
    assert client.v1.events.list({"delivery_success": False}).data == []


def test_while_webhooks_are_paused_they_are_owed_and_none_is_lost(
    undisturbed: StripeSandbox, receiver: Receiver
) -> None:
    endpoint(undisturbed, receiver, "transfer.created")
    undisturbed.settings(webhook_paused=True)
    account = undisturbed.add_account()
    for number in range(3):
        pay(undisturbed, account, 20 + number)
    assert undisturbed.audit()["deliveries_owed"] == 3
    assert receiver.events == []
    undisturbed.settings(webhook_paused=False)
    receiver.wait_for(lambda events: len(events) == 3)


def test_webhooks_leave_this_machine_for_nowhere(sandbox: StripeSandbox) -> None:
    for url in ("https://example.org/hook", "http://10.0.0.1/", "ftp://127.0.0.1/", "http://127.0.0.1.example.org/"):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            sandbox.client().v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})
        assert caught.value.param == "url"
        assert code_of(caught.value) is None


def test_the_secret_of_an_endpoint_is_shown_once(sandbox: StripeSandbox, receiver: Receiver) -> None:
    made = endpoint(sandbox, receiver, "payout.paid")
    shown = sandbox.client().v1.webhook_endpoints.retrieve(made.id)
    assert "secret" not in shown
    changed = sandbox.client().v1.webhook_endpoints.update(
        made.id, {"enabled_events": ["payout.failed"], "description": "bank leg", "metadata": {"a": "b"}}
    )
    assert changed.enabled_events == ["payout.failed"]
    assert sandbox.client().v1.webhook_endpoints.delete(made.id).deleted
