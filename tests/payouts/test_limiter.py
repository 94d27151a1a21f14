"""One limit for all workers: never more than it allows in any second, and half of it after a 429."""

from __future__ import annotations

import threading
import time

import pytest
from django.conf import settings

from payouts import limiter


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
    return max(sum(1 for later in moments if moment <= later < moment + 1) for moment in moments)


@pytest.fixture
def bucket(db: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> limiter.Limit:
    monkeypatch.setattr(settings, "STRIPE_SECRET_KEY", f"sk_test_{time.time_ns()}")
    return limiter.Limit("write", 80.0)


def test_no_second_sees_more_than_the_limit_with_all_that_a_busy_machine_adds(bucket: limiter.Limit) -> None:
    moments = slots(bucket, 160)
    assert busiest_second(moments) <= 80 + limiter.BURST + 80 * limiter.LATE_SECONDS_MAX + 2
    assert moments[-1] - moments[0] >= 160 / 80 - 0.2


def test_a_429_halves_the_rate_for_everybody_once(bucket: limiter.Limit) -> None:
    limiter.take(bucket)
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


def test_without_an_answer_of_the_limiter_nothing_is_sent(
    bucket: limiter.Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "CACHE_URL", "unix:///nowhere/valkey.sock?db=1")
    with pytest.raises(limiter.UnableToTakeSlot, match="did not answer"):
        limiter.take(bucket)
