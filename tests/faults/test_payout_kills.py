"""Workers killed and stopped at random while Stripe fails in every way it can: nobody is paid twice, nobody is lost.

The same trial is run on two ways of paying that are known to be unsafe, and must catch them; otherwise it would prove
nothing about the safe one.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection

from payouts.attempts import pace
from payouts.models import Payout, PayoutRun
from payouts.operations import approval, closing
from payouts.queries import payees
from payouts.rails.stripe import calls
from payouts.reconciliation import bank_payouts, comparison
from tests.faults.workers import Workers, disagreements, forget_keys
from tests.worlds.world import SEEN, World

# Twenty hours and a day, in seconds.
SAFE_REPLAY, KEYS_KEPT = 3.0, 9.0
FAULTS = {
    "drop_before": 0.03,
    "drop_after": 0.06,
    "500_before": 0.03,
    "500_after": 0.06,
    "429": 0.03,
    "409": 0.03,
    "400": 0.01,
    "slow": 0.02,
    "timeout": 0.02,
}
# After the kills the faults go on until each has happened, for so many rounds at most.
MORE_FAULTS_ROUNDS = 5
# So many of the bank payouts that follow do not arrive.
BANK_FAILURES = 0.2
BANKS_WATCHED = 40


@dataclass
class Trial:
    """The disturbances of the workers, so that a quiet trial is not taken for a passed one."""

    kills: int = 0
    stops: int = 0
    decisions: int = 0
    resumes: int = 0
    bank_failures: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    disagreements: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)


@contextmanager
def forgetting_and_resuming(world: World, run: PayoutRun, told: Trial) -> Iterator[None]:
    """Throughout the block, Stripe forgets keys after a while, and a person at the console resumes paused runs."""
    done = threading.Event()

    def live() -> None:
        try:
            while not done.wait(0.3):
                forget_keys(KEYS_KEPT)
                told.resumes += _resume(world, run)
        finally:
            connection.close()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _resume(world: World, run: PayoutRun) -> int:
    now = PayoutRun.objects.get(pk=run.pk)
    if now.state != PayoutRun.State.PAUSED or now.is_frozen:
        return 0
    approval.resume_run(run=now, by=world.checker, at=datetime.now(UTC), seen=SEEN)
    return 1


def trial(
    world: World, killable: Workers, *, payouts: int, kills: int, stops: int, way: str, seed: int, outages: int = 1
) -> Trial:
    """Execute one run of `payouts` people with short-lived workers. Then people make the decisions that no machine may
    make, and everything is compared."""
    sandbox = world.sandbox
    assert sandbox is not None
    chance = random.Random(seed)
    told = Trial()
    world.crowd(payouts)
    for place, contributor in enumerate(world.contributors):
        world.credit(contributor, 1_000 + place)
    world.fund(sum(range(1_000, 1_000 + payouts)))
    run = world.executing()
    sandbox.control(
        "POST",
        "faults",
        {"seed": seed, "path": "/v1/transfers", "method": "POST", "seconds": 0.3, "probabilities": FAULTS},
    )
    sandbox.queue_faults("500_after", "drop_after", "500_before", *FAULTS, seconds=0.3)
    options: dict[str, Any] = {"run_id": run.pk, "way": way, "safe_replay": SAFE_REPLAY, "seconds": KEYS_KEPT + 3}
    # Slow enough that there is something left to lose at every kill.
    slowly = {**options, "rate": payouts / 6}
    with forgetting_and_resuming(world, run, told):
        todo = ["kill"] * kills + ["stop"] * stops
        chance.shuffle(todo)
        rest = {len(todo) * (place + 1) // (outages + 1) for place in range(outages)}
        for number, deed in enumerate(todo):
            pid = killable.fork("pay", threads=3, **slowly)
            _until_some_are_sent(run, chance.randint(1, max(2, 2 * payouts // len(todo))))
            time.sleep(chance.uniform(0.0, 0.1))
            if deed == "stop":
                # Longer than a lease: when it wakes, another worker has long taken over.
                os.kill(pid, signal.SIGSTOP)
                other = killable.fork("pay", threads=3, **slowly)
                time.sleep(chance.uniform(1.6, 2.5))
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.3)
                killable.kill(other)
                told.stops += 1
            killable.kill(pid)
            told.kills += 1
            if number in rest:
                # Nobody works for longer than Stripe remembers a key.
                time.sleep(KEYS_KEPT + 2)
        for number in range(20):
            if number and (number > MORE_FAULTS_ROUNDS or set(FAULTS) <= set(sandbox.audit()["requests"])):
                sandbox.clear_faults()
            # A lease that a busy machine cannot keep is given back unsent, for ever: each round has a longer one.
            killable.run("pay", threads=4, lease=1.5 * (1 + number), **options)
            told.decisions += _decide(world, run)
            told.duplicates = sandbox.audit()["duplicates"]
            if told.duplicates or not run.payouts.filter(state__in=Payout.LIVE).exists():
                break
    told.disagreements = disagreements(sandbox, run)
    audited = sandbox.audit()
    told.duplicates, told.requests = audited["duplicates"], audited["requests"]
    if way == "as_designed" and not told.disagreements:
        assert comparison.reconcile_run(run=run, at=datetime.now(UTC)).is_clean
        told.bank_failures = _follow_to_the_bank(world, run)
        assert disagreements(sandbox, run) == []
        assert comparison.reconcile_run(run=run, at=datetime.now(UTC)).is_clean
    return told


def _follow_to_the_bank(world: World, run: PayoutRun) -> int:
    """Days pass, and some banks send money back; our rows follow. Returns how many failed."""
    sandbox = world.sandbox
    assert sandbox is not None
    sandbox.set_faults({"payout_fail:account_closed": BANK_FAILURES})
    sandbox.advance(days=4)
    seen = set()
    for payout in run.payouts.filter(state=Payout.State.TRANSFERRED).order_by("pk")[:BANKS_WATCHED]:
        (bank,) = sandbox.client().v1.payouts.list({}, {"stripe_account": payout.destination}).data
        bank_payouts.sync_bank_payout(account=payout.account, payout_id=bank.id, at=datetime.now(UTC))
        payout.refresh_from_db()
        assert payout.state == {"paid": "settled", "failed": "bank_failed"}[bank.status]
        seen.add(payout.pk)
    return Payout.objects.filter(pk__in=seen, state=Payout.State.BANK_FAILED).count()


def _until_some_are_sent(run: PayoutRun, more: int, seconds_max: float = 8.0) -> None:
    """Wait until Stripe has made `more` transfers for the run. A worker's life is measured in transfers, so that a busy
    machine does not make the trial a quiet one. Measured in written rows, a worker would die before anything went wrong
    on the wire."""
    goal, end = _transfers_made() + more, time.monotonic() + seconds_max
    workable = run.payouts.filter(state__in=Payout.LIVE, needs_person_since__isnull=True)
    while _transfers_made() < goal and workable.exists() and time.monotonic() < end:
        time.sleep(0.02)


def _transfers_made() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM stripe_sandbox_transfer")
        return int(cursor.fetchone()[0])


def _decide(world: World, run: PayoutRun) -> int:
    """Decide as the person at the console: a transfer that Stripe lists was paid, any other was not.

    Returns the number of decisions.
    """
    decided = 0
    for payout in payees.needs_person().filter(run=run):
        found = calls.find_transfers(payout.transfer_group)
        closing.decide_unknown(
            payout=payout,
            paid_transfer_id=found[0].id if found else None,
            by=world.checker,
            note="looked at Stripe",
            at=datetime.now(UTC),
            seen=SEEN,
            pace=pace.Pace(after_lease=0.1),
        )
        decided += 1
    return decided


def test_workers_that_are_killed_at_random_pay_everybody_once(committed_world: World, killable: Workers) -> None:
    told = trial(committed_world, killable, payouts=60, kills=7, stops=2, way="as_designed", seed=7)
    assert told.disagreements == []
    assert told.duplicates == []
    assert told.kills == 9
    run = PayoutRun.objects.get()
    assert run.state == PayoutRun.State.RECONCILED
    assert set(run.payouts.values_list("state", flat=True)) <= {"transferred", "settled", "bank_failed"}
    assert told.bank_failures > 0
    assert set(FAULTS) <= set(told.requests), "every fault happened"


def test_the_trial_catches_a_new_key_for_each_retry(committed_world: World, killable: Workers) -> None:
    told = trial(committed_world, killable, payouts=25, kills=2, stops=0, way="new_key_each_time", seed=7, outages=0)
    assert told.duplicates
    assert told.disagreements


def test_the_trial_catches_one_key_sent_blindly(committed_world: World, killable: Workers) -> None:
    told = trial(committed_world, killable, payouts=25, kills=3, stops=0, way="one_key_blindly", seed=7)
    assert told.duplicates
    assert told.disagreements


@pytest.mark.full
@pytest.mark.timeout(3400)
@pytest.mark.parametrize("way", ["new_key_each_time", "one_key_blindly"])
def test_the_trial_catches_the_unsafe_ways_at_full_size_too(
    committed_world: World, killable: Workers, way: str
) -> None:
    told = trial(committed_world, killable, payouts=1_000, kills=16, stops=4, way=way, seed=1, outages=2)
    assert told.duplicates
    assert told.disagreements


@pytest.mark.full
@pytest.mark.timeout(3400)
@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand_payouts_and_two_hundred_kills(
    committed_world: World, killable: Workers, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tenth of the goal each: 1,000 payouts, 20 kills, 4 of them of a worker that was stopped first."""
    began = time.monotonic()
    told = trial(committed_world, killable, payouts=1_000, kills=16, stops=4, way="as_designed", seed=seed, outages=2)
    with capsys.disabled():
        print(f"\n{seed}: {time.monotonic() - began:.0f} s {told}")
    assert told.disagreements == []
    assert told.duplicates == []
    assert told.kills == 20
    assert set(FAULTS) <= set(told.requests)
    assert told.bank_failures > 0
