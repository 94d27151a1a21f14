"""Percentages of parts per billion (ppb). They are whole numbers, so that no share is rounded out of sight."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString

from people.presentation.amounts import exact_decimal

PER_CENT_PPB = 10_000_000
STANDARD_ERRORS_95 = 1.96


def html(ppb: int) -> SafeString:
    """Write the exact percentage for a page, digits past the second decimal smaller: "14.31 %"."""
    head, tail = exact_decimal(ppb, 7, 2)
    rest = format_html('<span class="fraction">{}</span>', tail) if tail else ""
    return format_html('<span class="share">{}{} %</span>', head, rest)


def text(ppb: int) -> str:
    """Write the exact percentage in plain text, without trailing zeros: "12.5 %", "33.3333333 %"."""
    head, tail = exact_decimal(ppb, 7, 0)
    return f"{head}{'.' if tail else ''}{tail} %"


def short(ppb: int) -> str:
    """Round to one decimal, for sentences that say "about": "14.3 %"."""
    return f"{ppb / PER_CENT_PPB:.1f} %"


def likely(ppb: int, se_ppb: int) -> str:
    """Write the 95 % interval of a share, from its standard error in ppb, within 0 and 100: "0.4 to 11.4 %"."""
    half = round(STANDARD_ERRORS_95 * se_ppb)
    low, high = max(0, ppb - half), min(100 * PER_CENT_PPB, ppb + half)
    return f"{low / PER_CENT_PPB:.1f} to {high / PER_CENT_PPB:.1f} %"


def interval_html(ppb: int, se_ppb: int) -> SafeString:
    """Write a share with its 95 % interval, from its standard error in ppb: "5.93 % ± 5.52"."""
    half = STANDARD_ERRORS_95 * se_ppb / PER_CENT_PPB
    return format_html('<span class="share">{} % ± {}</span>', f"{ppb / PER_CENT_PPB:.2f}", f"{half:.2f}")
