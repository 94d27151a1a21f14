"""Amounts for people: currency code first, grouped thousands ("USD 1,250.05"), exact or in cents.

Pages and mails show cents first, and the exact amount on demand. Receipts, statements, files and the API are exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Protocol

from django.utils.html import format_html
from django.utils.safestring import SafeString

NOTHING = "–"
MINUS = "−"
# Digits of an amount below half a cent: "USD 0.0019" says more than "USD 0.00".
SMALL_DIGITS = 2
_POPOVERS = count(1)


class Currency(Protocol):
    """A currency code with `scale` kept decimals, of which a bank can pay `exponent`."""

    @property
    def code(self) -> str: ...
    @property
    def scale(self) -> int: ...
    @property
    def exponent(self) -> int: ...


def exact_decimal(amount: int, scale: int, places_min: int) -> tuple[str, str]:
    """Split `amount` at 10^-scale in two: sign, whole part and first places; further digits without trailing zeros."""
    digits = f"{abs(amount):0{scale + 1}d}"
    whole, fraction = (digits[:-scale], digits[-scale:]) if scale else (digits, "")
    head = f"{MINUS if amount < 0 else ''}{int(whole):,}"
    if places_min:
        head = f"{head}.{fraction[:places_min]}"
    return head, fraction[places_min:].rstrip("0")


def plain(amount: int, scale: int) -> str:
    """Write every digit of the scale without grouping, for machines and for payees that retype it:
    "-1250.050000000".
    """
    digits = f"{abs(amount):0{scale + 1}d}"
    sign = "-" if amount < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"


def grouped(amount: int, scale: int) -> str:
    """Write every digit of the scale, for columns that a reader adds up: "1,250.050000000"."""
    return exact_decimal(amount, scale, scale)[0]


def number(units: int, currency: Currency) -> str:
    """Write an amount without its currency code: "1,250.05", "0.000000001", "1,200" (yen)."""
    head, tail = exact_decimal(units, currency.scale, currency.exponent)
    return f"{head}{_point(tail, currency)}{tail}"


def text(units: int, currency: Currency) -> str:
    """Write an amount in plain text: "USD 12.345678901", "JPY 1,200"."""
    return f"{currency.code} {number(units, currency)}"


def text_of_minor(minor: int, currency: Currency) -> str:
    """Write whole minor units (cents, yen, fils) in plain text: "USD 12.34"."""
    return text(minor * 10 ** (currency.scale - currency.exponent), currency)


def html(units: int, currency: Currency) -> SafeString:
    """Write an amount for a page: digits past the minor unit are smaller."""
    head, tail = exact_decimal(units, currency.scale, currency.exponent)
    rest = format_html('<span class="fraction">{}{}</span>', _point(tail, currency), tail) if tail else ""
    return format_html('<span class="money"><span class="code">{}</span> {}{}</span>', currency.code, head, rest)


def html_in_full(units: int, currency: Currency) -> SafeString:
    """Write an amount for a column: every digit of the scale, so that decimal points stand below each other."""
    digits = grouped(units, currency.scale)
    end = len(digits) - (currency.scale - currency.exponent)
    rest = format_html('<span class="fraction">{}</span>', digits[end:]) if digits[end:] else ""
    return format_html(
        '<span class="money"><span class="code">{}</span> {}{}</span>', currency.code, digits[:end], rest
    )


def cut_to_minor(units: int, currency: Currency) -> int:
    """Cut `units` to whole minor units, towards zero: the part that a payout can carry."""
    minor: int = 10 ** (currency.scale - currency.exponent)
    return abs(units) // minor * minor * (-1 if units < 0 else 1)


def raise_to_minor(units: int, currency: Currency) -> int:
    """Raise `units` to whole minor units, away from zero: the missing part of an amount that a payout carries."""
    minor: int = 10 ** (currency.scale - currency.exponent)
    return -(-abs(units) // minor) * minor * (-1 if units < 0 else 1)


def round_to_minor(units: int, currency: Currency) -> int:
    """Round `units` to the nearest whole minor units, a half away from zero. An amount below half a minor unit keeps
    its first two digits.
    """
    minor: int = 10 ** (currency.scale - currency.exponent)
    size = abs(units)
    step = minor if 2 * size >= minor else int(10 ** max(0, len(str(size)) - SMALL_DIGITS))
    return (2 * size + step) // (2 * step) * step * (-1 if units < 0 else 1)


def adds_up_in_minor(parts: Iterable[int], total: int, currency: Currency) -> bool:
    """Whether the parts, rounded to minor units, sum to the rounded total. Where they do not, a page shows the exact
    amounts."""
    return sum(round_to_minor(part, currency) for part in parts) == round_to_minor(total, currency)


def text_in_minor(units: int, currency: Currency) -> str:
    """Write an amount in cents in plain text, for sentences and subjects: "USD 8.73", "USD 0.0019"."""
    return text(round_to_minor(units, currency), currency)


def html_in_minor(units: int, currency: Currency) -> SafeString:
    """Write an amount in cents for a page. A button opens the exact one, by mouse, key or finger and without script."""
    short = round_to_minor(units, currency)
    if short == units:
        return html(units, currency)
    return format_html(
        '<button type="button" class="rounded" popovertarget="exact-{0}" title="Exactly {1}">{2}</button>'
        '<span class="exact" id="exact-{0}" popover> Exactly {1}</span>',
        next(_POPOVERS),
        text(units, currency),
        html(short, currency),
    )


def size(size_bytes: int) -> str:
    """Write a number of bytes: "812 bytes", "1.4 MiB"."""
    amount = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} GiB"


def _point(tail: str, currency: Currency) -> str:
    """Yen have no decimals of their own, so their fraction needs its own point."""
    return "." if tail and not currency.exponent else ""
