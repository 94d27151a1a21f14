"""Many callers at once, and a server that is killed: nothing twice, nothing lost, every balance right."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.databases import CommittedDatabase
from tests.sandbox_server import StripeSandbox, code_of, running_sandbox
from tests.stripe_sandbox.receiver import receiving

ANSWERED_SECONDS_MAX = 300


def test_transfers_reversals_and_payouts_at_once_leave_every_balance_right(undisturbed: StripeSandbox) -> None:
    accounts = [undisturbed.add_account() for _ in range(4)]
    client = undisturbed.client(checked=False)
    failures: list[str] = []

    def work(number: int) -> None:
        account = accounts[number % 4]
        try:
            transfer = client.v1.transfers.create({"amount": 100 + number, "currency": "usd", "destination": account})
            if number % 3 == 0:
                client.v1.transfers.reversals.create(transfer.id, {"amount": 50})
            if number % 5 == 0:
                client.v1.payouts.create({"amount": 40, "currency": "usd"}, {"stripe_account": account})
            if number % 10 == 0:
                undisturbed.advance(hours=5)
        except stripe.InvalidRequestError as error:
            # A daily payout may have taken the money first; anything else is a fault of the sandbox.
            if code_of(error) != "balance_insufficient":
                failures.append(str(error))
        except stripe.StripeError as error:
            failures.append(str(error))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(60)))
    audit = undisturbed.audit()
    assert failures == []
    assert audit["balances_that_do_not_add_up"] == []


def test_no_two_transfers_spend_the_same_money(undisturbed: StripeSandbox) -> None:
    client, account = undisturbed.client(checked=False), undisturbed.add_account(country="SE")
    undisturbed.top_up(1_000, "sek")
    refusals: list[str | None] = []

    def spend(_: int) -> None:
        try:
            client.v1.transfers.create({"amount": 300, "currency": "sek", "destination": account})
        except stripe.InvalidRequestError as error:
            refusals.append(code_of(error))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(spend, range(8)))
    assert refusals == ["balance_insufficient"] * 5
    assert undisturbed.available("sek") == 100


def test_a_server_killed_again_and_again_pays_each_key_once_and_owes_every_event(
    committed_database: CommittedDatabase, tmp_path: Path
) -> None:
    with (
        receiving("whsec_platform_0123456789") as receiver,
        running_sandbox(
            committed_database.url, log=tmp_path / "log", webhooks=[receiver.url], webhook_secret=receiver.secret
        ) as sandbox,
    ):
        sandbox.settings(reads_per_second=0, writes_per_second=0, webhook_retry_ms=20)
        sandbox.top_up(1_000_000)
        account = sandbox.add_account()
        keys, done = [f"killed {number}" for number in range(60)], threading.Event()
        caller = threading.Thread(target=_pay_until_answered, args=(sandbox, account, keys, done))
        caller.start()
        for _ in range(2):
            time.sleep(random.uniform(0.1, 0.4))
            sandbox.kill()
            sandbox.start()
        caller.join()
        assert done.is_set()
        audit = sandbox.audit()
        assert audit["transfers"] == len(keys)
        assert audit["duplicates"] == []
        assert audit["balances_that_do_not_add_up"] == []
        receiver.wait_for(lambda events: _transfers(events) == 60, seconds=60)
        assert receiver.bad == []


def _transfers(events: list[stripe.Event]) -> int:
    return len({event.data.object["id"] for event in events if event.type == "transfer.created"})


def _pay_until_answered(sandbox: StripeSandbox, account: str, keys: list[str], done: threading.Event) -> None:
    """The behaviour of a careful caller: the same bytes under the same key until there is an answer."""
    client, deadline = sandbox.client(checked=False, timeout=5), time.monotonic() + ANSWERED_SECONDS_MAX
    for key in keys:
        given: Any = {"amount": 77, "currency": "usd", "destination": account, "transfer_group": key}
        while time.monotonic() < deadline:
            try:
                client.v1.transfers.create(given, {"idempotency_key": key})
            except stripe.APIConnectionError:
                time.sleep(0.05)
                continue
            break
        else:
            return
    done.set()


@pytest.mark.full
def test_a_hundred_transfers_a_second_are_served(undisturbed: StripeSandbox) -> None:
    client, account = undisturbed.client(checked=False), undisturbed.add_account()
    begun = time.monotonic()

    def pay(number: int) -> None:
        given: Any = {"amount": 1, "currency": "usd", "destination": account, "transfer_group": f"fast {number}"}
        client.v1.transfers.create(given, {"idempotency_key": f"fast {number}"})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(pay, range(1_000)))
    assert 1_000 / (time.monotonic() - begun) > 60
