"""A stop comes between a payout's claim and its sending: nothing is sent, nothing fails, nothing is lost.

The interleavings are forced: something happens right before a step, and then the step goes on as it is.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connections

from ledger.money import from_minor
from payouts.attempts import crew, execution
from payouts.attempts.execution import pay_next
from payouts.models import Hold, Payout, PayoutAttempt, PayoutRun
from payouts.operations import approval, holds
from payouts.queries import balances
from payouts.rails.stripe import calls
from payouts.reconciliation import comparison, inbox
from tests.databases import CommittedDatabase
from tests.faults.workers import disagreements
from tests.races.test_payouts import at_once
from tests.sandbox_server import StripeSandbox
from tests.worlds.world import SEEN, World


@pytest.fixture
def world(
    committed_database: CommittedDatabase, stripe_sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> World:
    monkeypatch.setattr(settings, "STRIPE_REQUESTS_PER_SECOND", 1000.0)
    stripe_sandbox.settings(reads_per_second=0, writes_per_second=0)
    made = World(datetime.now(UTC), stripe_sandbox)
    made.policy()
    made.fund(1_000_000)
    return made


def elsewhere(act: Callable[[], object]) -> None:
    """Do something on another connection, and wait until it is committed."""

    def work() -> None:
        try:
            act()
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "the other connection waits for us"


def before_once(monkeypatch: pytest.MonkeyPatch, step: str, act: Callable[[], object]) -> None:
    """Let `act` happen right before the first time that execution takes `step`."""
    original, todo = getattr(execution, step), [act]

    def first_then_go_on(*args: Any, **kwargs: Any) -> Any:
        if todo:
            elsewhere(todo.pop())
        return original(*args, **kwargs)

    monkeypatch.setattr(execution, step, first_then_go_on)


def pause(world: World, run: PayoutRun) -> None:
    approval.pause_run(run=run, by=world.maker, note="wait", at=world.at, seen=SEEN)


def test_a_run_that_is_stopped_while_its_payouts_are_claimed_is_no_accident(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trigger sees the stop before the claim does; the claim is given up, and nothing was written."""
    for place in range(3):
        world.contributor(1_000 + place)
    run = world.executing()
    before_once(monkeypatch, "_checked_runs", lambda: pause(world, run))
    crew.execute_run(run_id=run.pk, threads=2)
    assert set(run.payouts.values_list("state", flat=True)) == {"approved"}
    assert not PayoutAttempt.objects.filter(payout__run=run).exists()
    run.refresh_from_db()
    approval.resume_run(run=run, by=world.maker, at=world.at, seen=SEEN)
    crew.execute_run(run_id=run.pk, threads=2)
    assert set(run.payouts.values_list("state", flat=True)) == {"transferred"}


def test_a_freeze_in_one_thread_ends_no_other_by_an_error(world: World, stripe_sandbox: StripeSandbox) -> None:
    """Stripe refuses one payout for risk while others are claimed and sent."""
    for place in range(30):
        world.contributor(1_000 + place)
    run = world.executing()
    stripe_sandbox.queue_faults("400")
    crew.execute_run(run_id=run.pk, threads=4)
    run.refresh_from_db()
    assert run.state == PayoutRun.State.PAUSED
    states = set(run.payouts.values_list("state", flat=True))
    assert "refused" in states
    assert states <= {"refused", "approved", "transferred", "sending"}
    approval.resume_run(run=run, by=world.maker, at=world.at, seen=SEEN)
    later = datetime.now(UTC) + timedelta(seconds=400)
    crew.execute_run(run_id=run.pk, threads=4, clock=lambda: later)
    assert disagreements(stripe_sandbox, run) == []
    assert set(run.payouts.values_list("state", flat=True)) == {"transferred"}


@pytest.mark.parametrize("threads", [1, 3])
def test_a_hold_between_claim_and_sending_takes_the_payout_out_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, stripe_sandbox: StripeSandbox, threads: int
) -> None:
    contributor, other = world.contributor(1_000), world.contributor(2_000)
    compliance = world.compliance
    run = world.executing()

    def act() -> None:
        holds.place_hold(contributor=contributor, reason="fraud_review", by=compliance, at=world.at, seen=SEEN)

    before_once(monkeypatch, "send_or_recover", act)
    crew.execute_run(run_id=run.pk, threads=threads)
    payout = run.payouts.get(contributor=contributor)
    attempt = payout.attempts.get()
    assert (payout.state, payout.reason, payout.lease_until) == ("held", "fraud_review", None)
    assert (attempt.state, attempt.error_code, attempt.sends_not_executed) == ("refused", "held", 1)
    assert calls.find_transfers(payout.transfer_group) == []
    assert world.payable(contributor) == from_minor(1_000, "USD"), "what the attempt reserved is payable again"
    assert balances.ledger_in_transit("USD") == 0
    told = contributor.notices.get(kind="payout_held")
    assert "We are checking this account" in told.words
    # Nobody else waits for it, and the run comes to its end.
    assert run.payouts.get(contributor=other).state == "transferred"
    assert comparison.reconcile_run(run=run, at=datetime.now(UTC)).is_clean
    assert disagreements(stripe_sandbox, run) == []

    # Released, the money goes with the next run, under a payout and a key of its own.
    hold = Hold.objects.get(contributor=contributor, released_at__isnull=True)
    holds.release_hold(hold=hold, by=compliance, at=world.at, seen=SEEN)
    again = world.pay(world.executing())
    assert again.payouts.get(contributor=contributor).state == "transferred"


def test_a_hold_after_an_answer_that_nothing_was_done_takes_the_payout_out_at_the_next_try(
    world: World, stripe_sandbox: StripeSandbox
) -> None:
    contributor = world.contributor(1_000)
    run = world.executing()
    stripe_sandbox.queue_faults("429")
    pay_next(run_id=run.pk)
    holds.place_hold(contributor=contributor, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)
    later = datetime.now(UTC) + timedelta(seconds=100)
    crew.execute_run(run_id=run.pk, threads=1, clock=lambda: later)
    payout = run.payouts.get()
    assert (payout.state, payout.attempts.get().state) == ("held", "refused")
    assert world.payable(contributor) == from_minor(1_000, "USD")
    assert calls.find_transfers(payout.transfer_group) == []
    assert disagreements(stripe_sandbox, run) == []


@pytest.mark.parametrize("stop", ["pause", "kill switch"])
def test_a_stop_between_claim_and_sending_is_seen(world: World, monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    world.contributor(1_000)
    run = world.executing()

    def act() -> None:
        if stop == "pause":
            pause(world, run)
        else:
            monkeypatch.setattr(settings, "PAYOUTS_FROZEN", True)

    before_once(monkeypatch, "_send", act)
    crew.execute_run(run_id=run.pk, threads=1)
    payout = run.payouts.get()
    attempt = payout.attempts.get()
    assert (payout.state, attempt.state, attempt.sends, attempt.sends_not_executed) == ("sending", "sent", 1, 1)
    assert calls.find_transfers(payout.transfer_group) == []
    # It is looked for, and not sent again, as long as the stop stands.
    later = datetime.now(UTC) + timedelta(seconds=100)
    crew.execute_run(run_id=run.pk, threads=1, clock=lambda: later)
    assert calls.find_transfers(payout.transfer_group) == []

    monkeypatch.setattr(settings, "PAYOUTS_FROZEN", False)
    run.refresh_from_db()
    if run.state == PayoutRun.State.PAUSED:
        approval.resume_run(run=run, by=world.maker, at=later, seen=SEEN)
    last = later + timedelta(seconds=1_000)
    crew.execute_run(run_id=run.pk, threads=1, clock=lambda: last)
    payout.refresh_from_db()
    attempt.refresh_from_db()
    assert (payout.state, attempt.state, attempt.number) == ("transferred", "succeeded", 1)
    assert len(calls.find_transfers(payout.transfer_group)) == 1


def test_the_webhook_and_the_worker_that_learn_of_one_transfer_book_it_once(
    world: World, stripe_sandbox: StripeSandbox
) -> None:
    for place in range(8):
        world.contributor(1_000 + place)
    run = world.executing()
    stripe_sandbox.set_faults({"drop_after": 1.0})
    # A clock that stands still: on a slow machine the look-up of the first would be due before the last is sent.
    moment = datetime.now(UTC)
    crew.execute_run(run_id=run.pk, threads=1, clock=lambda: moment)
    stripe_sandbox.clear_faults()
    later = datetime.now(UTC) + timedelta(seconds=100)
    for number, payout in enumerate(run.payouts.order_by("pk")):
        assert payout.state == Payout.State.UNKNOWN
        (transfer,) = calls.find_transfers(payout.transfer_group)
        event = {
            "id": f"evt_race{number}",
            "object": "event",
            "type": "transfer.created",
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": {"id": transfer.id}},
        }
        stored = inbox.record_webhook(endpoint="platform", event=event, payload=json.dumps(event), headers={}, at=later)
        assert stored is not None
        results = at_once(
            lambda stored=stored: inbox.apply_webhook(event_id=stored, at=later),  # type: ignore[misc]
            lambda: pay_next(run_id=run.pk, clock=lambda: later),
        )
        # Where the webhook was first, the worker finds nothing left to do.
        assert results in (["applied", True], ["applied", False])
    assert disagreements(stripe_sandbox, run) == []
    assert set(run.payouts.values_list("state", flat=True)) == {"transferred"}
    assert balances.ledger_in_transit("USD") == 0
