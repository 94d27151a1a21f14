"""A worker that dies at any named point, on the first try, on a retry or while recovering, pays nobody twice and
loses nobody."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest
import requests

from payouts.crashpoints import CrashPoint
from payouts.models import Payout, PayoutAttempt, PayoutRun, WebhookEvent
from payouts.rails.stripe import calls, webhooks
from payouts.reconciliation import comparison
from tests.faults.test_bank_rail_kills import ON_THE_BANK_RAIL
from tests.faults.workers import Workers, disagreements
from tests.sandbox_server import StripeSandbox
from tests.worlds.world import World

P = CrashPoint
KILLED = -signal.SIGKILL
WHILE_PAYING = [
    P.CLAIM_WRITTEN,
    P.CLAIM_COMMITTED,
    P.LIMITER_PASSED,
    P.REQUEST_SENT,
    P.ANSWER_READ,
    P.RESULT_WRITTEN,
    P.RESULT_POSTED,
    P.RESULT_COMMITTED,
]
# Long enough that no lease ends by itself here, however slow the machine; `end_leases` ends them.
LEASE = 40.0
WHILE_RECOVERING = [P.LOOK_UP_SENT, P.LOOK_UP_ANSWERED, P.VOID_WRITTEN]
AROUND = [
    P.APPROVAL_WRITTEN,
    P.START_WRITTEN,
    P.SWEEP_BEGUN,
    P.WEBHOOK_STORED,
    P.WEBHOOK_APPLYING,
    P.WEBHOOK_APPLIED,
    P.RECONCILIATION_WRITTEN,
    P.REVERSAL_COMMITTED,
    P.REVERSAL_ANSWERED,
]
crashed: set[CrashPoint] = set()


@pytest.fixture(autouse=True)
def _nothing_crashed_yet() -> None:
    crashed.clear()


def crash(killable: Workers, act: str, point: CrashPoint, passes: int = 1, **options: Any) -> None:
    if act == "pay":
        options = {"threads": 1, "lease": LEASE, **options}
    assert killable.run(act, crash_at=f"{point}:{passes}", **options) == KILLED, f"{point} was not passed"
    crashed.add(point)


def run_of(world: World, n: int) -> PayoutRun:
    for place in range(n):
        contributor = world.contributor(outcome=None) if len(world.contributors) < n else world.contributors[place]
        if not hasattr(contributor, "payout_account"):
            world.onboard(contributor)
        world.credit(contributor, 1_000 + place)
    return world.executing()


def end_leases(run: PayoutRun) -> None:
    run.payouts.filter(state__in=Payout.LIVE).update(lease_until=run.created_at)


def settle(world: World, killable: Workers, run: PayoutRun) -> None:
    """Let healthy workers finish, and see that everything agrees."""
    end_leases(run)
    assert killable.run("pay", run_id=run.pk, lease=LEASE) == 0
    assert world.sandbox is not None
    assert disagreements(world.sandbox, run) == []
    assert set(run.payouts.values_list("state", flat=True)) == {"transferred"}
    assert comparison.reconcile_run(run=run, at=world.at).is_clean
    run.refresh_from_db()
    assert run.state == PayoutRun.State.RECONCILED


def test_death_at_every_point_of_paying_pays_once(
    committed_world: World, stripe_sandbox: StripeSandbox, killable: Workers
) -> None:
    world = committed_world
    world.fund(1_000_000)

    # The first try.
    run = run_of(world, len(WHILE_PAYING))
    for point in WHILE_PAYING:
        crash(killable, "pay", point, run_id=run.pk)
    settle(world, killable, run)

    # A retry: Stripe answered 429 to the first request, so that the second pass of each point is a retry's.
    run = run_of(world, len(WHILE_PAYING))
    for point in (P.LIMITER_PASSED, P.REQUEST_SENT, P.ANSWER_READ):
        stripe_sandbox.queue_faults("429")
        crash(killable, "pay", point, 2, run_id=run.pk)
    for point in (P.LOOK_UP_SENT, P.LOOK_UP_ANSWERED, P.RESULT_WRITTEN, P.RESULT_POSTED, P.RESULT_COMMITTED):
        stripe_sandbox.queue_faults("429")
        crash(killable, "pay", point, run_id=run.pk)
    stripe_sandbox.clear_faults()
    settle(world, killable, run)

    # Recovery: every payout was claimed and written down by a worker that died before it sent, or right after.
    run = run_of(world, len(WHILE_PAYING))
    for place in range(len(WHILE_PAYING)):
        crash(killable, "pay", P.LIMITER_PASSED if place % 2 else P.REQUEST_SENT, run_id=run.pk)
    assert not run.payouts.filter(state=Payout.State.APPROVED).exists()
    for point in (P.LOOK_UP_SENT, P.LOOK_UP_ANSWERED, *WHILE_PAYING[2:]):
        end_leases(run)
        crash(killable, "pay", point, run_id=run.pk)
    settle(world, killable, run)

    # A key with a stored failure as its answer: the attempt is void before the next one begins.
    run = run_of(world, 1)
    stripe_sandbox.queue_faults("500_before")
    crash(killable, "pay", P.VOID_WRITTEN, run_id=run.pk)
    settle(world, killable, run)
    attempts = PayoutAttempt.objects.filter(payout__run=run).order_by("number")
    assert [attempt.state for attempt in attempts] == ["void", "succeeded"]
    assert crashed == {*WHILE_PAYING, *WHILE_RECOVERING}


def test_death_around_execution_loses_nothing(
    committed_world: World, stripe_sandbox: StripeSandbox, killable: Workers
) -> None:
    world = committed_world
    world.fund(100_000)
    contributor = world.contributor(1_000)
    world.contributor(2_000)

    run = world.in_review()
    crash(killable, "approve", P.APPROVAL_WRITTEN, run_id=run.pk, by=world.checker.pk)
    run.refresh_from_db()
    assert run.state == PayoutRun.State.IN_REVIEW
    assert killable.run("approve", run_id=run.pk, by=world.checker.pk) == 0
    crash(killable, "start", P.START_WRITTEN, run_id=run.pk, by=world.checker.pk)
    run.refresh_from_db()
    assert run.state == PayoutRun.State.APPROVED
    assert killable.run("start", run_id=run.pk, by=world.checker.pk) == 0

    crash(killable, "sweep", P.SWEEP_BEGUN)
    # One answer is lost with the worker; the webhook brings it, through two deaths of its own.
    crash(killable, "pay", P.REQUEST_SENT, run_id=run.pk)
    payout = run.payouts.get(contributor=contributor)
    event = _event_of(stripe_sandbox, payout)
    signature = webhooks.sign(event.encode(), stripe_sandbox.webhook_secret, timestamp=int(time.time()))
    crash(killable, "receive", P.WEBHOOK_STORED, body=event, signature=signature)
    assert killable.run("receive", body=event, signature=signature) == 0
    stored = WebhookEvent.objects.get()
    crash(killable, "apply", P.WEBHOOK_APPLYING, event_id=stored.pk)
    crash(killable, "apply", P.WEBHOOK_APPLIED, event_id=stored.pk)
    payout.refresh_from_db()
    assert payout.state == Payout.State.SENDING
    assert killable.run("apply", event_id=stored.pk) == 0
    payout.refresh_from_db()
    assert payout.state == Payout.State.TRANSFERRED
    end_leases(run)
    assert killable.run("pay", run_id=run.pk, lease=LEASE) == 0

    crash(killable, "reconcile", P.RECONCILIATION_WRITTEN, run_id=run.pk)
    assert killable.run("reconcile", run_id=run.pk) == 0
    run.refresh_from_db()
    assert run.state == PayoutRun.State.RECONCILED

    crash(killable, "reverse", P.REVERSAL_COMMITTED, payout_id=payout.pk, by=world.checker.pk)
    _recover_reversal(killable, payout, 100)
    crash(killable, "reverse", P.REVERSAL_ANSWERED, payout_id=payout.pk, by=world.checker.pk)
    _recover_reversal(killable, payout, 200)
    assert disagreements(stripe_sandbox, run) == []
    assert stripe_sandbox.audit()["reversals"] == 2
    assert crashed == {*AROUND, P.REQUEST_SENT}


def _recover_reversal(killable: Workers, payout: Payout, total: int) -> None:
    """The lease of a reversal is a minute long; here it is cut short as if that minute had passed."""
    Payout.objects.filter(pk=payout.pk).update(lease_until=payout.created_at)
    assert killable.run("recover_reversals", lease=LEASE) == 0
    payout.refresh_from_db()
    assert payout.reversed_minor == total
    assert payout.reversals.count() == total // 100


def _event_of(sandbox: StripeSandbox, payout: Payout) -> str:
    # The worker died with its request on the wire; the sandbox takes a moment to carry it out.
    end = time.monotonic() + 20
    while not (found := calls.find_transfers(payout.transfer_group)):
        assert time.monotonic() < end
        time.sleep(0.05)
    (transfer,) = found
    listed = requests.get(
        f"{sandbox.url}/v1/events?limit=100&type=transfer.created", auth=(sandbox.key, ""), timeout=10
    ).json()["data"]
    return json.dumps(next(event for event in listed if event["data"]["object"]["id"] == transfer.id))


def test_every_crash_point_has_a_test() -> None:
    """The two tests above each see that their lists were crashed at; together the lists are all points."""
    assert {*WHILE_PAYING, *WHILE_RECOVERING, *AROUND, *ON_THE_BANK_RAIL} == set(CrashPoint)
    assert len(CrashPoint) >= 14
