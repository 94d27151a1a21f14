"""Template filters for percentages, dates, digests and sizes. Amounts are in ledger's filters: it knows the scales."""

from __future__ import annotations

import datetime
from typing import Any, TypeVar

from django import template
from django.template.defaultfilters import stringfilter
from django.utils.html import format_html
from django.utils.safestring import SafeString

from people.presentation import amounts, codes, dates, percent
from people.presentation.amounts import NOTHING

register = template.Library()
T = TypeVar("T")


def _present(value: T | None) -> T | None:
    """Return None for "", which a template passes for an absent attribute."""
    return None if isinstance(value, str) and not value else value


@register.filter
def share(ppb: int | None) -> SafeString | str:
    """`{{ ppb|share }}`: parts per billion as an exact percentage, "14.31 %" with further digits smaller."""
    return NOTHING if (ppb := _present(ppb)) is None else percent.html(int(ppb))


@register.filter
def share_short(ppb: int | None) -> str:
    """`{{ ppb|share_short }}`: a percentage with one decimal, for text that says "about"."""
    return NOTHING if (ppb := _present(ppb)) is None else percent.short(int(ppb))


@register.simple_tag
def share_interval(ppb: int, se_ppb: int) -> SafeString:
    """`{% share_interval ppb se_ppb %}`: the share with its 95 % interval (1.96 standard errors)."""
    return percent.interval_html(ppb, se_ppb)


@register.filter
def moment(value: datetime.datetime | None) -> SafeString | str:
    """`{{ at|moment }}`: "20 Nov 2026, 12:00 UTC"."""
    return NOTHING if (value := _present(value)) is None else dates.moment_html(value)


@register.filter
def day(value: datetime.date | datetime.datetime | None) -> SafeString | str:
    """`{{ date|day }}`: "20 Nov 2026"; of a moment, its day in the programme's zone."""
    return NOTHING if (value := _present(value)) is None else dates.day_html(value)


@register.filter
def utc_day(value: datetime.date | datetime.datetime | None) -> SafeString | str:
    """`{{ plan.effective_from|utc_day }}`: a day that begins or ends at midnight UTC in every zone."""
    return NOTHING if (value := _present(value)) is None else dates.utc_day_html(value)


@register.simple_tag
def zone_in_words() -> str:
    """`{% zone_in_words %}`: the sentence of every page about its times."""
    return dates.zone_in_words()


@register.filter
def month(value: datetime.date | datetime.datetime | None) -> str:
    """`{{ date|month }}`: "November 2026"."""
    return NOTHING if (value := _present(value)) is None else dates.month(value)


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
    return NOTHING if (value := _present(value)) is None else amounts.size(value)


@register.filter
def spaced(name: str) -> str:
    """`{{ code|spaced }}`: a code in readable words, the first one with a capital letter."""
    return codes.spaced(name).capitalize()
