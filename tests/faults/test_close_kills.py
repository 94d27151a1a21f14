"""A close that is killed (kill -9 of a real process) at any named point, and run again, ends with the same entries."""

from __future__ import annotations

import importlib
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import connection

from contributors.models import PPB
from ledger import crashpoints
from ledger.crashpoints import ClosePoint
from ledger.models import Entry, Line, Period, ReserveInstalment
from ledger.operations import closing, reserves, verbs
from ledger.operations.closing import close_period
from ledger.operations.reserves import release_reserves
from ledger.queries.invariants import check_all
from tests.databases import CommittedDatabase, cloned_database, on_database
from tests.worlds.contracts import advance, terms
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import CENT, build_world

SEPTEMBER = datetime(2026, 9, 28, 12, tzinfo=UTC)
FIRST = date(2026, 9, 1)


@pytest.fixture
def ready(committed_database: CommittedDatabase, monkeypatch: pytest.MonkeyPatch) -> CommittedDatabase:
    """A programme in which October's close has something to do in every step, in several chunks each."""
    monkeypatch.setattr(closing, "CHUNK_CONTRIBUTORS", 2)
    monkeypatch.setattr(reserves, "CHUNK_INSTALMENTS", 2)
    prepare(6)
    return committed_database


def prepare(contributors: int) -> None:
    world = build_world(OCTOBER, contributors=contributors)
    restated = []
    # In every three: one with a guarantee and a reserve, one with a debt and two advances, one that was paid too much.
    for place in range(contributors):
        who, holder = world.contributors[place].pk, world.holders[place].pk
        one = [PPB if n == place else 0 for n in range(contributors)]
        others = [PPB if n == (place + 1) % contributors else 0 for n in range(contributors)]
        if place % 3 == 0:
            terms(world, "book", place=place, begins=FIRST, covers_rest=True, guarantee=90 * CENT,
                  guarantee_currency="USD", reserve_ppb=PPB // 3, release_months=[1, 2],
                  release_ppb=[333_333_333, 666_666_667])  # fmt: skip
        elif place % 3 == 1:
            terms(world, "solo", place=place, begins=FIRST, holder_ids=[holder], recoup_group="all")
            terms(world, "past", place=place, begins=FIRST, recoup_group="all", cross_recoup=True, recoup_order=1)
        made = world.generate(2, occurred_at=SEPTEMBER)
        world.attribute(made, shares=one, general=one)
        world.accrue_all()
        if place % 3 == 2:
            world.attribute(made, shares=others, general=others, revision=2)
            restated.append((made, others, one))
        world.attribute(world.generate(2), shares=one, general=one)
    close_period(period=202609, at=OCTOBER)
    # The restatement changes the sum that September's base pool gave by general shares.
    for made, shares, general in restated:
        world.attribute(made, shares=shares, general=general, revision=3)
    for place in range(1, contributors, 3):
        who = world.contributors[place].pk
        for code in ("solo", "past"):
            advance(world, code, CENT, place=place)
        verbs.post_verb(
            verb="absorb_deficit", contributor_id=who, amount=CENT, currency="USD", reference=f"d{place}", at=OCTOBER
        )
    world.accrue_all()


@contextmanager
def undisturbed(template: CommittedDatabase) -> Iterator[None]:
    with cloned_database(template.name) as clone, on_database(clone.name):
        yield


def close(at: datetime = NOVEMBER) -> None:
    close_period(period=202610, at=at)
    release_reserves(at=at)


def killed_close(point: ClosePoint | None, passes: int = 1) -> int:
    """Close in a process of its own that dies at a point; returns how it ended, a negative number for a signal."""
    connection.close()
    child = os.fork()
    if child == 0:
        try:
            os.environ["TRIBUTARY_CLOSE_CRASH_AT"] = f"{point}:{passes}" if point else ""
            importlib.reload(crashpoints)
            close()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome() -> tuple[Any, ...]:
    """Everything that a close leaves behind, but for when and under which numbers of accounts."""
    lines: dict[int, list[tuple[str, int, int]]] = {}
    for line in Line.objects.select_related("account__asset"):
        account = line.account
        name = f"{account.kind} {account.asset.code} {account.owner} {account.contract}"
        lines.setdefault(line.entry_id, []).append((name, line.amount, line.balance_after))
    entries = [
        (
            e.pk,
            e.idem_key,
            e.kind,
            e.effective,
            e.period_id,
            e.earned_period_id,
            e.reference,
            sorted(lines.get(e.pk, ())),
        )
        for e in Entry.objects.order_by("id")
    ]
    held = list(
        ReserveInstalment.objects.order_by("period_id", "contract_id", "due_on").values_list(
            "contract_id", "amount", "due_on", "held_entry_id", "released_entry_id"
        )
    )
    return entries, held, list(Period.objects.order_by("id").values_list("id", "state"))


def the_books_hold() -> None:
    assert {r.name: r.rows for r in check_all() if r.rows} == {}


def test_a_close_killed_at_any_point_and_run_again_ends_as_an_undisturbed_one(ready: CommittedDatabase) -> None:
    with undisturbed(ready):
        close()
        expected = outcome()
        the_books_hold()
    kinds = {entry[2] for entry in expected[0] if entry[4] == 202610}
    assert {
        "restate_floor",
        "close_guarantee",
        "close_recover",
        "close_recoup",
        "close_reserve",
        "close_payable",
    } <= kinds
    assert any(entry[2] == "release_reserve" for entry in expected[0])
    for point in ClosePoint:
        with undisturbed(ready):
            assert killed_close(point) == -signal.SIGKILL, f"{point} was not passed"
            if point not in (ClosePoint.CLOSED, ClosePoint.RELEASE_POSTED, ClosePoint.RELEASE_COMMITTED):
                assert Period.objects.get(pk=202610).state == "closing"
            assert killed_close(None) == 0
            assert outcome() == expected, point
    the_books_hold()


@pytest.mark.full
def test_a_close_killed_many_times_at_random_ends_as_an_undisturbed_one(
    committed_database: CommittedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pass of every point, and 60 closes that die again and again until one gets through."""
    monkeypatch.setattr(closing, "CHUNK_CONTRIBUTORS", 2)
    monkeypatch.setattr(reserves, "CHUNK_INSTALMENTS", 2)
    prepare(24)
    with undisturbed(committed_database):
        close()
        expected = outcome()
    kills = 0
    for point in ClosePoint:
        for passes in range(1, 100):
            with undisturbed(committed_database):
                ended = killed_close(point, passes)
                kills += ended == -signal.SIGKILL
                assert ended == 0 or killed_close(None) == 0
                assert outcome() == expected, (point, passes)
            if ended == 0:
                break
    drawn = random.Random(11)
    for _ in range(60):
        with undisturbed(committed_database):
            while (ended := killed_close(drawn.choice(list(ClosePoint)), drawn.randint(1, 4))) != 0:
                assert ended == -signal.SIGKILL
                kills += 1
            assert outcome() == expected
            the_books_hold()
    assert kills > 150
