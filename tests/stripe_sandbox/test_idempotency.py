"""One key, one effect: the stored and replayed answers, the others, and the time for which a key is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe

from tests.sandbox_server import StripeSandbox, code_of, was_replayed


def send(sandbox: StripeSandbox, account: str, key: str, **changes: Any) -> stripe.Transfer:
    given: Any = {"amount": 100, "currency": "usd", "destination": account, "transfer_group": key, **changes}
    return sandbox.client().v1.transfers.create(given, {"idempotency_key": key})


def count(sandbox: StripeSandbox, group: str) -> int:
    return len(sandbox.client().v1.transfers.list({"transfer_group": group, "limit": 100}).data)


def test_the_same_request_again_gets_the_same_answer_and_does_nothing(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account()
    first = send(sandbox, account, "same twice")
    again = send(sandbox, account, "same twice")
    assert first.id == again.id
    assert not was_replayed(first)
    assert was_replayed(again)
    assert first.to_dict() == again.to_dict()
    assert count(sandbox, "same twice") == 1


def test_the_same_key_for_something_else_is_an_error(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account()
    send(sandbox, account, "reused")
    with pytest.raises(stripe.IdempotencyError) as caught:
        send(sandbox, account, "reused", amount=101)
    assert caught.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError):
        sandbox.client().v1.topups.create({"amount": 1, "currency": "usd"}, {"idempotency_key": "reused"})
    assert count(sandbox, "reused") == 1


def test_a_refusal_is_stored_under_its_key_and_stays_when_its_cause_is_gone(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account("needs_info")
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            send(sandbox, account, "poisoned")
        assert code_of(caught.value) == "insufficient_capabilities_for_transfer"
        sandbox.happens(account, "complete")
    assert caught.value.headers is not None
    assert caught.value.headers["Idempotent-Replayed"] == "true"
    assert send(sandbox, account, "a new key").amount == 100


def test_what_was_never_begun_is_not_stored(undisturbed: StripeSandbox) -> None:
    account = undisturbed.add_account()
    with pytest.raises(stripe.InvalidRequestError):
        send(undisturbed, account, "open", amount="a lot")
    undisturbed.queue_faults("409", "429")
    with pytest.raises(stripe.APIError) as locked:
        send(undisturbed, account, "open")
    assert (locked.value.http_status, code_of(locked.value)) == (409, "lock_timeout")
    with pytest.raises(stripe.RateLimitError):
        send(undisturbed, account, "open")
    assert not was_replayed(send(undisturbed, account, "open"))


def test_of_many_at_once_with_one_key_one_is_done_and_the_others_wait_their_turn(undisturbed: StripeSandbox) -> None:
    account = undisturbed.add_account()
    undisturbed.set_faults({"slow": 1.0}, seconds=0.4)
    ids, in_use = set(), []

    def attempt(_: int) -> None:
        try:
            ids.add(send(undisturbed, account, "raced").id)
        except stripe.APIError as error:
            in_use.append((error.http_status, code_of(error), type(error)))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(attempt, range(6)))
    assert len(ids) == 1
    assert set(in_use) == {(409, "idempotency_key_in_use", stripe.APIError)}
    undisturbed.clear_faults()
    assert send(undisturbed, account, "raced").id in ids
    assert count(undisturbed, "raced") == 1


def test_a_key_is_forgotten_after_a_day_and_then_pays_again(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account()
    first = send(sandbox, account, "old")
    sandbox.advance(hours=23)
    assert send(sandbox, account, "old").id == first.id
    sandbox.advance(hours=2)
    assert send(sandbox, account, "old").id != first.id
    assert sandbox.audit()["duplicates"] == ["old"]


def test_a_key_is_known_per_account_and_a_reader_needs_none(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    made = {
        client.v1.accounts.create({"country": "US", "metadata": {"of": "key"}}, {"idempotency_key": "shared"}).id
        for _ in range(2)
    }
    assert len(made) == 1
    settings: Any = {"payments": {"payouts": {"schedule": {"interval": "manual"}}}}
    client.v1.balance_settings.update(settings, {"stripe_account": account, "idempotency_key": "shared"})
    with pytest.raises(stripe.IdempotencyError, match="255"):
        send(sandbox, account, "k" * 256)
