"""Amounts of any currency of the ledger, written as contributors' figures are: at the currency's own scale."""

from __future__ import annotations

from typing import Literal

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from contributors.templatetags.figures import NOTHING, exact_decimal
from ledger.money import asset, whole_minor
from ledger.statements import grouped

register = template.Library()


@register.filter
def amount(units: int | Literal[""] | None, currency: str) -> SafeString | str:
    """`{{ units|amount:currency }}`: exact, the currency code first, digits past the minor unit smaller."""
    if units is None or units == "":
        return NOTHING
    head, tail = exact_decimal(int(units), asset(currency).scale, asset(currency).exponent)
    point = "." if tail and not asset(currency).exponent else ""
    rest = format_html('<span class="fraction">{}{}</span>', point, tail) if tail else ""
    return format_html('<span class="money"><span class="code">{}</span> {}{}</span>', currency, head, rest)


@register.filter
def amount_in_full(units: int | None, currency: str) -> str:
    """`{{ units|amount_in_full:currency }}`: every digit of the scale, for columns that a reader adds up."""
    return NOTHING if units is None else grouped(int(units), asset(currency).scale)


@register.filter
def amount_payable(units: int | Literal[""] | None, currency: str) -> SafeString | str:
    """`{{ units|amount_payable:currency }}`: cut (never rounded up) to whole minor units, what a payout can carry."""
    if units is None or units == "":
        return NOTHING
    cut = whole_minor(abs(int(units)), currency)
    return amount(-cut if int(units) < 0 else cut, currency)


def amount_text(units: int, currency: str) -> str:
    """The same as `amount` in plain text: "USD 12.345678901", "JPY 1,200"."""
    kept = asset(currency)
    head, tail = exact_decimal(units, kept.scale, kept.exponent)
    point = "." if tail and not kept.exponent else ""
    return f"{currency} {head}{point}{tail}"
