"""Amounts as people type them, in units: with a currency that fits, or refused."""

from __future__ import annotations

import pytest

from ledger.money import ASSETS, UnableToParseAmount, asset, from_minor
from ledger.typed_amounts import minor_of_typed, typed_of_minor, typed_of_units, units_of_typed

READ = [
    ("1250,50", "USD", 125050), ("1,250.50", "USD", 125050), ("1.250,50", "EUR", 125050), ("USD 5", "USD", 500),
    ("usd 5", "USD", 500), ("5 USD", "USD", 500), ("5USD", "USD", 500), ("$5", "USD", 500), ("$ 5.00", "AUD", 500),
    ("€ 1.250,00", "EUR", 125000), ("5,00 €", "EUR", 500), ("£0.05", "GBP", 5), ("¥1 250", "JPY", 1250),
    ("1250", "JPY", 1250), ("1.250", "KWD", 1250), ("BHD 1.250", "BHD", 1250), ("1.25", "KWD", 1250),
    ("1250", "KWD", 1250000),
    ("1.250,5", "KWD", 1250500), ("1,250.500", "KWD", 1250500), ("12.345", "KWD", 12345), ("25,00", "USD", 2500),
    ("-5", "USD", -500), ("₩1'250", "KRW", 1250),
]  # fmt: skip
REFUSED = [
    ("€5", "USD"), ("EUR 5", "USD"), ("5 EUR", "USD"), ("$5", "EUR"), ("$5$", "USD"), ("USD", "USD"),
    ("USD USD 5", "USD"),    ("1,250", "USD"), ("1.250", "EUR"), ("1,250", "KWD"), ("1,250", "JPY"),
    ("1.250", "JPY"), ("0.001", "USD"),
    ("5.5", "JPY"), ("1e3", "USD"), ("99999999999999999999", "USD"), ("", "USD"), ("US$5", "USD"), ("ẞ5", "USD"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "code", "minor"), READ)
def test_an_amount_with_one_reading_is_read(typed: str, code: str, minor: int) -> None:
    assert units_of_typed(typed, code) == from_minor(minor, code)
    assert minor_of_typed(typed, code) == minor


@pytest.mark.parametrize(("typed", "code"), REFUSED, ids=ascii)
def test_an_ambiguous_or_foreign_amount_is_refused(typed: str, code: str) -> None:
    with pytest.raises(UnableToParseAmount):
        minor_of_typed(typed, code)


@pytest.mark.parametrize("code", ASSETS)
def test_the_value_that_a_field_begins_with_is_read_back(code: str) -> None:
    """The point before three decimals is the spelling of a currency with fils, and of no other."""
    for minor in (0, 1, 10, 1250, 1255, 12_345, 1_000_000, 123_456_789):
        assert minor_of_typed(typed_of_minor(minor, code), code) == minor
    one, scale = asset(code).one, asset(code).scale
    for units in (one, one * 9 // 8, one * 1001 // 1000, one + 1, 10**scale * 999 + 7, -one * 9 // 8):
        assert units_of_typed(typed_of_units(units, code), code) == units
    assert typed_of_units(one * 9 // 8, code) == ("1.125" if asset(code).exponent == 3 else "1.1250")
