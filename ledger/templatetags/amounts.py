"""Template filters for amounts of any currency that the ledger keeps, at the currency's own scale."""

from __future__ import annotations

from typing import Literal

from django import template
from django.utils.safestring import SafeString

from ledger.money import asset
from people.presentation import amounts
from people.presentation.amounts import NOTHING

register = template.Library()


@register.filter
def amount(units: int | Literal[""] | None, currency: str) -> SafeString | str:
    """`{{ units|amount:currency }}`: exact, the currency code first, digits past the minor unit smaller."""
    return NOTHING if units is None or units == "" else amounts.html(int(units), asset(currency))


@register.filter
def amount_in_cents(units: int | Literal[""] | None, currency: str) -> SafeString | str:
    """`{{ units|amount_in_cents:currency }}`: rounded to cents, the exact amount one key press away."""
    return NOTHING if units is None or units == "" else amounts.html_in_minor(int(units), asset(currency))


@register.simple_tag
def amount_of(units: int, currency: str, in_cents: bool) -> SafeString:
    """`{% amount_of purse.paid purse.currency purse.adds_up %}`: in cents where the sum beside it adds up in cents."""
    return (amounts.html_in_minor if in_cents else amounts.html)(units, asset(currency))


@register.filter
def amount_to_go(units: int, currency: str) -> SafeString:
    """`{{ missing|amount_to_go:currency }}`: raised to whole minor units, the counterpart of `amount_payable`."""
    return amounts.html(amounts.raise_to_minor(units, asset(currency)), asset(currency))


@register.filter
def amount_in_full(units: int | None, currency: str) -> str:
    """`{{ units|amount_in_full:currency }}`: every digit of the scale, for columns that a reader adds up."""
    return NOTHING if units is None else amounts.grouped(int(units), asset(currency).scale)


@register.filter
def amount_aligned(units: int | None, currency: str) -> SafeString | str:
    """`{{ units|amount_aligned:currency }}`: as `amount`, with every digit of the scale, for a column of small sums."""
    return NOTHING if units is None else amounts.html_in_full(int(units), asset(currency))


@register.filter
def amount_payable(units: int | Literal[""] | None, currency: str) -> SafeString | str:
    """`{{ units|amount_payable:currency }}`: cut (never rounded up) to whole minor units, the part a payout carries."""
    if units is None or units == "":
        return NOTHING
    return amounts.html(amounts.cut_to_minor(int(units), asset(currency)), asset(currency))


def amount_text(units: int, currency: str) -> str:
    """Write the same as `amount` in plain text: "USD 12.345678901", "JPY 1,200"."""
    return amounts.text(units, asset(currency))
