"""Limits of a service's charges in a month: alerts on the way, and a stop of new reports where the service wants one.

A limit counts the charges dated in the month, as the accrual sweep posts them. It is read after each sweep, and by a
task each minute. Reports that were accepted before the stop are charged in full, so a month can end above its limit.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

import structlog
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from attribution.models import ModelService
from attribution.operations.stops import allow_reports, stop_reports
from ledger.models import MonthSpent, SpendAlert, SpendLimit
from ledger.money import ASSETS, UnableToParseAmount, format_amount, parse_amount
from ledger.queries import limits
from ledger.queries.limits import month_of, next_month
from people.actor import lacks_role, logged
from people.models import User
from people.operations import mail, webhooks

THRESHOLDS_MAX, CONTACTS_MAX = 10, 10
DEFAULT_THRESHOLDS = (50, 80, 100)
ACTORS = ("finance_maker", "admin")
FINANCE = ("finance_maker", "finance_checker")
TRIES_MAX = 8
FIRST_WAIT, LAST_WAIT = timedelta(minutes=1), timedelta(hours=6)

log = structlog.get_logger(__name__)


class UnableToSetLimit(Exception):
    """The person lacks the role, or a value is not valid; `members["field"]` names it."""

    status = 422
    problem = "invalid-field"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.members = {"field": field}


# --- the limit ----------------------------------------------------------------------------------------------------
@logged("spend_limit", "currency", "amount", "thresholds", "at_limit", "contacts", key="service.public_id")
def set_limit(
    *,
    service: ModelService,
    currency: str,
    amount: str,
    thresholds: Collection[int] = DEFAULT_THRESHOLDS,
    at_limit: str = SpendLimit.AtLimit.ALERT,
    contacts: Collection[str] = (),
    at: datetime,
    by: User | None = None,
) -> SpendLimit:
    """Set or change the limit of a month in a currency. A limit above the charges lifts its stop at once.

    Raises UnableToSetLimit.
    """
    _authorise(by)
    given = {
        "amount": _amount(amount, currency),
        "thresholds": _thresholds(thresholds),
        "at_limit": _at_limit(at_limit),
        "contacts": _contacts(contacts),
        "set_at": at,
    }
    with transaction.atomic():
        limit, _ = SpendLimit.objects.update_or_create(service=service, currency=currency, defaults=given)
        _check(limit, at)
    return limit


@logged("spend_limit", "currency", "amount", key="service.public_id", before="set")
def remove_limit(*, limit: SpendLimit, at: datetime, by: User | None = None) -> SpendLimit:
    """Remove a limit and its stop."""
    _authorise(by)
    with transaction.atomic():
        SpendLimit.objects.filter(pk=limit.pk).delete()
        allow_reports(service=limit.service, currency=limit.currency)
    return limit


def _authorise(by: User | None) -> None:
    """Without a person it is the service's own act, by its key."""
    if by is not None and (refusal := lacks_role(by=by, roles=ACTORS)):
        raise UnableToSetLimit("", refusal)


def _amount(text: str, currency: str) -> int:
    if currency not in ASSETS:
        raise UnableToSetLimit("currency", f"the ledger keeps {', '.join(ASSETS)}, not {currency[:10]!r}.")
    try:
        units = parse_amount(text, currency)
    except UnableToParseAmount as error:
        raise UnableToSetLimit("limit", str(error)) from error
    if units <= 0:
        raise UnableToSetLimit("limit", f"it is more than zero, not {text}.")
    return units


def _thresholds(told: Collection[int]) -> list[int]:
    if len(told) > THRESHOLDS_MAX or not all(1 <= percent <= 100 for percent in told):
        raise UnableToSetLimit("thresholds", f"they are at most {THRESHOLDS_MAX} whole numbers from 1 to 100.")
    return sorted({*told, 100})


def _at_limit(told: str) -> str:
    if told not in SpendLimit.AtLimit.values:
        raise UnableToSetLimit("at_limit", f"it is one of {', '.join(SpendLimit.AtLimit.values)}.")
    return told


def _contacts(told: Collection[str]) -> list[str]:
    found = sorted({address.strip() for address in told})
    if len(found) > CONTACTS_MAX:
        raise UnableToSetLimit("contacts", f"there are at most {CONTACTS_MAX} addresses, not {len(found)}.")
    for address in found:
        try:
            validate_email(address)
        except ValidationError as error:
            raise UnableToSetLimit("contacts", f"{address[:80]!r} is no e-mail address.") from error
    return found


# --- the charges ----------------------------------------------------------------------------------------------------
def check_limits(*, at: datetime, service_ids: Collection[int] | None = None) -> int:
    """Read the charges of all limits, or of those of some services; write alerts, stops and ends of stops.

    Returns the number of new alerts.
    """
    rows = SpendLimit.objects.order_by("pk")
    if service_ids is not None:
        rows = rows.filter(service__in=service_ids)
    told = 0
    for number in rows.values_list("pk", flat=True):
        with transaction.atomic():
            limit = SpendLimit.objects.select_for_update(no_key=True).filter(pk=number).first()
            told += _check(limit, at) if limit else 0
    return told


def _check(limit: SpendLimit, at: datetime) -> int:
    month = month_of(at)
    # Charges of the month before come for some days.
    before = month_of(datetime(month.year, month.month, 1, tzinfo=UTC) - timedelta(days=1))
    told = _alert(limit, before, _spent(limit, before), at) if limit.set_at.astimezone(UTC).date() < month else 0
    spent = _spent(limit, month)
    told += _alert(limit, month, spent, at)
    if limit.at_limit == SpendLimit.AtLimit.REFUSE and spent >= limit.amount:
        _stop(limit, month, spent, at)
    else:
        allow_reports(service=limit.service, currency=limit.currency)
    return told


def _spent(limit: SpendLimit, month: date) -> int:
    """Add up the charges dated in a month, in units, and keep the sum. The row of the limit is locked."""
    found = limits.charges(limit.service_id, limit.currency, month)
    if found.entry_id:
        MonthSpent.objects.update_or_create(
            service_id=limit.service_id,
            currency=limit.currency,
            month=month,
            defaults={"spent": found.spent, "entry_id": found.entry_id},
        )
    return found.spent


def _alert(limit: SpendLimit, month: date, spent: int, at: datetime) -> int:
    reached = [percent for percent in limit.thresholds if spent * 100 >= limit.amount * percent]
    told = 0
    for percent in reached:
        _, is_new = SpendAlert.objects.get_or_create(
            service_id=limit.service_id,
            currency=limit.currency,
            month=month,
            percent=percent,
            defaults={
                "amount": limit.amount,
                "spent": spent,
                "at_limit": limit.at_limit,
                "contacts": limit.contacts,
                "at": at,
                "next_at": at,
            },
        )
        if is_new:
            told += 1
            facts = _facts(limit, month, spent)
            webhooks.emit(
                event="limit.threshold",
                owners=[f"service:{limit.service_id}"],
                data={**facts, "percent": percent, "at_limit": limit.at_limit},
                at=at,
            )
    return told


def _facts(limit: SpendLimit, month: date, spent: int) -> dict[str, str]:
    shown = {"limit": limit.amount, "accrued": spent}
    amounts = {name: format_amount(units, limit.currency, decimals=2) for name, units in shown.items()}
    return {"currency": limit.currency, "month": f"{month:%Y-%m}", **amounts}


def _stop(limit: SpendLimit, month: date, spent: int, at: datetime) -> None:
    facts = _facts(limit, month, spent)
    until = datetime.combine(next_month(month), datetime.min.time(), tzinfo=UTC)
    stop_reports(
        service=limit.service,
        currency=limit.currency,
        until=until,
        problem="limit-reached",
        detail=(
            f"{limit.currency} {facts['accrued']} are charged in {facts['month']}, and the limit is {facts['limit']}. "
            f"Raise it with PUT /api/v1/limits/{limit.currency} or in the console, or report from {until:%Y-%m-%d} on."
        ),
        facts={**facts, "until": until.isoformat().replace("+00:00", "Z")},
        at=at,
    )


# --- mail -----------------------------------------------------------------------------------------------------------
def mail_alerts(*, at: datetime, limit: int = 100) -> int:
    """Mail the alerts that wait, to the service's contacts and to finance. Returns the number of sent ones.

    A mail is noted as tried before it is handed over, so that two workers send no alert twice.
    """
    sent = 0
    for number in SpendAlert.objects.filter(next_at__lte=at).order_by("pk").values_list("pk", flat=True)[:limit]:
        with transaction.atomic(durable=True):
            rows = SpendAlert.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).select_related(
                "service"
            )
            alert = rows.filter(pk=number, next_at__lte=at).first()
            if alert is None:
                continue
            alert.tries += 1
            alert.next_at = at + min(FIRST_WAIT * 4 ** (alert.tries - 1), LAST_WAIT)
            alert.save(update_fields=["tries", "next_at"])
        sent += _mail(alert, at)
    return sent


def _mail(alert: SpendAlert, at: datetime) -> int:
    people = User.objects.filter(groups__name__in=FINANCE, is_active=True)
    addresses = sorted({*alert.contacts, *people.values_list("email", flat=True)})
    try:
        for address in addresses:
            mail.message(to=address, subject=_subject(alert), body=_body(alert)).send()
    except Exception as error:
        # No error of a mail server may stop the others, nor keep this one from being tried again.
        log.warning("spend_alert_not_mailed", alert=alert.pk, tries=alert.tries, error=str(error))
        gone = {"next_at": None} if alert.tries >= TRIES_MAX else {}
        SpendAlert.objects.filter(pk=alert.pk).update(error=f"{type(error).__name__}: {error}"[:500], **gone)
        return 0
    SpendAlert.objects.filter(pk=alert.pk).update(next_at=None, error="", sent_at=at if addresses else None)
    return 1 if addresses else 0


def _subject(alert: SpendAlert) -> str:
    return f"{alert.service} has reached {alert.percent} % of its limit for {alert.month:%B %Y}"


def _body(alert: SpendAlert) -> str:
    spent, amount = (format_amount(units, alert.currency, decimals=2) for units in (alert.spent, alert.amount))
    words = [
        f"{alert.currency} {spent} are charged to {alert.service} in {alert.month:%B %Y}. "
        f"The limit is {alert.currency} {amount}."
    ]
    if alert.percent == 100 and alert.at_limit == SpendLimit.AtLimit.REFUSE:
        words.append(
            "New reports are refused until the next month, or until the limit is raised. Accepted ones are attributed "
            "and charged."
        )
    else:
        words.append("Reports are taken as before.")
    words.append(f"The service changes it with PUT /api/v1/limits/{alert.currency}; finance does so in the console.")
    return "\n\n".join(words)
