"""Events in any order, any number of times, or fetched from the beginning: the same final state, by one hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from ledger.queries.invariants import check_all
from payouts.models import (
    BankPayout,
    Difference,
    Hold,
    Notice,
    Payout,
    PayoutAccount,
    PayoutAttempt,
    PayoutRun,
    Reversal,
    WebhookEvent,
)
from payouts.rails.stripe import calls
from payouts.reconciliation import bank_payouts, inbox, sweeping
from tests.worlds.world import World

Delivery = tuple[str, dict[str, Any]]


@contextlib.contextmanager
def undone() -> Iterator[None]:
    """Roll the block back at its end."""
    atomic = transaction.atomic()
    # As the test's own transaction: durable blocks may stand in it.
    atomic._from_testcase = True  # type: ignore[attr-defined]
    with atomic:
        yield
        transaction.set_rollback(True)


def final_state() -> dict[str, str]:
    """A digest of each thing that webhooks may change; row numbers and times of day are no part of it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.kind, a.owner, b.posted FROM ledger_balance b JOIN ledger_account a ON a.id = b.account_id "
            "WHERE b.posted <> 0 ORDER BY 1, 2"
        )
        balances = cursor.fetchall()
    found = {
        "balances": balances,
        "Payout": sorted(
            Payout.objects.values_list("public_id", "state", "reversed_minor", "bank_payout__provider_payout_id")
        ),
        "PayoutAttempt": sorted(PayoutAttempt.objects.values_list("idempotency_key", "state", "provider_transfer_id")),
        "BankPayout": sorted(BankPayout.objects.values_list("provider_payout_id", "state", "failure_code")),
        "Reversal": sorted(Reversal.objects.values_list("provider_reversal_id", "amount_minor")),
        "Hold": sorted(Hold.objects.values_list("contributor", "reason").filter(released_at__isnull=True)),
        # Other notices depend on the order of delivery: nobody is told of a bank's failure that is history.
        "Notice": sorted(
            Notice.objects.filter(kind__in=["payout_transferred", "payout_reversed"]).values_list("kind", "subject")
        ),
        "Difference": sorted(Difference.objects.values_list("type", "subject", "found")),
    }
    return {name: hashlib.sha256(json.dumps(rows, default=str).encode()).hexdigest() for name, rows in found.items()}


def a_busy_week(world: World, payees: int) -> PayoutRun:
    """Every answer of a run is lost; some transfers are taken back; money goes to banks, and some send it back, late
    and early, and some of that is paid again."""
    sandbox = world.sandbox
    assert sandbox is not None
    for place, contributor in enumerate(world.crowd(payees)):
        world.credit(contributor, 1_000 + place)
    world.fund(payees * 1_000 + payees**2)
    run = world.executing()
    sandbox.set_faults({"drop_after": 1.0})
    world.pay(run)
    sandbox.clear_faults()
    payouts = list(run.payouts.order_by("pk"))
    client = sandbox.client()
    for payout in payouts[::6]:
        (transfer,) = calls.find_transfers(payout.transfer_group)
        client.v1.transfers.reversals.create(transfer.id, {"amount": 100})
    for payout in payouts[1::3]:
        sandbox.set_faults({"payout_fail:account_closed": 1.0}, account=payout.destination)
    sandbox.advance(days=4)
    sandbox.clear_faults()
    for number, payout in enumerate(payouts):
        (bank,) = client.v1.payouts.list({}, {"stripe_account": payout.destination}).data
        if bank.status == "paid" and number % 4 == 0:
            sandbox.fail_payout(bank.id, "account_frozen")
        if number % 2 == 0:
            # New bank details: the returned payout is paid again.
            sandbox.happens(payout.destination, "complete")
    sandbox.advance(days=4)
    return run


def events_of(world: World, run: PayoutRun, since: datetime) -> list[Delivery]:
    """List the events that Stripe would have delivered, in the order of their occurrence."""
    found: list[Delivery] = [("platform", event) for event in calls.list_events(since=since)]
    for name in run.payouts.values_list("destination", flat=True):
        found += [("connect", {**event, "account": name}) for event in calls.list_events(since=since, account=name)]
    # A list is newest first; of one second, the later listed is the earlier.
    found.reverse()
    return sorted(found, key=lambda delivery: int(delivery[1]["created"]))


def deliver(deliveries: list[Delivery], at: datetime) -> None:
    for endpoint, event in deliveries:
        stored = inbox.record_webhook(
            endpoint=endpoint, event=event, payload=json.dumps(event, default=str), headers={}, at=at
        )
        if stored is not None:
            inbox.apply_webhook(event_id=stored, at=at)
    settle(at)


def settle(at: datetime) -> None:
    """Try again the events about objects not known here at first, until nothing is due in the next hours."""
    for hour in range(4):
        while sweeping.sweep_webhooks(at=at + timedelta(hours=hour), limit=500):
            pass


@pytest.mark.parametrize(
    ("payees", "events_min"),
    [(10, 60), pytest.param(1_400, 10_000, marks=[pytest.mark.full, pytest.mark.timeout(3400)])],
    ids=["small", "full"],
)
def test_three_times_in_any_order_is_once_in_order_and_from_the_beginning(
    paying: World, payees: int, events_min: int
) -> None:
    sandbox = paying.sandbox
    assert sandbox is not None
    since = datetime.fromtimestamp(int(sandbox.settings()["now"]) - 1, UTC)
    run = a_busy_week(paying, payees)
    before = final_state()
    events = events_of(paying, run, since)
    assert len(events) >= events_min

    with undone():
        deliver(events, paying.at)
        wanted = final_state()
        states = set(run.payouts.values_list("state", flat=True))
        assert {"settled", "bank_failed", "partially_reversed"} <= states
        assert not states & {*Payout.LIVE}
        # Sent back by a bank, and paid again by Stripe: the second payout counts.
        again = BankPayout.objects.filter(state="failed", account__bank_payouts__state="paid").first()
        assert again is not None
        assert {r.name: r.rows for r in check_all() if r.rows} == {}
    assert final_state() == before != wanted

    tripled = events * 3
    random.Random(payees).shuffle(tripled)
    with undone():
        deliver(tripled, paying.at)
        assert WebhookEvent.objects.count() == len({(endpoint, event["id"]) for endpoint, event in events})
        assert final_state() == wanted

    with undone():
        names = ["", *run.payouts.values_list("destination", flat=True)]
        inbox.back_fill(since=since, at=paying.at, accounts=names)
        settle(paying.at)
        assert final_state() == wanted


def test_money_that_a_bank_sent_back_and_stripe_paid_again_is_settled(paying: World) -> None:
    sandbox = paying.sandbox
    assert sandbox is not None
    contributor = paying.contributor(1_000)
    run = paying.pay(paying.executing())
    name, account = paying.account(contributor), PayoutAccount.objects.get(contributor=contributor)
    sandbox.advance(days=4)
    (first,) = sandbox.client().v1.payouts.list({}, {"stripe_account": name}).data
    sandbox.fail_payout(first.id)
    sandbox.happens(name, "complete")
    sandbox.advance(days=4)
    second, _ = sandbox.client().v1.payouts.list({}, {"stripe_account": name}).data
    # The later one is heard of first.
    for bank in (second, first, second):
        bank_payouts.sync_bank_payout(account=account, payout_id=bank.id, at=paying.at)
        payout = run.payouts.get()
        assert (payout.state, payout.bank_payout and payout.bank_payout.provider_payout_id) == ("settled", second.id)
