"""Dates and times for people: one format, in the programme's time zone, which is named: "30 Nov 2026, 12:00 UTC".

Months, plans, consents, split sheets and cut-offs begin and end at midnight UTC in every zone: `utc_day` writes those.
"""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString


def zone() -> ZoneInfo:
    """The programme's time zone."""
    return ZoneInfo(settings.PROGRAMME_TIME_ZONE)


def is_utc() -> bool:
    return str(settings.PROGRAMME_TIME_ZONE) == "UTC"


def today(at: datetime.datetime) -> datetime.date:
    """The programme's day at a moment: the day that its staff and its bank write."""
    return at.astimezone(zone()).date()


def day(value: datetime.date | datetime.datetime) -> str:
    """Write a day: "30 Nov 2026". A moment gives its day in the programme's zone."""
    found = today(value) if isinstance(value, datetime.datetime) else value
    return f"{found.day} {found:%b %Y}"


def utc_day(value: datetime.date | datetime.datetime) -> str:
    """Write the day that begins or ends at midnight UTC: "30 Nov 2026", and "30 Nov 2026 (UTC)" in another zone."""
    found = _utc_day(value)
    return f"{found.day} {found:%b %Y}" if is_utc() else f"{found.day} {found:%b %Y} (UTC)"


def moment(value: datetime.datetime) -> str:
    """Write a moment with its zone: "30 Nov 2026, 12:00 UTC", "30 Nov 2026, 04:00 PST", "30 Nov 2026, 16:00 UTC+04"."""
    local = value.astimezone(zone())
    name = local.tzname() or ""
    # Zones without a name of their own have their offset as a name.
    return f"{local.day} {local:%b %Y, %H:%M} {name if name[:1].isalpha() else f'UTC{name}'}"


def month(value: datetime.date | datetime.datetime) -> str:
    """Write the month of a day, or of a moment in UTC, as the books count: "November 2026"."""
    return f"{_utc_day(value):%B %Y}"


def short_month(value: datetime.date | datetime.datetime) -> str:
    """Write the month of a day where room is scarce: "Nov 2026"."""
    return f"{_utc_day(value):%b %Y}"


def month_of_number(number: int) -> str:
    """Write a month that is kept as a number: 202611 gives "November 2026". Raises ValueError for no such month."""
    return month(datetime.date(number // 100, number % 100, 1))


def short_month_of_number(number: int) -> str:
    """Write such a month where room is scarce: "Nov 2026". Raises ValueError for no such month."""
    return short_month(datetime.date(number // 100, number % 100, 1))


def day_html(value: datetime.date | datetime.datetime) -> SafeString:
    """Write a day for a page."""
    found = today(value) if isinstance(value, datetime.datetime) else value
    return format_html('<time class="nowrap" datetime="{}">{}</time>', found.isoformat(), day(found))


def utc_day_html(value: datetime.date | datetime.datetime) -> SafeString:
    """Write a day that begins or ends at midnight UTC for a page."""
    found = _utc_day(value).isoformat()
    return format_html('<time class="nowrap" datetime="{}">{}</time>', found, utc_day(value))


def zone_in_words() -> str:
    """The sentence of every page about its times."""
    if is_utc():
        return "Times are in UTC."
    return (
        f"Days and times are in {settings.PROGRAMME_TIME_ZONE}. Months and years of the books, plans, consents, split "
        "sheets and cut-offs begin and end at midnight UTC."
    )


def moment_html(value: datetime.datetime) -> SafeString:
    """Write a moment for a page."""
    utc = value.astimezone(datetime.UTC)
    return format_html('<time class="nowrap" datetime="{}">{}</time>', f"{utc:%Y-%m-%dT%H:%M:%SZ}", moment(utc))


def _utc_day(value: datetime.date | datetime.datetime) -> datetime.date:
    return value.astimezone(datetime.UTC).date() if isinstance(value, datetime.datetime) else value
