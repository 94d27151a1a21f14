"""A worker that dies in the middle of a batch: nothing is lost, nothing is done twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db.models import Count

from attribution.models import Attribution, Generation
from ledger.models import Accrual
from ledger.money import PPB, parse_amount
from ledger.operations import periods, plans
from ledger.queries import invariants
from people.operations import users
from people.operations.proposals import approve
from tests.attribution.conftest import committed, indexed_database, trained
from tests.coverage import unmeasured
from tests.worlds.trained import Committed

__all__ = ["committed", "indexed_database", "trained"]

GENERATIONS = 480
KILLS = 4


def adopt_plan(committed: Committed) -> None:
    at = committed.programme.at
    maker, checker = (
        users.register_user(
            email=f"{name}@finance.example",
            password="a long enough phrase",
            name=name,
            at=at,
            roles=[f"finance_{name}"],
        )
        for name in ("maker", "checker")
    )
    periods.open_periods(at=at)
    plan = plans.propose_plan(
        by=maker,
        currency="USD",
        effective_from=at - timedelta(days=20),
        at=at,
        terms={"basis": "price", "price": parse_amount("0.05", "USD"), "take_ppb": PPB // 5, "floor_ppb": PPB // 5},
    )
    approve(plan, by=checker, at=at)


@contextlib.contextmanager
def running_worker(committed: Committed, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real Celery worker with its own beat; its sweeps alone tell it of work."""
    environment = {
        **unmeasured(committed.environment),
        # A queue of its own: no other test's worker takes these messages, and this one takes none of theirs.
        "BROKER_URL": f"{settings.BROKER_URL}?virtual_host=14",
        "SWEEP_SECONDS": "0.5",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable, "-m", "celery", "-A", "config", "worker", "-Q", "attribution,default", "-c", "2", "--beat",
        "--scheduler", "celery.beat:Scheduler", "--loglevel", "WARNING", "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    with log.open("ab") as output:
        worker = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)


def wait_until(met: Callable[[], bool], log: Path, *, seconds_max: float = 150) -> None:
    deadline = time.monotonic() + seconds_max
    while not met():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.02)


@pytest.mark.timeout(500)
def test_a_worker_killed_in_the_middle_loses_nothing_and_does_nothing_twice(
    committed: Committed, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    adopt_plan(committed)
    programme = committed.programme
    for start in range(0, GENERATIONS, 120):
        programme.report(*(programme.generation(f"g{number}") for number in range(start, start + 120)))

    interrupted = 0
    for kill in range(1, KILLS + 1):
        target = kill * GENERATIONS // (KILLS + 2)
        with running_worker(committed, log):
            wait_until(lambda target=target: Attribution.objects.count() >= target, log)  # type: ignore[misc]
        interrupted += Attribution.objects.count() < GENERATIONS
    # Otherwise nobody was killed at work, and this test would prove nothing.
    assert interrupted >= 2

    with running_worker(committed, log):
        wait_until(lambda: Accrual.objects.count() >= GENERATIONS, log)

    assert Generation.objects.filter(state=Generation.State.ATTRIBUTED).count() == GENERATIONS
    assert not Attribution.objects.values("generation").annotate(n=Count("pk")).exclude(n=1).exists()
    assert Accrual.objects.count() == GENERATIONS
    assert [check.name for check in invariants.check_all() if check.rows] == []
