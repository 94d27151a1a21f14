"""The bank rail killed at any point: one file for an order, one booking for a line of the bank's report, no loss."""

from __future__ import annotations

import csv
import io
import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.db.models import Sum

from ledger import journal
from ledger.journal import AccountKey
from ledger.money import from_minor
from ledger.queries import invariants
from payouts.crashpoints import CrashPoint
from payouts.models import BankFile, BankLine, Payout, PayoutAttempt, PayoutRun, Rail
from payouts.operations import approval, bank_files, bank_reports, banks, building, runs
from payouts.queries import balances
from payouts.reconciliation.banks import reconcile_bank_run
from tests.faults.workers import Workers
from tests.worlds.world import ADDRESS, SEEN, World

P = CrashPoint
ON_THE_BANK_RAIL = [
    P.BANK_FILE_WRITTEN,
    P.BANK_FILE_ORDERED,
    P.BANK_FILE_MARKED,
    P.BANK_LINE_WRITTEN,
    P.BANK_LINE_BOOKED,
    P.BANK_LINE_COMMITTED,
]
KILLED = -signal.SIGKILL
PAID_FROM = "DE89370400440532013000"


@pytest.fixture(autouse=True)
def _programme_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here and in the workers."""
    monkeypatch.setenv("PROGRAMME_ACCOUNTS", f"USD={PAID_FROM}")
    monkeypatch.setattr(settings, "PROGRAMME_ACCOUNTS", {"USD": PAID_FROM})
    monkeypatch.setenv("BANK_DETAILS_KEYS", "a key of this test")
    monkeypatch.setattr(settings, "BANK_DETAILS_KEYS", ["a key of this test"])


def executing(world: World, payees: int) -> PayoutRun:
    for place in range(payees):
        contributor = world.contributor(7_000 + place, outcome=None, country="BR")
        banks.record_bank_details(
            contributor=contributor,
            holder_name="A",
            iban="GB33BUKB20201555555555",
            address=ADDRESS,
            by=world.owner,
            at=world.at,
        )
    run = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )
    run = world.approve(runs.submit_run(run=run, by=world.maker, at=world.at, seen=SEEN))
    return approval.start_execution(run=run, by=world.checker, at=world.at, seen=SEEN)


def table(payouts: list[Payout], outcome: Callable[[int], str] = lambda place: "executed", mark: str = "") -> str:
    """The bank's report on these payouts, as its CSV is read."""
    text = io.StringIO()
    rows = csv.DictWriter(text, list(bank_reports.COLUMNS))
    rows.writeheader()
    for place, payout in enumerate(payouts):
        rows.writerow(
            {
                "end_to_end_id": payout.public_id.hex,
                "amount": f"{payout.amount_minor / 100:.2f}",
                "currency": "USD",
                "outcome": outcome(place),
                "booked_on": datetime.now(UTC).date().isoformat(),
                "reference": f"B{mark}{payout.pk}",
                "reason": "" if outcome(place) == "executed" else "AC04 closed",
            }
        )
    return text.getvalue()


def all_is_well(world: World, run: PayoutRun, bank_before: int) -> None:
    """Attempts, lines, states and the ledger agree after every kill; every invariant of the books holds."""
    attempts = PayoutAttempt.objects.filter(payout__run=run)
    assert not attempts.filter(bank_file__isnull=True).exists()
    for file in run.bank_files.all():
        assert file.attempts.count() == file.n_payments
    lines = BankLine.objects.filter(attempt__payout__run=run)

    def units(kind: str) -> int:
        return from_minor(lines.filter(kind=kind).aggregate(sum=Sum("amount_minor"))["sum"] or 0, "USD")

    paid = run.payouts.filter(state__in=[Payout.State.SETTLED, Payout.State.REVERSED])
    assert paid.count() == lines.filter(kind="executed").count()
    # Of an asset, a positive line is a credit: money that left.
    assert bank(world) == bank_before + units("executed") - units("returned")
    transit = balances.ledger_in_transit("USD", Rail.MANUAL_BANK_FILE)
    assert transit == balances.live_in_transit("USD", Rail.MANUAL_BANK_FILE)
    under_way = run.payouts.filter(state=Payout.State.SENDING).aggregate(sum=Sum("amount_minor"))["sum"] or 0
    assert transit == from_minor(under_way, "USD")
    assert {result.name: result.rows for result in invariants.check_all() if result.rows} == {}


def bank(world: World) -> int:
    return journal.balance(AccountKey("bank", world.currency))


def nothing_was_ordered(run: PayoutRun) -> None:
    assert not BankFile.objects.filter(run=run, state="made").exists()
    assert not PayoutAttempt.objects.filter(payout__run=run, state="sent").exists()
    assert set(run.payouts.values_list("state", flat=True)) == {"approved"}
    assert balances.ledger_in_transit("USD", Rail.MANUAL_BANK_FILE) == 0


def test_death_at_every_point_of_the_bank_rail_orders_and_books_once(committed_world: World, killable: Workers) -> None:
    world, before = committed_world, bank(committed_world)
    maker, checker, other = world.maker.pk, world.checker.pk, world.second_checker.pk
    run = executing(world, 6)
    crashed: set[CrashPoint] = set()

    def crash(act: str, point: CrashPoint, passes: int = 1, **options: Any) -> None:
        assert killable.run(act, crash_at=f"{point}:{passes}", **options) == KILLED, f"{point} was not passed"
        crashed.add(point)
        all_is_well(world, run, before)

    # The file: all of it or nothing.
    for point in (P.BANK_FILE_WRITTEN, P.BANK_FILE_ORDERED):
        crash("export", point, run_id=run.pk, by=maker)
        nothing_was_ordered(run)
    assert killable.run("export", run_id=run.pk, by=maker) == 0
    first = BankFile.objects.get()
    assert killable.run("export", run_id=run.pk, by=maker) == 1, "nothing is left to order"

    # Withdrawn, with a death in between, and ordered again: still one live order for each.
    crash("withdraw", P.VOID_WRITTEN, 4, file_id=first.pk, by=other)
    first.refresh_from_db()
    assert (first.state, PayoutAttempt.objects.filter(state="sent").count()) == ("made", 6)
    assert killable.run("withdraw", file_id=first.pk, by=other) == 0
    nothing_was_ordered(run)
    assert killable.run("export", run_id=run.pk, by=maker) == 0
    file = BankFile.objects.get(state="made")
    crash("hand_over", P.BANK_FILE_MARKED, file_id=file.pk, by=maker)
    assert killable.run("hand_over", file_id=file.pk, by=maker) == 0

    # The report: each line stands with its booking, or neither does.
    payouts = list(run.payouts.order_by("pk"))
    told = table(payouts, lambda place: "rejected" if place == 4 else "executed")
    for stored, (point, passes) in enumerate(
        [
            (P.BANK_LINE_WRITTEN, 1),
            (P.BANK_LINE_COMMITTED, 1),
            (P.BANK_LINE_BOOKED, 1),
            (P.BANK_LINE_WRITTEN, 2),
            (P.BANK_LINE_BOOKED, 3),
            (P.BANK_LINE_COMMITTED, 5),
        ]
    ):
        # A stored line passes no point of its own again, but counts as a line that was read.
        crash("report", point, passes, table=told, by=checker)
        assert BankLine.objects.count() == (0, 1, 1, 2, 4, 5)[stored]
    for _ in range(2):
        assert killable.run("report", table=told, by=checker) == 0
        assert BankLine.objects.count() == 6
        all_is_well(world, run, before)

    # One comes back days later, with two deaths.
    back = table([payouts[0]], lambda place: "returned", mark="R")
    for point in (P.BANK_LINE_WRITTEN, P.BANK_LINE_BOOKED):
        crash("report", point, table=back, by=checker)
        assert BankLine.objects.filter(kind="returned").count() == 0
    for _ in range(2):
        assert killable.run("report", table=back, by=checker) == 0
    all_is_well(world, run, before)
    assert world.payable(payouts[0].contributor) == from_minor(payouts[0].amount_minor, "USD")
    assert reconcile_bank_run(run=run, at=datetime.now(UTC)).is_clean
    assert crashed == {*ON_THE_BANK_RAIL, P.VOID_WRITTEN}


@pytest.mark.parametrize(
    ("payees", "growth"), [(40, 1.5), pytest.param(600, 1.08, marks=pytest.mark.full)], ids=["small", "full"]
)
def test_writers_and_readers_of_bank_files_killed_at_random_order_and_book_once(
    committed_world: World, killable: Workers, payees: int, growth: float
) -> None:
    """Two at a time, each pair living a little longer than the one before, until the work is done in spite of it."""
    world, before, chance = committed_world, bank(committed_world), random.Random(payees)
    run = executing(world, payees)
    maker, checker = world.maker.pk, world.checker.pk

    def until(is_done: Callable[[], bool], act: str, **options: Any) -> int:
        kills, life = 0, 0.03
        while not is_done():
            pair = [killable.fork(act, **options), killable.fork(act, **options)]
            time.sleep(chance.uniform(life / 2, life))
            for pid in pair:
                # It may have ended by itself, or been refused because the other one was first.
                if killable.wait(pid, 0) is None:
                    killable.kill(pid)
                    kills += 1
            life *= growth
            all_is_well(world, run, before)
            assert BankFile.objects.filter(run=run).count() <= 1
        return kills

    killed = until(lambda: BankFile.objects.exists(), "export", run_id=run.pk, by=maker)
    assert killed >= 2
    file = BankFile.objects.get()
    assert (file.n_payments, PayoutAttempt.objects.count()) == (payees, payees)
    content = bank_files.read_bank_file(file=file, by=world.maker, at=datetime.now(UTC), seen=SEEN)
    assert content.count(b"<EndToEndId>") == payees
    assert killable.run("hand_over", file_id=file.pk, by=maker) == 0

    told = table(list(run.payouts.order_by("pk")), lambda place: "rejected" if place % 7 == 3 else "executed")
    killed += until(lambda: BankLine.objects.count() == payees, "report", table=told, by=checker)
    assert killed >= 6
    assert killable.run("report", table=told, by=checker) == 0
    all_is_well(world, run, before)
    assert set(run.payouts.values_list("state", flat=True)) == {"settled", "held"}
    assert reconcile_bank_run(run=run, at=datetime.now(UTC)).is_clean
