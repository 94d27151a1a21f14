"""Amounts, percentages and dates are written one way everywhere."""

from __future__ import annotations

import re
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


# --- cents first ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("units", "currency", "text"),
    [
        (8_727_331_195, USD, "USD 8.73"),
        (8_724_999_999, USD, "USD 8.72"),
        (5_000_000, USD, "USD 0.01"),
        (-8_727_331_195, USD, "USD −8.73"),
        (1_896_246, USD, "USD 0.0019"),
        (-1_896_246, USD, "USD −0.0019"),
        (7, USD, "USD 0.000000007"),
        (0, USD, "USD 0.00"),
        (12_345_678_900, JPY, "JPY 1,235"),
        (4_000_000, JPY, "JPY 0.4"),
        (7, POINTS, "PTS 7"),
    ],
)
def test_cents_come_first_and_a_smaller_amount_keeps_two_digits(units: int, currency: Kept, text: str) -> None:
    assert amounts.text_in_minor(units, currency) == text


@given(st.integers(-(10**18), 10**18))
def test_rounding_moves_an_amount_by_half_a_cent_at_most_and_keeps_its_sign(units: int) -> None:
    rounded = amounts.round_to_minor(units, USD)
    assert abs(rounded - units) * 2 <= 10**7
    assert (rounded > 0) == (units > 0)
    assert (rounded < 0) == (units < 0)


@given(st.integers(0, 10**12), st.integers(0, 10**5))
def test_the_payable_part_and_the_missing_part_sum_to_the_threshold(units: int, cents: int) -> None:
    threshold = cents * 10**7
    missing = max(0, threshold - units)
    if missing:
        assert amounts.cut_to_minor(units, USD) + amounts.raise_to_minor(missing, USD) == threshold


def test_parts_that_do_not_add_up_in_cents_are_noticed() -> None:
    assert amounts.adds_up_in_minor([10_000_000, 20_000_000], 30_000_000, USD)
    # Two thirds of a cent, twice, are 1.33 cents; each alone rounds to a whole one.
    assert not amounts.adds_up_in_minor([6_666_667, 6_666_667], 13_333_334, USD)


def test_the_exact_amount_is_one_key_press_away_and_each_button_opens_its_own() -> None:
    first, second = amounts.html_in_minor(8_727_331_195, USD), amounts.html_in_minor(8_727_331_195, USD)
    assert '<button type="button"' in first
    assert "</span> 8.73</span>" in first
    assert "popover> Exactly USD 8.727331195<" in first
    [target] = re.findall(r'popovertarget="(exact-\d+)"', first)
    assert f'id="{target}"' in first
    assert target not in second
    # Nothing is hidden in a whole number of cents, so there is no button.
    assert amounts.html_in_minor(8_720_000_000, USD) == amounts.html(8_720_000_000, USD)


def test_the_likely_range_of_a_share_stays_within_the_whole() -> None:
    assert percent.likely(59_300_000, 28_163_265) == "0.4 to 11.4 %"
    assert percent.likely(10_000_000, 28_163_265) == "0.0 to 6.5 %"
    assert percent.likely(990_000_000, 28_163_265) == "93.5 to 100.0 %"
