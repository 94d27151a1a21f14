"""Reads for the pages of plans."""

from __future__ import annotations

from datetime import UTC, datetime, time

from attribution.models import Generation
from ledger.models import Period

MONTHS_OFFERED = 36


def previewed_periods(at: datetime) -> list[Period]:
    """The months that a proposal can be previewed on: those that have begun, the newest first."""
    return list(Period.objects.filter(starts__lte=at.astimezone(UTC).date()).order_by("-id")[:MONTHS_OFFERED])


def not_void_in(period: Period, currency: str, *, limit: int) -> int:
    """How many generations of a currency occurred in a month, counted up to `limit`."""
    since, until = (datetime.combine(day, time(), tzinfo=UTC) for day in (period.starts, period.ends))
    rows = Generation.objects.filter(
        occurred_at__gte=since, occurred_at__lt=until, currency=currency, void__isnull=True
    )
    return len(rows.values_list("pk", flat=True)[:limit])
