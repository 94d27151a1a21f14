"""Amounts as people type them, turned into units: one reader for every form, table and file."""

from __future__ import annotations

from ledger.money import ASSETS, UnableToParseAmount, asset, format_amount, from_minor, parse_amount, to_minor
from people.presentation.typed import UnableToReadNumber, plain_decimal

# Signs of currencies. A dollar sign fits several, and stands for the one that the form names.
SIGNS = {"$": ("USD", "CAD", "AUD", "TWD"), "€": ("EUR",), "£": ("GBP",), "¥": ("JPY",), "₩": ("KRW",)}


def units_of_typed(text: str, code: str) -> int:
    """Units of an amount that a person typed, with or without the currency's code or sign.

    Raises UnableToParseAmount for text with no reading or with two, and for another currency than `code`.
    """
    try:
        plain = plain_decimal(_without_currency(text.strip(), code), thousandths=asset(code).exponent == 3)
    except UnableToReadNumber as error:
        raise UnableToParseAmount(str(error)) from error
    return parse_amount(plain, code)


def minor_of_typed(text: str, code: str) -> int:
    """Whole minor units of a typed amount. Raises UnableToParseAmount, also where a part of one would be lost."""
    return to_minor(units_of_typed(text, code), code)


def typed_of_units(units: int, code: str) -> str:
    """Write units in a spelling that `units_of_typed` reads back, for a field that begins with a value."""
    exponent = asset(code).exponent
    text = format_amount(units, code, decimals=exponent)
    # Three decimals also read as thousands, save where the currency has three.
    return f"{text}0" if exponent != 3 and len(text.partition(".")[2]) == 3 else text


def typed_of_minor(minor: int, code: str) -> str:
    """Write whole minor units for a field that begins with a value."""
    return typed_of_units(from_minor(minor, code), code)


def _without_currency(text: str, code: str) -> str:
    given = text.upper()
    for other, meant in [(each, (each,)) for each in ASSETS] + list(SIGNS.items()):
        bare = given.removeprefix(other).removesuffix(other)
        if bare == given:
            continue
        if code not in meant or len(bare) < len(given) - len(other):
            raise UnableToParseAmount(f"“{text}” names a currency; this amount is in {code}. Type the number alone.")
        return bare.strip()
    return text
