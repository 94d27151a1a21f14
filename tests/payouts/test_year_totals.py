"""The totals of a year equal the ledger, and a posting by hand shows in them."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import Sum
from django.urls import reverse
from django.utils import timezone

from contributors.models import Contributor
from ledger.journal import AccountKey
from ledger.models import Line
from ledger.operations import payouts, periods
from ledger.queries.invariants import check_all
from payouts.exports import tables
from payouts.queries.year_totals import comparisons, year_totals
from tests.worlds.browser import LogIn, log_in, words_of
from tests.worlds.manual import post_by_hand
from tests.worlds.world import CENT, World

__all__ = ["log_in"]
TAX = AccountKey("tax_payable", "USD", "jurisdiction:US/withholding")
BANK = AccountKey("bank", "USD")
NEW_YEARS_EVE = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)


def reserve(who: Contributor, gross: int, tax: int, key: str, at: datetime) -> int:
    return payouts.reserve_payout(
        contributor_id=who.pk, currency="USD", gross=gross * CENT, tax=tax * CENT, rail="manual", attempt_key=key, at=at
    )


def succeed(entry: int, net: int, key: str, at: datetime) -> None:
    payouts.succeed_payout(reserve_entry=entry, attempt_key=key, currency="USD", net=net * CENT, at=at)


def paid(who: Contributor, gross: int, tax: int, key: str, at: datetime) -> None:
    succeed(reserve(who, gross, tax, key, at), gross - tax, key, at)


def amounts(year: int) -> list[tuple[Any, ...]]:
    """Name, form and amounts in cents of every row."""
    return [
        (row.legal_name, row.form, *(n // CENT for n in (row.paid, row.withheld, row.by_hand, row.tax_by_hand)))
        for row in year_totals(year)
    ]


def assert_equal_to_the_ledger(*years: int) -> None:
    for year in years:
        assert [one.currency for one in comparisons(year, year_totals(year)) if not one.is_equal] == []
    assert {r.name: r.rows for r in check_all(["I23"]) if r.rows} == {}
    # The ledger's own sum of all years: every movement of the accounts of withheld tax.
    withheld = sum(row.withheld + row.tax_by_hand for year in years for row in year_totals(year))
    on_its_way = sum(one.booked.on_its_way for year in years for one in comparisons(year, year_totals(year)))
    lines = Line.objects.filter(account__kind="tax_payable", account__owner__endswith="/withholding")
    assert withheld + on_its_way == (lines.exclude(entry__kind="remit_tax").aggregate(sum=Sum("amount"))["sum"] or 0)


@pytest.fixture
def two(world: World) -> list[Contributor]:
    return [world.contributor(100_000), world.contributor(50_000)]


def test_paid_withheld_returned_and_refused_payouts_add_up(world: World, two: list[Contributor]) -> None:
    ada, bob = two
    paid(ada, 10_000, 3_000, "a:1", world.at)
    paid(ada, 5_000, 0, "a:2", world.at)
    paid(bob, 2_000, 600, "b:1", world.at)
    payouts.record_bank_return(contributor_id=bob.pk, currency="USD", amount=1_400 * CENT, return_id="r1", at=world.at)
    payouts.reverse_withholding(contributor_id=bob.pk, currency="USD", amount=600 * CENT, reversal_id="r1", at=world.at)
    entry = reserve(bob, 700, 70, "b:2", world.at)
    payouts.refuse_payout(reserve_entry=entry, attempt_key="b:2", at=world.at)
    assert amounts(2026) == [
        (ada.legal_name, "none", 12_000, 3_000, -100_000, 0),
        (bob.legal_name, "none", 0, 0, -50_000, 0),
    ]
    assert amounts(2025) == []
    assert_equal_to_the_ledger(2026)


def test_a_payment_counts_in_the_year_in_which_the_money_left(world: World, two: list[Contributor]) -> None:
    ada, _ = two
    periods.open_periods(at=NEW_YEARS_EVE)
    entry = reserve(ada, 10_000, 3_000, "a:1", NEW_YEARS_EVE)
    assert [row[2:4] for row in amounts(2026) if row[0] == ada.legal_name] == [(0, 0)]
    [open_] = comparisons(2026, year_totals(2026))
    assert open_.booked.on_its_way == 3_000 * CENT
    assert_equal_to_the_ledger(2026)
    succeed(entry, 7_000, "a:1", NEW_YEARS_EVE + timedelta(minutes=2))
    assert [row[2:4] for row in amounts(2026) if row[0] == ada.legal_name] == [(0, 0)]
    assert amounts(2027) == [(ada.legal_name, "none", 7_000, 3_000, 0, 0)]
    assert_equal_to_the_ledger(2026, 2027)


def test_each_form_of_a_payee_has_its_own_row(world: World, two: list[Contributor]) -> None:
    ada, _ = two
    paid(ada, 1_000, 0, "a:1", world.at)
    world.at = timezone.now()
    world.tax_form(ada, 300_000_000)
    paid(ada, 10_000, 3_000, "a:2", world.at)
    rows = [row for row in year_totals(world.at.year) if row.contributor == ada]
    assert [(row.form, row.form_name, row.tax_country, row.number_last4, row.gross // CENT) for row in rows] == [
        ("none", "No form", "", "", 1_000),
        ("w8ben", "W-8BEN", "DE", "8903", 10_000),
    ]
    assert_equal_to_the_ledger(2026)


BY_HAND: list[tuple[str, Any, tuple[int, int]]] = [
    ("paid by hand", lambda a, b: [(a, -900 * CENT), (BANK, 900 * CENT)], (900, 0)),
    ("withheld by hand", lambda a, b: [(a, -300 * CENT), (TAX, 300 * CENT)], (300, 300)),
    ("paid and withheld", lambda a, b: [(a, -900 * CENT), (BANK, 600 * CENT), (TAX, 300 * CENT)], (900, 300)),
    ("moved to another payee", lambda a, b: [(a, -900 * CENT), (b, 900 * CENT)], (900, 0)),
    ("by way of suspense", lambda a, b: [(a, -900 * CENT), (AccountKey("suspense_cash", "USD"), 900 * CENT)], (900, 0)),
]


@pytest.mark.parametrize(("what", "lines", "expected"), BY_HAND, ids=[row[0] for row in BY_HAND])
def test_a_posting_by_hand_shows_beside_the_payouts_and_never_as_one(
    world: World, two: list[Contributor], what: str, lines: Any, expected: tuple[int, int]
) -> None:
    post_by_hand([(BANK, -10_000 * CENT), (AccountKey("programme_equity", "USD"), 10_000 * CENT)], world.at)
    paid(two[0], 1_000, 100, "a:1", world.at)
    before = {row[0]: row[2:] for row in amounts(2026)}
    post_by_hand(lines(world.key("contributor_payable", 0), world.key("contributor_payable", 1)), world.at)
    after = {row[0]: row[2:] for row in amounts(2026)}
    name = two[0].legal_name
    assert after[name][:2] == before[name][:2]
    assert (after[name][2] - before[name][2], after[name][3] - before[name][3]) == expected
    other = two[1].legal_name
    assert after[other][2] - before[other][2] == (-900 if what == "moved to another payee" else 0)
    assert_equal_to_the_ledger(2026)


def test_tax_by_hand_without_a_payee_has_a_row_of_its_own(world: World, two: list[Contributor]) -> None:
    post_by_hand([(AccountKey("programme_cost", "USD"), -500 * CENT), (TAX, 500 * CENT)], world.at)
    keys = [world.key("contributor_payable", place) for place in (0, 1)]
    post_by_hand([(keys[0], -100 * CENT), (keys[1], -100 * CENT), (TAX, 200 * CENT)], world.at)
    assert amounts(2026)[-1] == ("", "none", 0, 0, 0, 700)
    assert_equal_to_the_ledger(2026)


def test_the_page_and_the_csv_show_the_same_sums(world: World, two: list[Contributor], log_in: LogIn) -> None:
    paid(two[0], 10_000, 3_000, "a:1", world.at)
    client = log_in(world.checker)
    page = words_of(client.get(reverse("payouts:year_totals") + "?year=2026"))
    assert "Compared with the ledger" in page
    assert "Equal" in page
    assert "Different" not in page
    assert f"{two[0].legal_name} US No form USD 100.00 USD 30.00 USD 70.00" in page
    content = client.get(reverse("payouts:year_totals_csv") + "?year=2026").content
    assert content == tables.year_totals(2026, year_totals(2026))
    row = next(iter(csv.DictReader(io.StringIO(content.decode("utf-8-sig")))))
    assert (row["gross"], row["withheld"], row["paid"]) == ("100.000000000", "30.000000000", "70.000000000")
    assert row["payer"]
    for wrong in ("1999", "x", "2026.0", "٢٠٢٦"):
        assert client.get(reverse("payouts:year_totals"), {"year": wrong}).status_code == 404
