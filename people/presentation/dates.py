"""Dates and times for people: one format, always UTC: "30 Nov 2026", "30 Nov 2026, 12:00 UTC", "November 2026"."""

from __future__ import annotations

import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString


def day(value: datetime.date | datetime.datetime) -> str:
    """Write a day: "30 Nov 2026". A moment gives its day in UTC."""
    found = _utc_day(value)
    return f"{found.day} {found:%b %Y}"


def moment(value: datetime.datetime) -> str:
    """Write a moment: "30 Nov 2026, 12:00 UTC"."""
    utc = value.astimezone(datetime.UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M} UTC"


def month(value: datetime.date | datetime.datetime) -> str:
    """Write the month of a day: "November 2026"."""
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
    found = _utc_day(value)
    return format_html('<time class="nowrap" datetime="{}">{}</time>', found.isoformat(), day(found))


def moment_html(value: datetime.datetime) -> SafeString:
    """Write a moment for a page."""
    utc = value.astimezone(datetime.UTC)
    return format_html('<time class="nowrap" datetime="{}">{}</time>', f"{utc:%Y-%m-%dT%H:%M:%SZ}", moment(utc))


def _utc_day(value: datetime.date | datetime.datetime) -> datetime.date:
    return value.astimezone(datetime.UTC).date() if isinstance(value, datetime.datetime) else value
