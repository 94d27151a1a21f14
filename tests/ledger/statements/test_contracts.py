"""A contract's effects stand on the statement in plain words, and its figures prove offline as all others do."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from contributors.models import PPB
from ledger import proof
from ledger.models import Period
from ledger.operations import advances, closing, contracts, periods, sealing
from ledger.statements.build import Statement, build_statement
from ledger.statements.csv import statement_csv
from people.operations.proposals import approve
from tests.worlds.pages import text_of
from tests.worlds.programme import AT, OCTOBER, Programme

pytestmark = pytest.mark.django_db
ONE = 10**9
DECEMBER = datetime(2026, 12, 3, tzinfo=UTC)


@pytest.fixture
def bound(accrued: Programme) -> Programme:
    """The first author has a guarantee of 100, an advance of 30 and a reserve of a half, released after one month."""
    maker, checker = accrued.staff["finance_maker"], accrued.staff["finance_checker"]
    contract = contracts.record_contract(
        contributor=accrued.contributors[0], code="essays", title="Collected essays", by=maker, at=AT
    )
    approve(contracts.propose_terms(
            contract=contract, effective_from=date(2026, 10, 1), by=maker, at=AT,
            terms={"covers_rest": True, "guarantee": 100 * ONE, "guarantee_currency": "USD", "reserve_ppb": PPB // 2,
                   "release_months": [1], "release_ppb": [PPB]},
        ),
        by=checker, at=AT,
    )  # fmt: skip
    asked = advances.propose_advance(
        contract=contract, amount=30 * ONE, currency="USD", reason="agreed", reference="clause 4", by=maker, at=AT
    )
    approve(asked, by=checker, at=datetime(2026, 10, 20, tzinfo=UTC))
    accrued.close(seal=True)
    for month in (202611,):
        closing.close_period(period=month, at=DECEMBER)
        sealing.seal_period(period=month, at=DECEMBER)
    periods.open_periods(at=DECEMBER)
    return accrued


def statement(bound: Programme, month: int) -> Statement:
    return build_statement(contributor=bound.contributors[0], period=Period.objects.get(pk=month))


def lines(made: Statement) -> dict[tuple[str, str], int]:
    return {(pot.name, line.label): line.amount for pot in made.pots for line in pot.lines}


def test_the_month_of_the_close_says_what_was_added_taken_and_held(bound: Programme) -> None:
    found = lines(statement(bound, OCTOBER))
    held = "Held in reserve at the close, payable later"
    assert found["owed", "Added at the close to reach your guaranteed minimum"] > 0
    assert found["owed", "Earned back against your advances"] == -30 * ONE
    assert found["advance", "Earned back against your advances"] == 30 * ONE
    assert (found["owed", held], found["held", held]) == (-35 * ONE, 35 * ONE)


def test_an_advance_dated_after_a_month_is_not_earned_back_in_it(accrued: Programme) -> None:
    maker, checker = accrued.staff["finance_maker"], accrued.staff["finance_checker"]
    contract = contracts.record_contract(
        contributor=accrued.contributors[0], code="essays", title="Collected essays", by=maker, at=AT
    )
    asked = advances.propose_advance(
        contract=contract, amount=30 * ONE, currency="USD", reason="agreed", reference="clause 4", by=maker, at=AT
    )
    approve(asked, by=checker, at=AT)
    accrued.close()
    assert not [key for key in lines(statement(accrued, OCTOBER)) if key[0] == "advance"]
    november = lines(statement(accrued, 202611))
    assert november["advance", "Advances paid to you"] == -30 * ONE
    accrued.attribute(accrued.generate(3, first=datetime(2026, 11, 2, tzinfo=UTC)))
    closing.close_period(period=202611, at=DECEMBER)
    assert lines(statement(accrued, 202611))["advance", "Earned back against your advances"] > 0


def test_the_month_of_the_release_says_that_it_became_payable(bound: Programme) -> None:
    found = lines(statement(bound, 202612))
    released = "Released from your reserve"
    assert (found["owed", released], found["held", released]) == (35 * ONE, -35 * ONE)


def test_the_accounts_of_a_contract_are_named_after_it(bound: Programme) -> None:
    made = statement(bound, OCTOBER)
    assert "Reserve, essays" in {account.title for account in made.accounts}
    page = text_of(bound.client(0).get("/portal/statements/2026-10/").content)
    for words in ("Reserve, essays", "Held in reserve at the close", "Earned back against your advances"):
        assert words in page


def test_the_statements_of_a_contract_prove_offline(bound: Programme, tmp_path: Path) -> None:
    for month in (OCTOBER, 202611):
        period = Period.objects.get(pk=month)
        file = tmp_path / f"{month}.csv"
        file.write_bytes(statement_csv(statement(bound, month)))
        assert proof.verify(file.read_bytes(), root=period.root_hex).root == period.root_hex
        command = [sys.executable, "-I", proof.__file__, str(file), "--root", period.root_hex]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        forged = file.read_text().replace("35.000000000", "36.000000000")
        if forged != file.read_text():
            with pytest.raises(proof.UnableToVerify):
                proof.verify(forged.encode(), root=period.root_hex)


def test_the_contracts_page_says_what_is_held_until_when(bound: Programme) -> None:
    page = text_of(bound.client(0).get("/portal/contracts/").content)
    for words in (
        "Collected essays",
        "Each month brings at least USD 100.00",
        "50 % of the rest at each close",
        "100 % after 1 month is released",
        "USD 35.00",
        "Released",
    ):
        assert words in page, words
    assert "Collected essays" not in text_of(bound.client(1).get("/portal/contracts/").content)
