"""The sums of earnings: equal to the documents at any mark, after postings, reversals, kills and concurrent runs."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from django.db import DatabaseError, connection, transaction

from attribution.models import Attribution, Generation
from contributors.models import PPB
from contributors.operations.people import record_split_sheet, register_holder
from contributors.queries.splits import split_of
from ledger.models import Account, Accrual, Earned, EarnedMark, Entry
from ledger.operations import accruals, closing, corrections
from ledger.operations.earned import UnableToSum, sum_all_earnings, sum_earnings
from ledger.queries import earnings
from ledger.queries.earnings import divide_among_works
from ledger.queries.invariants import check_all
from ledger.queries.receipts import ranked_works
from ledger.tasks import sum_earned
from tests.databases import CommittedDatabase
from tests.worlds.archive import detach_documents
from tests.worlds.programme import NOVEMBER as NOVEMBER_NUMBER
from tests.worlds.programme import OCTOBER as OCTOBER_NUMBER
from tests.worlds.programme import Programme
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import World, build_world

Sums = dict[tuple[int, str, int, str, int], tuple[int, int]]
SOURCES = {
    "accrue": "direct", "accrue_pool": "direct", "restate": "direct", "void_generations": "direct",
    "distribute_floor": "floor", "restate_floor": "floor",
    "close_guarantee": "other", "find_owner": "other", "manual": "other",
}  # fmt: skip


def kept() -> Sums:
    return {
        (row.contributor_id, row.by, row.period_id, row.asset.code, row.subject_id): (row.generations, row.amount)
        for row in Earned.objects.select_related("asset")
    }


def of_documents(upto: int | None = None) -> Sums:
    """The same from every line and document one by one, with the division of receipts."""
    sums: dict[tuple[int, str, int, str, int], list[int]] = defaultdict(lambda: [0, 0])
    accounts = {a.pk: a for a in Account.objects.filter(kind="contributor_accrued").select_related("asset")}

    def add(owner: str, by: str, entry: Entry, currency: str, subject: int, generations: int, amount: int) -> None:
        found = sums[int(owner.partition(":")[2]), by, entry.period_id, currency, subject]
        found[0] += generations
        found[1] += amount

    for entry in Entry.objects.order_by("id"):
        if upto is not None and entry.pk > upto:
            break
        for line in entry.lines.filter(account_id__in=accounts):
            if entry.kind in SOURCES:
                account = accounts[line.account_id]
                add(account.owner, SOURCES[entry.kind], entry, account.asset.code, 0, 0, line.amount)
        for document in Accrual.objects.filter(batch_id=entry.batch_id) if entry.batch_id else ():
            credited: dict[tuple[str, str], int] = defaultdict(int)
            for number, units in document.credits.items():
                if number in accounts:
                    credited[accounts[number].owner, accounts[number].asset.code] += units
            sign = 1 if document.revision > 0 else -1
            generation = Generation.objects.get(pk=document.generation_id)
            attribution = Attribution.objects.get(generation=generation, revision=abs(document.revision))
            sheets = split_of([int(holder) for holder in attribution.top_works], generation.occurred_at)
            for (owner, currency), amount in credited.items():
                add(owner, "model", entry, currency, generation.model_version_id, sign, amount)
                own = [holder for holder, sheet in sheets.items() if int(owner.partition(":")[2]) in dict(sheet)]
                works = ranked_works(attribution.top_works, own)
                for work, part in divide_among_works(amount, generation.pk, works):
                    add(owner, "work", entry, currency, work or 0, sign, part)
    return {key: (found[0], found[1]) for key, found in sums.items()}


def read(world: World) -> Sums:
    """The sums and the entries behind their mark, as pages read them."""
    found: Sums = {}
    for contributor in world.contributors:
        for statement, by in (
            (earnings._SOURCES, ("direct", "floor", "other")),
            (earnings._CREDITS, ("model", "work")),
        ):
            for s in earnings._sums(statement, contributor.pk, by):
                found[contributor.pk, s.by, s.period_id, s.currency, s.subject_id] = (s.generations, s.amount)
    return found


def holds(world: World) -> Sums:
    """Check the sums at three marks, and the books; return the sums."""
    expected = of_documents()
    assert expected
    assert read(world) == expected
    sum_earnings(documents=1)
    assert read(world) == expected
    assert kept() == of_documents(EarnedMark.objects.get().upto)
    sum_all_earnings()
    assert kept() == read(world) == expected
    assert {r.name: r.rows for r in check_all() if r.rows} == {}
    return expected


def total(sums: Sums, by: str, period: int | None = None) -> int:
    return sum(amount for (_, b, p, _, _), (_, amount) in sums.items() if b == by and period in (None, p))


def evidence(world: World, seed: int, holders: Sequence[Any] | None = None) -> dict[str, list[tuple[int, float]]]:
    """A few works for each holder, with scores of all sizes, some below zero and some equal."""
    chance = random.Random(seed)
    return {
        str(holder.pk): [
            (10 * holder.pk + n, chance.choice([0.3, -1.5, 0.3, 1e-7, round(chance.random(), 9), 0.0]))
            for n in range(chance.randrange(5))
        ]
        for holder in (holders or world.holders)
    }


def earn(world: World, n: int, *, seed: int = 1, **given: Any) -> list[Generation]:
    made = world.generate(n, **{key: given.pop(key) for key in ("currency", "gross", "occurred_at") if key in given})
    for place, generation in enumerate(made):
        world.attribute([generation], evidence=evidence(world, seed + place, given.get("holders")), **given)
    world.accrue_all()
    return made


@pytest.fixture
def world(db: None, at: datetime) -> World:
    return build_world(OCTOBER)


def test_credits_are_summed_by_source_model_and_work(world: World) -> None:
    earn(world, 12)
    sums = holds(world)
    assert total(sums, "direct") == total(sums, "model") == total(sums, "work") > 0
    assert {by for _, by, _, _, _ in sums} == {"direct", "model", "work"}
    assert len([1 for _, by, _, _, _ in sums if by == "work"]) > 6
    assert sum_earnings() == 0


def test_a_void_takes_a_generation_out_of_every_sum(world: World) -> None:
    first, *_ = earn(world, 3)
    sum_all_earnings()
    before = kept()
    corrections.void_generation(generation=first, reason="refunded", at=world.at)
    after = holds(world)
    assert total(after, "direct") == total(before, "direct") * 2 // 3
    models = [counted for (_, by, _, _, _), (counted, _) in after.items() if by == "model"]
    assert models == [2, 2, 2]


def test_a_void_in_a_later_month_counts_there(world: World) -> None:
    first, *_ = earn(world, 3)
    close_october(world)
    world.at = NOVEMBER
    corrections.void_generation(generation=first, reason="refunded", at=NOVEMBER)
    sums = holds(world)
    assert total(sums, "model", OCTOBER_NUMBER) > 0 > total(sums, "model", NOVEMBER_NUMBER)
    counted = [n for (_, by, period, _, _), (n, _) in sums.items() if by == "model" and period == NOVEMBER_NUMBER]
    assert counted == [-1, -1, -1]


def test_a_restatement_replaces_the_works_of_a_generation(world: World) -> None:
    first, *_ = earn(world, 4)
    sum_all_earnings()
    world.attribute([first], shares=[PPB, 0, 0], revision=2, evidence={str(world.holders[0].pk): [(7777, 0.5)]})
    world.accrue_all()
    sums = holds(world)
    who = world.contributors[0].pk
    assert sums[who, "work", OCTOBER_NUMBER, "USD", 7777][0] == 1
    counted = {c: n for (c, by, _, _, _), (n, _) in sums.items() if by == "model"}
    assert counted == dict(zip([c.pk for c in world.contributors], [4, 3, 3], strict=True))


def test_a_restatement_that_changes_no_amount_moves_the_works(world: World) -> None:
    """Its entry has no line, so that the documents alone tell."""
    made = earn(world, 1)
    before = total(of_documents(), "direct")
    world.attribute(made, revision=2, evidence={str(h.pk): [(5000 + h.pk, 1.0)] for h in world.holders})
    world.accrue_all()
    assert Entry.objects.order_by("id").last().n_lines == 0  # type: ignore[union-attr]
    sums = holds(world)
    assert total(sums, "direct") == before
    assert all((who, "work", OCTOBER_NUMBER, "USD", 5000 + h.pk) in sums
               for who, h in zip([c.pk for c in world.contributors], world.holders, strict=True))  # fmt: skip


def close_october(world: World) -> None:
    for month in (202609, 202610):
        closing.close_period(period=month, at=NOVEMBER)


def test_the_close_adds_the_base_pool_and_no_move_of_its_own(world: World) -> None:
    earn(world, 5)
    sum_all_earnings()
    before = kept()
    close_october(world)
    sums = holds(world)
    assert total(sums, "floor") > 0
    assert {key: value for key, value in sums.items() if key[1] != "floor"} == before


def test_a_pool_divided_at_the_close_is_summed_as_credits(db: None, at: datetime) -> None:
    world = build_world(OCTOBER, plan=False)
    starts = datetime(2026, 10, 1, tzinfo=UTC)
    world.adopt(basis="period_pool", price=None, pool=1_000_000_007, effective_from=starts)
    earn(world, 7, weight_ppb=PPB)
    assert of_documents() == {}
    close_october(world)
    sums = holds(world)
    assert Entry.objects.filter(kind="accrue_pool").exists()
    assert total(sums, "direct") == total(sums, "work") > 0


def test_two_currencies_are_two_sums(world: World) -> None:
    world.adopt(currency="EUR", basis="revenue_share", price=None, rate_ppb=PPB // 3)
    earn(world, 3)
    earn(world, 4, currency="EUR", gross=7_777_777)
    sums = holds(world)
    assert {currency for _, _, _, currency, _ in sums} == {"USD", "EUR"}


def test_co_owned_works_count_for_each_owner_by_its_credit(world: World) -> None:
    ada, ben, _ = world.contributors
    begin = OCTOBER - timedelta(days=30)
    band = register_holder(
        contributor=ada, label="Band", parts={ada: PPB // 3, ben: PPB - PPB // 3}, effective_from=begin, at=begin
    )
    works = {str(band.pk): [(901, 0.7), (902, 0.3)], str(world.holders[0].pk): [(1, 0.1)]}
    made = world.generate(6)
    world.attribute(made, holders=[*world.holders, band], evidence=works)
    world.accrue_all()
    sums = holds(world)
    assert {subject for who, by, _, _, subject in sums if who == ben.pk and by == "work"} == {901, 902}
    assert {subject for who, by, _, _, subject in sums if who == ada.pk and by == "work"} == {1, 901, 902}


def test_a_holder_that_changes_hands_keeps_its_earlier_works_with_the_earlier_owner(world: World) -> None:
    ada, ben, _ = world.contributors
    holder = world.holders[0]
    works = {str(holder.pk): [(55, 1.0)]}
    world.attribute(world.generate(2), holders=[holder], shares=[PPB], general=[PPB], evidence=works)
    world.accrue_all()
    sum_all_earnings()
    record_split_sheet(holder=holder, parts={ben: PPB}, effective_from=world.at, at=world.at)
    later = world.generate(3, occurred_at=world.at + timedelta(minutes=1))
    world.attribute(later, holders=[holder], shares=[PPB], general=[PPB], evidence=works)
    world.at += timedelta(hours=1)
    world.accrue_all()
    sums = holds(world)
    assert sums[ada.pk, "work", OCTOBER_NUMBER, "USD", 55][0] == 2
    assert sums[ben.pk, "work", OCTOBER_NUMBER, "USD", 55][0] == 3


def test_a_later_owner_of_a_holder_gets_no_work_of_an_earlier_credit(world: World) -> None:
    """Ben earned by his own works; a part of Ada's holder, bought later, brings none of its works into that."""
    ada, ben, _ = world.contributors
    made = world.generate(2)
    world.attribute(made, evidence={str(h.pk): [(60 + n, 1.0)] for n, h in enumerate(world.holders)})
    world.accrue_all()
    record_split_sheet(
        holder=world.holders[0], parts={ada: PPB // 2, ben: PPB // 2}, effective_from=world.at, at=world.at
    )
    sums = holds(world)
    assert {subject for who, by, _, _, subject in sums if who == ben.pk and by == "work"} == {61}


# --- the pages' queries -------------------------------------------------------------------------------------------
def test_pages_read_the_same_before_and_after_the_sums_move(accrued: Programme) -> None:
    accrued.attribute(accrued.generate(9, version=1))
    accrued.accrue()

    def all_of(place: int) -> tuple[Any, ...]:
        who = accrued.contributors[place].pk
        return (
            earnings.earnings_by_month(who),
            earnings.earnings_by_model(who, OCTOBER_NUMBER),
            earnings.earnings_by_service(who, OCTOBER_NUMBER),
            earnings.earnings_by_work(who, OCTOBER_NUMBER),
        )

    before = [all_of(place) for place in range(3)]
    assert not Earned.objects.exists()
    assert sum_earned() > 0
    assert [all_of(place) for place in range(3)] == before
    assert all(found[1] and found[3] for found in before)


def test_pages_keep_their_sums_when_the_documents_move_to_an_archive(accrued: Programme) -> None:
    accrued.close()
    who = accrued.contributors[0].pk
    before = earnings.earnings_by_work(who, OCTOBER_NUMBER), earnings.earnings_by_model(who, OCTOBER_NUMBER)
    sum_all_earnings()
    detach_documents()
    assert (earnings.earnings_by_work(who, OCTOBER_NUMBER), earnings.earnings_by_model(who, OCTOBER_NUMBER)) == before
    assert before[0]


def test_an_entry_without_its_documents_is_not_passed(accrued: Programme) -> None:
    accrued.close()
    detach_documents()
    with pytest.raises(UnableToSum, match="Entry 1 lacks its documents"):
        sum_earnings()
    assert not Earned.objects.exists()
    assert sum_earned() == 0
    with pytest.raises(UnableToSum, match="1 document or more, not 0"):
        sum_earnings(documents=0)


# --- guards -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_earned SET amount = 0",
        "DELETE FROM ledger_earned",
        "INSERT INTO ledger_earned VALUES (1, 'direct', 0, 0, 5, 1, 202610)",
        "UPDATE ledger_earnedmark SET upto = 0",
        "DELETE FROM ledger_earnedmark",
    ],
)
def test_nothing_but_its_function_writes_a_sum(world: World, statement: str) -> None:
    earn(world, 1)
    sum_all_earnings()
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


# --- at once, and killed ------------------------------------------------------------------------------------------
def _apart(act: Callable[[], object], errors: list[BaseException]) -> threading.Thread:
    def run() -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_workers_that_accrue_void_and_sum_at_once_lose_and_double_nothing(
    committed_database: CommittedDatabase,
) -> None:
    world = build_world(OCTOBER)
    made = world.generate(60)
    for place, generation in enumerate(made):
        world.attribute([generation], evidence=evidence(world, place))
    errors: list[BaseException] = []
    over = threading.Event()
    seen = 0

    def accrue() -> None:
        while accruals.accrue(at=world.at, limit=2):
            pass

    def void() -> None:
        for generation in made[::7]:
            corrections.void_generation(generation=generation, reason="refunded", at=world.at)

    def add_up() -> None:
        while not over.is_set():
            sum_earnings(documents=3)

    def look() -> None:
        """In one snapshot the three ways to sum agree with the balance, wherever the mark stands."""
        nonlocal seen
        while not over.is_set():
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                found = read(world)
                assert total(found, "direct") == total(found, "model") == total(found, "work")
                owed = sum(world.balance("contributor_accrued", place) for place in range(3))
                assert total(found, "direct") == owed
                seen += 1

    writers = [_apart(accrue, errors), _apart(accrue, errors), _apart(void, errors)]
    others = [_apart(add_up, errors), _apart(add_up, errors), _apart(look, errors)]
    for thread in writers:
        thread.join(120)
    over.set()
    for thread in others:
        thread.join(60)
    assert errors == []
    assert seen > 3
    holds(world)


def test_a_second_worker_does_not_wait_for_the_first(committed_database: CommittedDatabase) -> None:
    world = build_world(OCTOBER)
    earn(world, 1)
    sum_all_earnings()
    earn(world, 2)
    other = psycopg2.connect(committed_database.url)
    with other.cursor() as cursor:
        cursor.execute("SELECT ledger_fold_earned(1)")
        assert cursor.fetchone() == (1,)
        with connection.cursor() as own:
            own.execute("SET lock_timeout = '2s'")
        assert sum_earnings() == 0
        # Neither does an accrual.
        made = world.generate(1)
        world.attribute(made)
        assert world.accrue_all() == 1
    other.rollback()
    other.close()
    holds(world)


KILLED = """
import sys, psycopg2
c = psycopg2.connect(sys.argv[1])
cursor = c.cursor()
cursor.execute("SELECT ledger_fold_earned(1000)")
print(cursor.fetchone()[0], flush=True)
sys.stdin.read()
"""


def test_a_worker_that_is_killed_in_the_middle_leaves_no_half_of_a_sum(committed_database: CommittedDatabase) -> None:
    world = build_world(OCTOBER)
    earn(world, 5)
    sum_all_earnings()
    before = kept()
    earn(world, 4, seed=50)
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, committed_database.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    assert int(worker.stdout.readline()) >= 1
    worker.send_signal(signal.SIGKILL)
    worker.wait(30)
    assert kept() == before
    assert holds(world) != before
