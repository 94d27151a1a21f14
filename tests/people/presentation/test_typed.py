"""Typed numbers: one reading is read, two readings are refused, and nothing is guessed."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from django import forms

from people.forms.fields import TypedDecimalField, TypedFloatField, TypedIntegerField
from people.presentation.typed import UnableToReadNumber, plain_decimal

READ = {
    "1250": "1250", " 1250 ": "1250", "0": "0", "007": "007", "-3": "-3", "\u22123,5": "-3.5", "- 4": "-4",
    "1250.5": "1250.5", "1250,5": "1250.5", "1250.50": "1250.50", "1250,50": "1250.50", "0,05": "0.05",
    "0.05": "0.05", "0,125": "0.125", "0.125": "0.125", "00,125": "00.125", "1250,500": "1250.500",
    "1250.500": "1250.500", "1,2500": "1.2500", "1.2500": "1.2500", "12,3456": "12.3456", "1,1": "1.1",
    "1,250.50": "1250.50", "1.250,50": "1250.50", "1 250,50": "1250.50", "1 250.50": "1250.50",
    "1\u00a0250,50": "1250.50", "1\u202f250,50": "1250.50", "1\u2009250,5": "1250.5", "1'250.50": "1250.50",
    "1\u2019250.50": "1250.50", "1'250,50": "1250.50", "1 250": "1250", "1'250": "1250", "1\u00a0250": "1250",
    "1,250,000": "1250000", "1.250.000": "1250000", "1,250,000.00": "1250000.00", "1.250.000,00": "1250000.00",
    "1 250 000": "1250000", "12 345 678,90": "12345678.90", "1'250'000.5": "1250000.5", "1,250.5": "1250.5",
    "1.250,5": "1250.5", "1,250.500": "1250.500", "999,999.99": "999999.99", "999.999,99": "999999.99",
}  # fmt: skip
TWO_READINGS = {
    "1,250": "1250 or 1.25", "1.250": "1250 or 1.25", "12,500": "12500 or 12.5", "12.500": "12500 or 12.5",
    "999,999": "999999 or 999.9990", "1.000": "1000 or 1", "1,000": "1000 or 1", "-1,250": "1250 or 1.25",
    "100.100": "100100 or 100.1", "5,432": "5432 or 5.4320",
}  # fmt: skip
REFUSED = [
    "", " ", ".", ",", "-", "--5", "+5", "5-", "(5)", "5.", "5,", ".5", ",5", "5..5", "5,,5", "5.,5", "1e3", "1E3",
    "0x10", "5%", "5 %", "NaN", "nan", "inf", "Infinity", "five", "12a", "a12", "1_000", "1;5", "1/2", "½", "²",
    "١٢٣", "１２３", "१२३", "1٫5", "1٬250", "1.25.50", "1,25,50", "1,25.50.5", "1.250.50", "1,250,50", "12,34,567",
    "1,2,3", "1234,567.00", "1234.567,00", "01,250.00", "0,250.00", "1 25", "1 2500", "12 34", "1 250 00", "1  250",
    "1.250 50", "1,250 50", "1'250'50", "1 250'000", "1'250 000.5", "1.250'000,5", "1,250.000.50", "1.250,000,50",
    "1, 250", "1. 250", "1 ,5", "5\u200b0", "5\u202e0", "5\n0", "5\t0", "5\x000", "\ufeff50", "$5", "5$", "€5", "5,-",
    "5.–", "1\u066c250", "1·250", "1˙5", "1\u00b75", "5 USD", "USD", "0.0.0", "0,0,0", "1,250,", "1,250.",
]  # fmt: skip


@pytest.mark.parametrize("typed", READ)
def test_a_number_with_one_reading_is_read(typed: str) -> None:
    assert plain_decimal(typed) == READ[typed]


@pytest.mark.parametrize("typed", TWO_READINGS)
def test_a_number_with_two_readings_is_refused_with_both(typed: str) -> None:
    with pytest.raises(UnableToReadNumber, match=f"has two readings. Type {TWO_READINGS[typed]}"):
        plain_decimal(typed)


@pytest.mark.parametrize("typed", TWO_READINGS)
def test_both_spellings_of_the_refusal_are_read(typed: str) -> None:
    whole, _, small = TWO_READINGS[typed].partition(" or ")
    assert Decimal(plain_decimal(whole)) == 1000 * Decimal(plain_decimal(small))


@pytest.mark.parametrize("typed", REFUSED, ids=ascii)
def test_a_text_without_a_reading_is_refused(typed: str) -> None:
    with pytest.raises(UnableToReadNumber, match=r"1250\.50|no number"):
        plain_decimal(typed)


def test_where_three_decimals_are_usual_the_point_is_one_and_the_comma_has_two_readings() -> None:
    assert plain_decimal("1.250", thousandths=True) == "1.250"
    with pytest.raises(UnableToReadNumber, match=r"Type 1250 or 1\.25\."):
        plain_decimal("1,250", thousandths=True)


@pytest.mark.parametrize(
    "typed", ["1_0", "\u0661\u0662", "\uff11\uff12", "1e1", "0x1", "+1", "1.0", "1 0", "\u00b2"], ids=ascii
)
def test_a_whole_number_has_the_digits_0_to_9(typed: str) -> None:
    with pytest.raises(forms.ValidationError, match="is no whole number, such as 30"):
        TypedIntegerField().clean(typed)
    assert TypedIntegerField().clean(" 12 ") == 12
    assert TypedIntegerField(required=False).clean("") is None


@pytest.mark.parametrize("typed", ["1_0", "\u0661", "\uff11.5", "nan", "inf", "0,5", ".5", "5.", "+1"], ids=ascii)
def test_a_measured_number_has_the_digits_0_to_9(typed: str) -> None:
    with pytest.raises(forms.ValidationError, match=r"is no number, such as 0\.1"):
        TypedFloatField().clean(typed)
    assert [TypedFloatField().clean(given) for given in ("0.1", "1e-3", "10", 0.25)] == [0.1, 0.001, 10.0, 0.25]


def test_every_number_of_a_form_is_read_by_a_typed_field() -> None:
    """A field of Django's own takes 1_0 and the digits of other scripts."""
    rooms = [path for path in Path().glob("*/forms/*.py") if path != Path("people/forms/fields.py")]
    assert len(rooms) > 20
    own = re.compile(
        r"forms\.(Integer|Decimal|Float)Field\(|(?<![\w.])(Decimal|Fraction|float)\((?!0|100|-1|plain_decimal)"
    )
    assert {str(path): own.findall(path.read_text()) for path in rooms if own.search(path.read_text())} == {}
    assert issubclass(TypedDecimalField, forms.DecimalField)
