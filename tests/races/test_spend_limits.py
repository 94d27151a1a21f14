"""A limit of a month's charges while many reports arrive: the stop is not exact, and no accepted report is free."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from attribution.models import Generation, ModelVersion, ReportStop
from attribution.operations.reports import report_generations
from ledger.models import Accrual
from ledger.operations.limits import set_limit
from ledger.queries.limits import limits_of
from tests.databases import CommittedDatabase
from tests.worlds.world import PRICE, World, build_world

THREADS, REPORTS = 6, 40


@pytest.fixture
def world(committed_database: CommittedDatabase) -> World:
    made = build_world(datetime.now(UTC))
    assert made.index.model_version_id
    ModelVersion.objects.update(state="ready")
    set_limit(service=made.service, currency="USD", amount="1.00", at_limit="refuse", at=made.at)
    return made


def test_reports_after_the_stop_are_refused_and_all_accepted_ones_are_charged(world: World) -> None:
    answers: list[tuple[float, int]] = []
    stopped: list[float] = []
    ready = threading.Barrier(THREADS + 1)

    def report(place: int) -> None:
        ready.wait()
        for number in range(REPORTS):
            body = {
                "external_id": f"t{place}-{number}",
                "model_version": world.index.model_version.name,
                "occurred_at": (world.at - timedelta(minutes=1)).isoformat(),
                "output": {"text": "text"},
            }
            began = time.monotonic()
            (result,) = report_generations(service=world.service, generations=[body], at=datetime.now(UTC))
            answers.append((began, result.status))
        connections.close_all()

    threads = [threading.Thread(target=report, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.wait()
    while any(thread.is_alive() for thread in threads):
        sweep(world)
        if not stopped and ReportStop.objects.exists():
            stopped.append(time.monotonic())
    for thread in threads:
        thread.join()
    sweep(world)
    assert stopped, "The limit was never reached."
    accepted = [began for began, status in answers if status == 201]
    assert {status for began, status in answers if began > stopped[0]} <= {402}
    assert {status for _, status in answers} == {201, 402}
    # More than the limit: each was accepted before the stop, and is charged.
    assert len(accepted) >= 20
    assert len(accepted) == Generation.objects.count() == Accrual.objects.count()
    assert limits_of(world.service, at=world.at)[0].spent == len(accepted) * PRICE


def sweep(world: World) -> None:
    world.attribute(list(Generation.objects.filter(state="received")))
    world.accrue_all()
