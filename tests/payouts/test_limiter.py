"""One limit for all workers: never more than Stripe's in any second, and half of it after a 429."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import redis
from django.conf import settings
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from payouts.models import PayoutAttempt
from payouts.rails.stripe import calls, errors, limiter
from tests.worlds.world import World, states

# The code of a worker in another process: takes slots with a few threads and tells when it had each.
WORKER = """
import json, os, sys, threading, time
import django; django.setup()
from django.conf import settings
from django.db import connection
from payouts.rails.stripe import limiter
connection.settings_dict["NAME"], settings.STRIPE_SECRET_KEY, rate, seconds = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
moments, end = [], time.monotonic() + seconds
def take():
    while time.monotonic() < end:
        limiter.take(limiter.Limit("write", rate))
        moments.append(time.monotonic())
threads = [threading.Thread(target=take) for _ in range(8)]
print("ready", flush=True)
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(moments))
"""  # noqa: E501


def slots(bucket: limiter.Limit, n: int, threads: int = 4) -> list[float]:
    taken: list[float] = []

    def take() -> None:
        for _ in range(n // threads):
            limiter.take(bucket)
            taken.append(time.monotonic())

    workers = [threading.Thread(target=take) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sorted(taken)


def busiest_second(moments: list[float]) -> int:
    moments, start, most = sorted(moments), 0, 0
    for place, moment in enumerate(moments):
        while moments[start] <= moment - 1:
            start += 1
        most = max(most, place - start + 1)
    return most


@pytest.fixture
def bucket(db: None, monkeypatch: pytest.MonkeyPatch) -> limiter.Limit:
    """Eighty a second, of a past that is known: a first slot was taken."""
    monkeypatch.setattr(settings, "STRIPE_SECRET_KEY", f"sk_test_{time.time_ns()}")
    made = limiter.Limit("write", 80.0)
    limiter.take(made)
    return made


@pytest.fixture
def forgetful(bucket: limiter.Limit) -> redis.Redis:
    """Return the server's own connection, for causing the damage of an accident."""
    return limiter._client()


@given(rate=st.floats(1, 95))
def test_no_rate_that_may_be_set_admits_more_than_stripe_does(rate: float) -> None:
    """Slots are 1/rate apart but for the burst, and each is used within its moment: so many fit into a second."""
    late = limiter.Limit("write", rate).late_seconds_max
    assert late >= limiter.LATE_SECONDS_MIN
    assert rate * (1 + late) + limiter.BURST + 1 <= limiter.PER_SECOND_MAX + 1e-6


def test_several_processes_one_of_them_stopped_and_woken_never_pass_the_limit(
    bucket: limiter.Limit,
) -> None:
    rate, seconds = 92.0, 5.0
    command = [
        sys.executable,
        "-c",
        WORKER,
        str(connection.settings_dict["NAME"]),
        settings.STRIPE_SECRET_KEY,
        str(rate),
        str(seconds),
    ]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    time.sleep(1.0)
    os.kill(workers[0].pid, signal.SIGSTOP)
    time.sleep(1.5)
    os.kill(workers[0].pid, signal.SIGCONT)
    told = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    assert all(len(moments) > 10 for moments in told), "every process had its share"
    moments = sorted(moment for one in told for moment in one)
    assert len(moments) > 100
    assert busiest_second(moments) <= limiter.PER_SECOND_MAX


def test_threads_together_keep_the_pace(bucket: limiter.Limit) -> None:
    moments = slots(bucket, 160)
    assert busiest_second(moments) <= limiter.PER_SECOND_MAX
    assert moments[-1] - moments[0] >= 160 / 80 - 0.2


def test_a_429_halves_the_rate_for_everybody_once(bucket: limiter.Limit) -> None:
    for _ in range(5):
        limiter.slow_down(bucket)
    moments = slots(bucket, 40)
    assert moments[-1] - moments[0] >= 39 / 44 - 0.1


def test_no_slot_in_time_means_that_nothing_is_sent(bucket: limiter.Limit) -> None:
    slow = limiter.Limit("write", 0.2)
    limiter.take(slow)
    began = time.monotonic()
    with pytest.raises(limiter.UnableToTakeSlot, match="No slot"):
        limiter.take(slow, wait_seconds_max=0.5)
    assert time.monotonic() - began < 2


def test_a_server_that_forgot_what_it_promised_waits_until_no_promise_can_be_left(
    bucket: limiter.Limit, forgetful: redis.Redis
) -> None:
    before = slots(bucket, 80, threads=20)
    forgetful.delete(limiter._key("write"))
    after = slots(bucket, 40)
    assert after[0] - before[-1] >= 0.95
    assert busiest_second(before + after) <= limiter.PER_SECOND_MAX


def test_without_an_answer_of_the_limiter_nothing_is_sent(
    bucket: limiter.Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "CACHE_URL", "unix:///nowhere/valkey.sock?db=1")
    with pytest.raises(limiter.UnableToTakeSlot, match="did not answer"):
        limiter.take(bucket)


def test_a_run_waits_for_a_limiter_that_was_lost_and_then_sends_under_the_same_key(
    paying: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    paying.contributor(1_000)
    run = paying.executing()
    with monkeypatch.context() as lost:
        lost.setattr(settings, "CACHE_URL", "unix:///nowhere/valkey.sock?db=1")
        paying.pay(run)
    assert states(run) == ["sending"]
    attempt = PayoutAttempt.objects.get(payout__run=run)
    assert (attempt.state, attempt.sends, attempt.sends_not_executed) == ("sent", 1, 1)
    assert calls.find_transfers(attempt.payout.transfer_group) == []
    paying.pay(run, seconds=6)
    attempt.refresh_from_db()
    assert (attempt.state, attempt.number) == ("succeeded", 1)


def test_every_request_takes_a_slot_also_one_that_only_reads(paying: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reaches the socket around the limiter: it is asked there, and not where a call is made."""
    monkeypatch.setattr(settings, "CACHE_URL", "unix:///nowhere/valkey.sock?db=1")
    for call in (
        calls.balance,
        lambda: calls.create_topup(
            amount_minor=100, currency="USD", description="x", idempotency_key=f"t{time.time_ns()}"
        ),
    ):
        with pytest.raises(errors.UnableToUseStripe):
            call()
