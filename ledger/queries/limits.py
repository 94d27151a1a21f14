"""Charges of a service in a month, beside the limit that it set for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db.models import Max, Sum

from attribution.models import ModelService
from ledger.models import Account, EntryKind, Line, MonthSpent, SpendAlert, SpendLimit


@dataclass(frozen=True, slots=True)
class Charges:
    """The sum of charges dated in a month, in units, and the newest entry that was looked at; 0 for none."""

    spent: int
    entry_id: int


@dataclass(frozen=True, slots=True)
class LimitOfMonth:
    """A limit with the charges of the month so far, and the thresholds that were told in it."""

    limit: SpendLimit
    month: date
    spent: int
    told: tuple[int, ...]

    @property
    def is_reached(self) -> bool:
        return self.spent >= self.limit.amount

    @property
    def is_stopped(self) -> bool:
        return self.is_reached and self.limit.at_limit == SpendLimit.AtLimit.REFUSE


def charges(service_id: int, currency: str, month: date) -> Charges:
    """Add the lines since the kept sum to it: the account's lines are ordered by entry."""
    key = {"service_id": service_id, "currency": currency, "month": month}
    kept = MonthSpent.objects.filter(**key).first() or MonthSpent(**key)
    account = Account.objects.filter(
        owner=f"service:{service_id}", kind="service_unbilled", asset__code=currency
    ).first()
    lines = Line.objects.filter(account=account, entry_id__gt=kept.entry_id)
    newest = lines.aggregate(newest=Max("entry_id"))["newest"] if account else None
    if newest is None:
        return Charges(kept.spent, kept.entry_id)
    dated = lines.filter(entry_id__lte=newest, entry__effective__gte=month, entry__effective__lt=next_month(month))
    # An invoice moves charges, and makes none.
    added = dated.exclude(entry__kind=EntryKind.INVOICE_SERVICE).aggregate(sum=Sum("amount"))["sum"] or 0
    return Charges(kept.spent - added, newest)


def limits_of(service: ModelService, *, at: datetime) -> list[LimitOfMonth]:
    """List the limits of a service, by currency."""
    month, found = month_of(at), []
    for limit in SpendLimit.objects.filter(service=service).order_by("currency"):
        told = SpendAlert.objects.filter(service=service, currency=limit.currency, month=month).order_by("percent")
        spent = charges(service.pk, limit.currency, month).spent
        found.append(LimitOfMonth(limit, month, spent, tuple(told.values_list("percent", flat=True))))
    return found


def month_of(at: datetime) -> date:
    """Return the first day of a moment's month, in UTC."""
    return at.astimezone(UTC).date().replace(day=1)


def next_month(month: date) -> date:
    return (month + timedelta(days=32)).replace(day=1)
