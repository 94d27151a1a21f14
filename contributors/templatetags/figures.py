"""How shares, times and digests are written on every page, and how exact decimals are cut up for reading.

Shares are whole parts per billion, written exactly, the digits past the second decimal smaller, so that nothing is
rounded out of sight. Amounts have the scale of their currency, which only the ledger knows (its templatetags.amounts).
"""

from __future__ import annotations

import datetime
from typing import Any, TypeVar

from django import template
from django.template.defaultfilters import stringfilter
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()
T = TypeVar("T")

PER_CENT_PPB = 10_000_000
NOTHING = "–"
MINUS = "−"


def _present(value: T | None) -> T | None:
    """A template hands over "" for an attribute of something that is not there."""
    return None if isinstance(value, str) and not value else value


def exact_decimal(amount: int, scale: int, places_min: int) -> tuple[str, str]:
    """`amount` at 10^-scale as (sign, whole part and first places; the further digits without trailing zeros)."""
    digits = f"{abs(amount):0{scale + 1}d}"
    whole, fraction = digits[:-scale], digits[-scale:]
    head = f"{MINUS if amount < 0 else ''}{int(whole):,}"
    if places_min:
        head = f"{head}.{fraction[:places_min]}"
    return head, fraction[places_min:].rstrip("0")


@register.filter
def share(ppb: int | None) -> SafeString | str:
    """`{{ ppb|share }}`: parts per billion as an exact percentage, "14.31 %" with further digits smaller."""
    if (ppb := _present(ppb)) is None:
        return NOTHING
    head, tail = exact_decimal(int(ppb), 7, 2)
    rest = format_html('<span class="fraction">{}</span>', tail) if tail else ""
    return format_html('<span class="share">{}{} %</span>', head, rest)


@register.filter
def share_short(ppb: int | None) -> str:
    """`{{ ppb|share_short }}`: a percentage with one decimal, for text that says "about"."""
    return NOTHING if (ppb := _present(ppb)) is None else f"{int(ppb) / PER_CENT_PPB:.1f} %"


@register.simple_tag
def share_interval(ppb: int, se_ppb: int) -> SafeString:
    """`{% share_interval ppb se_ppb %}`: the share with its 95 % interval (1.96 standard errors)."""
    half = 1.96 * se_ppb / PER_CENT_PPB
    return format_html('<span class="share">{} % ± {}</span>', f"{ppb / PER_CENT_PPB:.2f}", f"{half:.2f}")


@register.filter
def moment(value: datetime.datetime | None) -> SafeString | str:
    """`{{ at|moment }}`: "20 Nov 2026, 12:00 UTC"."""
    if (value := _present(value)) is None:
        return NOTHING
    utc = value.astimezone(datetime.UTC)
    text = f"{utc.day} {utc:%b %Y, %H:%M} UTC"
    return format_html('<time class="nowrap" datetime="{}">{}</time>', f"{utc:%Y-%m-%dT%H:%M:%SZ}", text)


@register.filter
def day(value: datetime.date | datetime.datetime | None) -> SafeString | str:
    """`{{ date|day }}`: "20 Nov 2026"; of a moment, its day in UTC."""
    if (value := _present(value)) is None:
        return NOTHING
    if isinstance(value, datetime.datetime):
        value = value.astimezone(datetime.UTC).date()
    return format_html('<time class="nowrap" datetime="{}">{}</time>', value.isoformat(), f"{value.day} {value:%b %Y}")


@register.filter
def digest(value: Any) -> SafeString | str:
    """`{{ sha256|digest }}`: the first twelve hexadecimal digits, the whole value one key press away."""
    if not value:
        return NOTHING
    text = value if isinstance(value, str) else bytes(value).hex()
    return format_html(
        '<details class="hash"><summary><code>{}…</code> <span class="visually-hidden">show in full</span></summary>'
        "<code>{}</code></details>",
        text[:12],
        text,
    )


@register.filter
@stringfilter
def identifier(value: str) -> SafeString:
    """`{{ public_id|identifier }}`: an identifier in full, in the face of code."""
    return format_html("<code>{}</code>", value)


@register.filter
def size(value: int | None) -> str:
    """`{{ size_bytes|size }}`: "1.4 MiB"."""
    if (value := _present(value)) is None:
        return NOTHING
    amount = float(value)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} GiB"
