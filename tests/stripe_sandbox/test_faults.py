"""Each fault switch: the error that the caller sees, and whether the money moved."""

from __future__ import annotations

import time
from typing import Any

import pytest
import stripe

from tests.sandbox_server import StripeSandbox, code_of, was_replayed


def send(sandbox: StripeSandbox, account: str, key: str, timeout: float = 30) -> stripe.Transfer:
    given: Any = {"amount": 100, "currency": "usd", "destination": account, "transfer_group": key}
    return sandbox.client(timeout=timeout).v1.transfers.create(given, {"idempotency_key": key})


def count(sandbox: StripeSandbox, group: str) -> int:
    return len(sandbox.client().v1.transfers.list({"transfer_group": group}).data)


@pytest.mark.parametrize(("kind", "moved"), [("drop_before", 0), ("drop_after", 1)])
def test_a_dropped_connection_says_nothing_about_the_money(undisturbed: StripeSandbox, kind: str, moved: int) -> None:
    account = undisturbed.add_account()
    undisturbed.queue_faults(kind)
    with pytest.raises(stripe.APIConnectionError):
        send(undisturbed, account, kind)
    assert count(undisturbed, kind) == moved
    send(undisturbed, account, kind)
    assert count(undisturbed, kind) == 1


@pytest.mark.parametrize(("kind", "moved"), [("500_before", 0), ("500_after", 1)])
def test_a_server_error_is_replayed_for_ever_whatever_happened(
    undisturbed: StripeSandbox, kind: str, moved: int
) -> None:
    account = undisturbed.add_account()
    undisturbed.queue_faults(kind)
    for _ in range(2):
        with pytest.raises(stripe.APIError) as caught:
            send(undisturbed, account, kind)
        assert caught.value.http_status == 500
    assert caught.value.headers is not None
    assert caught.value.headers["Idempotent-Replayed"] == "true"
    assert count(undisturbed, kind) == moved


def test_a_timeout_leaves_the_money_moved_and_the_caller_in_the_dark(undisturbed: StripeSandbox) -> None:
    account = undisturbed.add_account()
    undisturbed.queue_faults("timeout", seconds=60)
    begun = time.monotonic()
    with pytest.raises(stripe.APIConnectionError):
        send(undisturbed, account, "timed out", timeout=0.5)
    assert time.monotonic() - begun < 10
    assert was_replayed(send(undisturbed, account, "timed out"))
    assert count(undisturbed, "timed out") == 1


def test_a_slow_request_keeps_its_key_in_use_while_its_caller_has_gone(undisturbed: StripeSandbox) -> None:
    account = undisturbed.add_account()
    undisturbed.queue_faults("slow", seconds=5)
    with pytest.raises(stripe.APIConnectionError):
        send(undisturbed, account, "slow", timeout=1)
    with pytest.raises(stripe.APIError) as caught:
        send(undisturbed, account, "slow")
    assert code_of(caught.value) == "idempotency_key_in_use"
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = send(undisturbed, account, "slow")
            break
        except stripe.APIError as error:
            if code_of(error) != "idempotency_key_in_use" or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    assert was_replayed(answer)
    assert count(undisturbed, "slow") == 1


def test_faults_come_in_the_order_of_the_queue_and_only_where_they_were_set(undisturbed: StripeSandbox) -> None:
    account, other = undisturbed.add_account(), undisturbed.add_account()
    undisturbed.queue_faults("429", "500_before", account=account)
    assert send(undisturbed, other, "untouched").amount == 100
    assert undisturbed.client().v1.transfers.list({"limit": 1}).data
    with pytest.raises(stripe.RateLimitError):
        send(undisturbed, account, "queue 1")
    with pytest.raises(stripe.APIError):
        send(undisturbed, account, "queue 2")
    assert send(undisturbed, account, "queue 3").amount == 100


def test_a_look_up_can_fail_as_well(undisturbed: StripeSandbox) -> None:
    undisturbed.queue_faults("500_before", "drop_before", path="/v1/transfers", method="GET")
    with pytest.raises(stripe.APIError):
        undisturbed.client().v1.transfers.list({"limit": 1})
    with pytest.raises(stripe.APIConnectionError):
        undisturbed.client().v1.transfers.list({"limit": 1})
    assert undisturbed.client().v1.transfers.list({"limit": 1}).data is not None


def test_standing_faults_come_about_as_often_as_asked(undisturbed: StripeSandbox) -> None:
    account = undisturbed.add_account()
    undisturbed.set_faults({"429": 0.25, "500_after": 0.25}, seed=7)
    seen = {200: 0, 429: 0, 500: 0}
    for number in range(120):
        try:
            send(undisturbed, account, f"often {number}")
            seen[200] += 1
        except stripe.StripeError as error:
            seen[error.http_status or 0] += 1
    assert all(15 < times < 90 for times in seen.values()), seen
    assert undisturbed.audit()["requests"]["429"] >= seen[429]


def test_latency_is_added_to_every_request_and_many_wait_together(undisturbed: StripeSandbox) -> None:
    undisturbed.settings(latency_ms=200)
    begun = time.monotonic()
    undisturbed.client().v1.balance.retrieve()
    assert time.monotonic() - begun >= 0.2
