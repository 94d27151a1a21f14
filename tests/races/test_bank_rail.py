"""Two at once on the manual rail: one file for an attempt, one outcome for an order, handed over or withdrawn."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.conf import settings

from ledger.queries import invariants
from payouts.models import BankFile, BankLine, Payout, PayoutAttempt, PayoutRun
from payouts.operations import approval, bank_files, bank_lines, banks, building, runs
from payouts.queries import balances
from payouts.rails.bank.answers import Reported
from tests.databases import CommittedDatabase
from tests.races.test_payouts import at_once
from tests.worlds.world import ADDRESS, SEEN, World


@pytest.fixture
def world(committed_database: CommittedDatabase, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(settings, "PROGRAMME_ACCOUNTS", {"USD": "DE89370400440532013000"})
    made = World(datetime.now(UTC))
    made.policy()
    return made


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


def test_two_exports_hand_overs_and_reports_race_and_each_order_is_paid_once(world: World) -> None:
    run = executing(world, 8)
    assert world.second_checker.pk

    def export() -> BankFile:
        return bank_files.export_bank_file(run=run, by=world.maker, at=world.at, seen=SEEN)

    exported = at_once(export, export)
    assert sorted(type(one).__name__ for one in exported) == ["BankFile", "UnableToExport"]
    assert PayoutAttempt.objects.count() == 8
    file = BankFile.objects.get()

    # Handing over and withdrawing exclude each other, in either order.
    handed = at_once(
        lambda: bank_files.mark_bank_file_sent(file=file, by=world.maker, at=world.at, seen=SEEN),
        lambda: bank_files.mark_bank_file_sent(file=file, by=world.maker, at=world.at, seen=SEEN),
    )
    assert sorted(type(one).__name__ for one in handed) == ["BankFile", "UnableToChangeBankFile"]

    lines = [
        Reported("executed", payout.public_id.hex, f"B{payout.pk}", payout.amount_minor, "USD", world.at.date())
        for payout in run.payouts.order_by("pk")
    ]

    def report() -> object:
        return bank_lines.record_bank_lines(lines=lines, by=world.checker, at=world.at, seen=SEEN)

    at_once(report, report)
    assert BankLine.objects.count() == 8
    assert set(run.payouts.values_list("state", flat=True)) == {Payout.State.SETTLED}
    assert balances.ledger_in_transit("USD", "manual_bank_file") == 0
    assert not [result.name for result in invariants.check_all() if result.rows]


def test_a_file_is_either_handed_over_or_withdrawn(world: World) -> None:
    run = executing(world, 3)
    file = bank_files.export_bank_file(run=run, by=world.maker, at=world.at, seen=SEEN)
    assert world.checker.pk
    at_once(
        lambda: bank_files.mark_bank_file_sent(file=file, by=world.maker, at=world.at, seen=SEEN),
        lambda: bank_files.withdraw_bank_file(file=file, by=world.checker, reason="lost", at=world.at, seen=SEEN),
    )
    file.refresh_from_db()
    assert (file.state == "sent") != (file.state == "withdrawn")
    expected = {"sending"} if file.state == "sent" else {"approved"}
    assert set(run.payouts.values_list("state", flat=True)) == expected
