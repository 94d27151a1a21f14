"""How amounts are written: exact, at the scale of their currency, whichever it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from contributors.models import PPB
from ledger.models import Period
from ledger.money import parse_amount
from ledger.operations import plans
from ledger.queries.balances import balances_of
from ledger.statements.build import build_statement
from ledger.statements.csv import statement_csv
from ledger.templatetags import amounts
from people.operations.proposals import approve
from tests.worlds.pages import text_of
from tests.worlds.programme import AT, Programme


def plain(markup: object) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", str(markup)).split())


@pytest.mark.parametrize(
    ("units", "currency", "text"),
    [
        (0, "USD", "USD 0.00"),
        (1, "USD", "USD 0.000000001"),
        (-1, "USD", "USD −0.000000001"),
        (1_234_567_890_000_000, "USD", "USD 1,234,567.89"),
        (-5_500_000_000, "USD", "USD −5.50"),
        (12_500_000_000, "JPY", "JPY 1,250"),
        (12_500_000_001, "JPY", "JPY 1,250.0000001"),
        (1_234_500_000, "KWD", "KWD 1.2345"),
        (1_000_000_000, "KWD", "KWD 1.000"),
    ],
)
def test_an_amount_is_written_exactly_at_its_currency_s_scale(units: int, currency: str, text: str) -> None:
    assert plain(amounts.amount(units, currency)) == text
    assert amounts.amount_text(units, currency) == text


def test_nothing_is_a_dash() -> None:
    for filtered in (amounts.amount, amounts.amount_payable):
        assert filtered(None, "USD") == filtered("", "USD") == "–"


@pytest.mark.parametrize(
    ("units", "currency", "text"),
    [
        (19_999_999, "EUR", "EUR 0.01"),
        (-19_999_999, "EUR", "EUR −0.01"),
        (19_999_999, "JPY", "JPY 1"),
        (9_999_999, "JPY", "JPY 0"),
        (1_999_999, "KWD", "KWD 0.001"),
    ],
)
def test_what_can_be_paid_is_cut_and_never_rounded_up(units: int, currency: str, text: str) -> None:
    assert plain(amounts.amount_payable(units, currency)) == text


@pytest.mark.django_db
def test_a_programme_in_yen_reads_right_from_the_plan_to_the_statement(programme: Programme) -> None:
    """The yen is kept with seven decimals and has no minor unit: nothing on the way may assume nine and two."""
    plan = plans.propose_plan(
        by=programme.staff["finance_maker"],
        currency="JPY",
        effective_from=datetime(2026, 10, 1, tzinfo=UTC),
        at=AT,
        terms={"basis": "revenue_share", "rate_ppb": PPB // 4, "take_ppb": PPB // 5, "floor_ppb": PPB // 5},
    )
    approve(plan, by=programme.staff["finance_checker"], at=AT)
    made = programme.generate(2, gross=("100", "JPY"))
    programme.attribute(made, scores=[0.5, 0.3125, 0.1875])
    programme.accrue()
    # 100 yen x 1/4 = 25; less a fifth 20, less a floor of a fifth 16, half of it by attribution 8, half of that 4.
    four = parse_amount("4", "JPY")
    page = text_of(programme.client(0).get(f"/portal/receipts/{made[0].pk}/").content)
    assert "You earned JPY 4. About" in page
    assert "25.0000000 × 20 %, cut" in page
    assert "JPY 8" in text_of(programme.client(0).get("/portal/earnings/").content)
    assert "JPY 8 in all" in text_of(programme.client(0).get("/portal/earnings/").content)
    programme.close(seal=True)
    found = build_statement(contributor=programme.contributors[0], period=Period.objects.get(pk=202610))
    pot = next(pot for pot in found.pots if pot.name == "owed")
    assert (pot.currency, pot.scale) == ("JPY", 7)
    accrued = next(line for line in pot.lines if line.kind == "accrued")
    assert accrued.amount == 2 * four
    assert b",8.0000000," in statement_csv(found)
    (balance,) = [b for b in balances_of(programme.contributors[0].pk) if b.currency == "JPY"]
    assert balance.payable >= 2 * four
    home = text_of(programme.client(0).get("/portal/").content)
    assert "JPY" in home
    assert "0.008" not in home
    console = text_of(programme.staff_client("auditor").get("/console/plans/").content)
    assert "25.00 %" in console
