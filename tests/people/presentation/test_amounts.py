"""Amounts, percentages and dates are written one way everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from people.presentation import amounts, dates, percent


@dataclass(frozen=True)
class Kept:
    """A currency as any app may keep it."""

    code: str
    scale: int
    exponent: int


USD, JPY, KWD, POINTS = Kept("USD", 9, 2), Kept("JPY", 7, 0), Kept("KWD", 9, 3), Kept("PTS", 0, 0)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (125_005, USD, "USD 1,250.05"),
        (-234, USD, "USD −2.34"),
        (0, USD, "USD 0.00"),
        (1_250, JPY, "JPY 1,250"),
        (1_250, KWD, "KWD 1.250"),
        (7, POINTS, "PTS 7"),
    ],
)
def test_minor_units_are_written_with_the_code_first(minor: int, currency: Kept, text: str) -> None:
    assert amounts.text_of_minor(minor, currency) == text


def test_a_fraction_of_a_minor_unit_is_never_cut_from_a_text() -> None:
    assert amounts.text(1_000_000_001, USD) == "USD 1.000000001"
    assert amounts.text(10_000_001, JPY) == "JPY 1.0000001"
    assert '1.00<span class="fraction">0000001</span>' in amounts.html(1_000_000_001, USD)


@given(st.integers(-(10**18), 10**18), st.integers(0, 12))
def test_every_way_of_writing_keeps_every_unit(units: int, scale: int) -> None:
    for text in (
        amounts.plain(units, scale),
        amounts.grouped(units, scale),
        amounts.number(units, Kept("X", scale, 0)),
    ):
        whole, _, fraction = text.replace(",", "").replace("−", "-").partition(".")
        assert int(whole + fraction.ljust(scale, "0")) == units


@given(st.integers(-(10**18), 10**18))
def test_a_payable_amount_is_cut_towards_zero(units: int) -> None:
    cut = amounts.cut_to_minor(units, USD)
    assert cut % 10**7 == 0
    assert 0 <= abs(units) - abs(cut) < 10**7
    assert cut * units >= 0


def test_a_percentage_is_exact_short_or_an_interval() -> None:
    assert "14.31" in percent.html(143_100_000)
    assert [percent.text(ppb) for ppb in (200_000_000, 125_000_000, 333_333_333, 0)] == [
        "20 %",
        "12.5 %",
        "33.3333333 %",
        "0 %",
    ]
    assert percent.short(143_100_000) == "14.3 %"
    assert "14.30 % ± 4.12" in percent.interval_html(143_000_000, 21_000_000)


def test_a_date_has_one_format_and_its_day_in_utc() -> None:
    abroad = datetime(2026, 12, 1, 1, 30, tzinfo=timezone(timedelta(hours=3)))
    assert dates.day(abroad) == dates.day(date(2026, 11, 30)) == "30 Nov 2026"
    assert dates.moment(abroad) == "30 Nov 2026, 22:30 UTC"
    assert dates.month(abroad) == dates.month_of_number(202611) == "November 2026"
    assert dates.short_month(abroad) == dates.short_month_of_number(202611) == "Nov 2026"
    assert dates.day(date(2026, 3, 1)) == "1 Mar 2026"
    assert 'datetime="2026-11-30T12:00:00Z"' in dates.moment_html(datetime(2026, 11, 30, 12, tzinfo=UTC))
    with pytest.raises(ValueError, match="month"):
        dates.month_of_number(202613)
