"""Stops of new reports: written and lifted by the floor that knows the reason, read at each report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attribution.models import ModelService, ReportStop


def stop_reports(
    *,
    service: ModelService,
    currency: str,
    until: datetime,
    problem: str,
    detail: str,
    facts: Mapping[str, Any],
    at: datetime,
) -> None:
    """Refuse new reports in a currency from the commit on; a report that began before is still taken."""
    given = {"until": until, "problem": problem, "detail": detail, "facts": dict(facts)}
    ReportStop.objects.update_or_create(
        service=service, currency=currency, defaults=given, create_defaults={**given, "began_at": at}
    )


def allow_reports(*, service: ModelService, currency: str) -> bool:
    """Take new reports in a currency again; whether they were stopped."""
    return bool(ReportStop.objects.filter(service=service, currency=currency).delete()[0])


def stops_in_force(service: ModelService, *, at: datetime) -> dict[str, ReportStop]:
    """Map each currency with a stop to it."""
    return {stop.currency: stop for stop in ReportStop.objects.filter(service=service, until__gt=at)}
