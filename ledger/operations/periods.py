"""Periods open ahead of time, and tell the date of an entry. Their close is in closing.py, their seal in sealing.py."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from django.db import connection, transaction

from ledger import journal
from ledger.models import Period, next_period, period_of, utc_date

# The oldest generation that is accepted: the first period opened must be able to hold it.
GENERATION_DAYS_MAX = 35
PARTITION_DAYS_AHEAD = 62


def _month(number: int) -> tuple[date, date]:
    following = next_period(number)
    return date(number // 100, number % 100, 1), date(following // 100, following % 100, 1)


def open_periods(*, at: datetime) -> list[Period]:
    """Open every month up to the one after `at`, and make the partitions that they need; returns those newly opened.

    The first call ever begins with the month of the oldest generation that may still be reported.
    """
    today = utc_date(at)
    with transaction.atomic():
        journal.hold_still()
        last = Period.objects.order_by("-id").first()
        number = next_period(last.pk) if last else period_of(today - timedelta(days=GENERATION_DAYS_MAX))
        opened = []
        while number <= next_period(period_of(today)):
            starts, ends = _month(number)
            opened.append(Period.objects.create(id=number, starts=starts, ends=ends))
            number = next_period(number)
        if opened:
            make_partitions()
    return opened


def make_partitions() -> int:
    """Make the partitions for the coming months of documents and the next half million entries; returns how many.

    Lines are partitioned by entry number, so that a busy month needs new ones as well as a new month does: the beat
    asks every hour.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_make_partitions(current_date + %s::integer)", [PARTITION_DAYS_AHEAD])
        return int(cursor.fetchone()[0])


def dated(at: datetime) -> date:
    """The date of an entry that happens now; opens its period where the beat has not done so yet."""
    today = utc_date(at)
    if not Period.objects.filter(pk=period_of(today)).exists():
        open_periods(at=at)
    return today
