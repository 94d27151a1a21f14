"""A generation that is taken back while a sweep accrues it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from django.db import connection, transaction

from ledger.models import Accrual
from ledger.operations import accruals, corrections
from ledger.queries.invariants import check_all
from tests.databases import CommittedDatabase
from tests.worlds.world import build_world

AT = datetime(2026, 10, 20, 12, tzinfo=UTC)
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def _apart(act: Callable[[], object]) -> threading.Thread:
    """Run it in a thread with a connection of its own."""

    def run() -> None:
        try:
            act()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_void_waits_for_the_sweep_that_accrues_its_generation_and_takes_that_back(
    committed_database: CommittedDatabase,
) -> None:
    world = build_world(AT)
    (generation,) = world.generate(1)
    world.attribute([generation])
    swept, go_on = threading.Event(), threading.Event()

    def sweep() -> None:
        with transaction.atomic():
            assert accruals.accrue(at=AT) == 1
            swept.set()
            assert go_on.wait(30)

    sweeping = _apart(sweep)
    assert swept.wait(30)
    voiding = _apart(lambda: corrections.void_generation(generation=generation, reason="refunded", at=AT))
    deadline = time.monotonic() + 30
    with connection.cursor() as cursor:
        while voiding.is_alive() and time.monotonic() < deadline:
            cursor.execute(WAITING)
            if cursor.fetchone() != (0,):
                break
            time.sleep(0.02)
    go_on.set()
    sweeping.join()
    voiding.join()
    assert sorted(Accrual.objects.values_list("revision", flat=True)) == [-1, 1]
    assert {result.name: result.rows for result in check_all() if result.rows} == {}
