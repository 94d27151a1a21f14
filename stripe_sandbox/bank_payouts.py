"""Payouts to the bank and the settings that rule them.

An automatic payout takes everything that is available, once a day (week, month) at midnight. A manual one takes the
requested amount. After that the clock alone decides the course of a payout.
"""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from stripe_sandbox import configuration, currencies, faults, money, refusals
from stripe_sandbox.accounts import fail_bank, next_midnight
from stripe_sandbox.events import Call, emit, merged
from stripe_sandbox.lists import in_time, page, unix
from stripe_sandbox.models import Account, Balance, BalanceTransaction, Payout, mint
from stripe_sandbox.refusals import UnableToServe

PENDING = timedelta(hours=6)
ARRIVAL_DAYS = 2
INSTANT = timedelta(minutes=30)
# A bank may return money this long after the payout was shown as paid.
RETURN_WINDOW = timedelta(days=5)
WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday"]


def payout_json(payout: Payout) -> dict[str, Any]:
    return {
        "id": payout.reference,
        "object": "payout",
        "amount": payout.amount,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": unix(payout.arrival_date),
        "automatic": payout.automatic,
        "balance_transaction": payout.balance_transaction,
        "created": unix(payout.created),
        "currency": payout.currency,
        "description": payout.description or None,
        "destination": payout.destination,
        "failure_balance_transaction": payout.failure_balance_transaction or None,
        "failure_code": payout.failure_code or None,
        "failure_message": f"The bank returned the payout: {payout.failure_code}." if payout.failure_code else None,
        "livemode": False,
        "metadata": payout.metadata,
        "method": payout.method,
        "original_payout": None,
        "payout_method": None,
        "reconciliation_status": payout.reconciliation_status,
        "reversed_by": None,
        "source_type": payout.source_type,
        "statement_descriptor": payout.statement_descriptor or None,
        "status": payout.status,
        "trace_id": {"status": "supported" if payout.trace else "pending", "value": payout.trace or None},
        "type": "bank_account",
    }


# --- requests -----------------------------------------------------------------------------------------------------
def create_payout(call: Call) -> dict[str, Any]:
    """Create a requested payout; the money leaves the balance at once. Raises UnableToServe as Stripe refuses it."""
    amount, currency = money.checked_amount(call.params)
    account, params = call.account, call.params
    if currency in currencies.WHOLE_UNITS_ON_PAYOUT and amount % 100:
        raise UnableToServe(f"Payouts in {currency} must be divisible by 100.", code="amount_invalid", param="amount")
    if not account.payouts_enabled or not account.bank:
        raise refusals.payouts_not_allowed()
    if params.get("destination", account.bank["id"]) != account.bank["id"]:
        raise refusals.no_such("external account", params["destination"], param="destination", status=400)
    given = {name: params[name] for name in ("method", "description", "statement_descriptor") if name in params}
    metadata = merged({}, params.get("metadata"))
    payout = _make(account, amount, currency, automatic=False, at=call.at, metadata=metadata, **given)
    emit("payout.created", payout_json(payout), at=call.at, account=account, call=call)
    money.take(account=account.reference, currency=currency, amount=amount)
    return payout_json(payout)


def _make(account: Account, amount: int, currency: str, *, automatic: bool, at: datetime, **given: Any) -> Payout:
    instant = given.get("method") == "instant"
    arrival = at + INSTANT if instant else next_midnight(at) + timedelta(days=ARRIVAL_DAYS - 1)
    payout = Payout.objects.create(
        account=account,
        amount=amount,
        currency=currency,
        automatic=automatic,
        destination=(account.bank or {})["id"],
        balance_transaction=mint("txn"),
        failure_due=faults.payout_failure(account.reference),
        reconciliation_status="in_progress" if automatic else "not_applicable",
        next_step_at=at + (INSTANT / 2 if instant else PENDING),
        arrival_date=arrival,
        created=at,
        **{"statement_descriptor": account.statement_descriptor, **given},
    )
    BalanceTransaction.objects.create(
        reference=payout.balance_transaction,
        account=account,
        kind="payout",
        amount=-amount,
        currency=currency,
        source=payout.reference,
        available_on=at,
        created=at,
    )
    return payout


def _payout(call: Call, *, lock: bool = False) -> Payout:
    payouts = Payout.objects.select_for_update(no_key=True) if lock else Payout.objects
    payout = payouts.filter(account=call.account, reference=call.args["payout"]).first()
    if payout is None:
        raise refusals.no_such("payout", call.args["payout"])
    return payout


def get_payout(call: Call) -> dict[str, Any]:
    return payout_json(_payout(call))


def list_payouts(call: Call) -> dict[str, Any]:
    payouts, params = Payout.objects.filter(account=call.account), call.params
    payouts = in_time(payouts, "arrival_date", params.get("arrival_date"))
    for name in ("status", "destination"):
        if name in params:
            payouts = payouts.filter(**{name: params[name]})
    return page(payouts, params, payout_json, "/v1/payouts")


def update_payout(call: Call) -> dict[str, Any]:
    payout = _payout(call, lock=True)
    payout.metadata = merged(payout.metadata, call.params.get("metadata"))
    payout.save(update_fields=["metadata"])
    emit("payout.updated", payout_json(payout), at=call.at, account=call.account, call=call, previous={})
    return payout_json(payout)


def cancel_payout(call: Call) -> dict[str, Any]:
    payout = _payout(call, lock=True)
    if payout.automatic or payout.status != "pending":
        raise UnableToServe("Only a manual payout that is still pending can be canceled.", param="payout")
    payout.status, payout.next_step_at = "canceled", None
    _give_back(payout, "payout_cancel", at=call.at)
    payout.save()
    emit("payout.canceled", payout_json(payout), at=call.at, account=call.account, call=call)
    return payout_json(payout)


def _give_back(payout: Payout, kind: str, *, at: datetime) -> None:
    movement = BalanceTransaction.objects.create(
        account_id=payout.account_id,
        kind=kind,
        amount=payout.amount,
        currency=payout.currency,
        source=payout.reference,
        available_on=at,
        created=at,
    )
    payout.failure_balance_transaction = movement.reference
    money.add(account=payout.account_id, currency=payout.currency, available=payout.amount)


# --- settings -----------------------------------------------------------------------------------------------------
def settings_json(account: Account) -> dict[str, Any]:
    # stripe-python 16.1 cannot read a null where it expects amounts by currency; an absent field it can.
    minimums = {"minimum_balance_by_currency": account.minimum_balances} if account.minimum_balances else {}
    return {
        "object": "balance_settings",
        "payments": {
            "debit_negative_balances": account.debit_negative_balances,
            "payouts": {
                **minimums,
                "schedule": account.payout_schedule,
                "statement_descriptor": account.statement_descriptor or None,
                "status": "enabled" if account.payouts_enabled else "disabled",
            },
            "settlement_timing": {"delay_days": ARRIVAL_DAYS},
        },
    }


def get_settings(call: Call) -> dict[str, Any]:
    return settings_json(Account.objects.get(pk=call.account.pk))


def update_settings(call: Call) -> dict[str, Any]:
    account = Account.objects.select_for_update(no_key=True).get(pk=call.account.pk)
    payments = call.params.get("payments") or {}
    payouts = payments.get("payouts") or {}
    account.debit_negative_balances = payments.get("debit_negative_balances", account.debit_negative_balances)
    account.statement_descriptor = payouts.get("statement_descriptor", account.statement_descriptor)
    minimums = payouts.get("minimum_balance_by_currency")
    if minimums is not None:
        merged_minimums = {} if minimums == "" else account.minimum_balances | minimums
        account.minimum_balances = {code: least for code, least in merged_minimums.items() if least != ""}
    if schedule := payouts.get("schedule"):
        account.payout_schedule = _schedule(account.payout_schedule, schedule)
        account.next_payout_at = next_payout(account.payout_schedule, after=call.at)
    account.save()
    if account.is_platform:
        transaction.on_commit(configuration.reload)
    shown = settings_json(account)
    emit("balance_settings.updated", shown, at=call.at, account=account, call=call, previous={})
    return shown


def _schedule(before: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    interval = given.get("interval", before["interval"])
    schedule = {"interval": interval}
    if interval == "weekly":
        schedule["weekly_payout_days"] = given.get("weekly_payout_days", ["friday"])
    if interval == "monthly":
        schedule["monthly_payout_days"] = given.get("monthly_payout_days", [1])
    return schedule


def next_payout(schedule: dict[str, Any], *, after: datetime) -> datetime | None:
    """The midnight at which money next leaves by itself, or None where a person triggers each payout."""
    if schedule["interval"] == "manual":
        return None
    day = next_midnight(after)
    while not _pays_on(schedule, day):
        day += timedelta(days=1)
    return day


def _pays_on(schedule: dict[str, Any], day: datetime) -> bool:
    if schedule["interval"] == "weekly":
        return any(day.weekday() == WEEKDAYS.index(name) for name in schedule["weekly_payout_days"])
    if schedule["interval"] == "monthly":
        last = calendar.monthrange(day.year, day.month)[1]
        return day.day in {min(number, last) for number in schedule["monthly_payout_days"]}
    return True


# --- what the clock does to payouts -------------------------------------------------------------------------------
def pay_out_automatically(*, account: Account, at: datetime) -> list[Payout]:
    """Everything available above the minimum, one payout for each currency. The account is locked."""
    if not account.payouts_enabled or not account.bank:
        return []
    made = []
    positive = Balance.objects.select_for_update().filter(account=account, available__gt=0)
    for held in positive.order_by("currency"):
        amount = min(held.available - int(account.minimum_balances.get(held.currency, 0)), currencies.AMOUNT_MAX)
        if held.currency in currencies.WHOLE_UNITS_ON_PAYOUT:
            amount -= amount % 100
        if amount < 1:
            continue
        payout = _make(account, amount, held.currency, automatic=True, at=at)
        mine = Q(account=account, currency=held.currency, status="available", payout="")
        BalanceTransaction.objects.filter(mine).update(payout=payout.reference)
        emit("payout.created", payout_json(payout), at=at, account=account)
        money.add(account=account.reference, currency=held.currency, available=-amount)
        made.append(payout)
    return made


def step(*, payout: Payout, at: datetime) -> None:
    """Take the next step of a locked payout that is due."""
    account = Account.objects.get(reference=payout.account_id)
    if payout.status == "pending":
        payout.status, payout.next_step_at = "in_transit", payout.arrival_date
        payout.save()
        emit("payout.updated", payout_json(payout), at=at, account=account, previous={"status": "pending"})
    elif payout.failure_due:
        fail(payout=payout, code=payout.failure_due, at=at)
    else:
        payout.status, payout.next_step_at, payout.trace = "paid", None, f"trace{payout.pk:012}"
        if payout.automatic:
            payout.reconciliation_status = "completed"
        payout.save()
        emit("payout.paid", payout_json(payout), at=at, account=account)
        if payout.automatic:
            emit("payout.reconciliation_completed", payout_json(payout), at=at, account=account)


def fail(*, payout: Payout, code: str, at: datetime) -> None:
    """The bank returns a locked payout, perhaps days after it was shown as paid; the money is available again.

    Raises UnableToServe where the payout cannot fail any more.
    """
    too_late = payout.status == "paid" and at > payout.arrival_date + RETURN_WINDOW
    if payout.status not in {"pending", "in_transit", "paid"} or too_late:
        raise UnableToServe(f"The payout {payout.reference} is {payout.status} and cannot fail any more.")
    account = Account.objects.select_for_update(no_key=True).get(reference=payout.account_id)
    payout.status, payout.failure_code, payout.next_step_at = "failed", code, None
    _give_back(payout, "payout_failure", at=at)
    payout.save()
    emit("payout.failed", payout_json(payout), at=at, account=account)
    if not account.is_platform:
        fail_bank(account=account, at=at)
