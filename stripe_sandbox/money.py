"""Balances, movements on them, and top-ups.

Locks are taken in one order: the row of a balance before the movements on it; connected accounts by identifier; the
platform's balance last, because every transfer waits for it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from stripe_sandbox import configuration, currencies, refusals
from stripe_sandbox.events import Call, emit, merged
from stripe_sandbox.lists import page, unix
from stripe_sandbox.models import Account, Balance, BalanceTransaction, Payout, Topup
from stripe_sandbox.refusals import UnableToServe

REPORTING_CATEGORY = {
    "transfer": "transfer",
    "transfer_refund": "transfer_reversal",
    "payment": "charge",
    "payment_refund": "refund",
    "payout": "payout",
    "payout_cancel": "payout_reversal",
    "payout_failure": "payout_reversal",
    "topup": "topup",
    "topup_reversal": "topup_reversal",
    "adjustment": "other_adjustment",
}

_ADD = """
INSERT INTO stripe_sandbox_balance AS held (account_id, currency, available, pending) VALUES (%s, %s, %s, %s)
ON CONFLICT (account_id, currency) DO UPDATE
SET available = held.available + EXCLUDED.available, pending = held.pending + EXCLUDED.pending
"""
_TAKE = """
UPDATE stripe_sandbox_balance SET available = available - %s
WHERE account_id = %s AND currency = %s AND available >= %s
"""


def add(*, account: str, currency: str, available: int = 0, pending: int = 0) -> None:
    """Add to a balance (or take from it, below nothing if need be), and lock it until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_ADD, [account, currency, available, pending])


def take(*, account: str, currency: str, amount: int) -> None:
    """Take minor units from the available balance. Raises UnableToServe (balance_insufficient) if it is too small."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, [amount, account, currency, amount])
        if cursor.rowcount != 1:
            raise refusals.insufficient_balance()


def checked_amount(params: dict[str, Any]) -> tuple[int, str]:
    """The amount and currency of a request, within the limits that hold for every movement."""
    amount, currency = int(params["amount"]), str(params["currency"]).lower()
    if currency not in currencies.PER_USD:
        raise refusals.unsupported_currency(currency)
    if amount < 1:
        raise refusals.not_positive("amount")
    if amount > currencies.AMOUNT_MAX:
        raise refusals.too_large()
    return amount, currency


# --- what is shown ------------------------------------------------------------------------------------------------
def _amounts(rows: list[Balance], column: str, default_currency: str) -> list[dict[str, Any]]:
    held = {row.currency: int(getattr(row, column)) for row in rows} or {default_currency: 0}
    return [
        {"amount": amount, "currency": currency, "source_types": {"card": amount}}
        for currency, amount in sorted(held.items())
    ]


def balance_json(account: Account) -> dict[str, Any]:
    rows = list(Balance.objects.filter(account=account))
    shown: dict[str, Any] = {
        "object": "balance",
        "available": _amounts(rows, "available", account.default_currency),
        "livemode": False,
        "pending": _amounts(rows, "pending", account.default_currency),
    }
    if account.is_platform:
        shown["connect_reserved"] = [{"amount": 0, "currency": one["currency"]} for one in shown["available"]]
    return shown


def get_balance(call: Call) -> dict[str, Any]:
    return balance_json(call.account)


def movement_json(movement: BalanceTransaction) -> dict[str, Any]:
    return {
        "id": movement.reference,
        "object": "balance_transaction",
        "amount": movement.amount,
        "available_on": unix(movement.available_on),
        "balance_type": "payments",
        "created": unix(movement.created),
        "currency": movement.currency,
        "description": movement.description or None,
        "exchange_rate": movement.exchange_rate,
        "fee": movement.fee,
        "fee_details": [],
        "net": movement.amount - movement.fee,
        "reporting_category": REPORTING_CATEGORY[movement.kind],
        "source": movement.source or None,
        "status": movement.status,
        "type": movement.kind,
    }


def list_movements(call: Call) -> dict[str, Any]:
    params = call.params
    movements = BalanceTransaction.objects.filter(account=call.account)
    if Payout.objects.filter(reference=params.get("payout", ""), automatic=False).exists():
        raise UnableToServe(
            "Balance transaction history can only be filtered on automatic transfers, not manual.", param="payout"
        )
    for name, column in (("currency", "currency"), ("payout", "payout"), ("source", "source"), ("type", "kind")):
        if name in params:
            movements = movements.filter(**{column: params[name]})
    return page(movements, params, movement_json, "/v1/balance_transactions")


def get_movement(call: Call) -> dict[str, Any]:
    movement = BalanceTransaction.objects.filter(account=call.account, reference=call.args["id"]).first()
    if movement is None:
        raise refusals.no_such("balance transaction", call.args["id"])
    return movement_json(movement)


# --- top-ups ------------------------------------------------------------------------------------------------------
def topup_json(topup: Topup) -> dict[str, Any]:
    return {
        "id": topup.reference,
        "object": "topup",
        "amount": topup.amount,
        "balance_transaction": topup.balance_transaction or None,
        "created": unix(topup.created),
        "currency": topup.currency,
        "description": topup.description or None,
        "expected_availability_date": unix(topup.available_on),
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": topup.metadata,
        "source": None,
        "statement_descriptor": topup.statement_descriptor or None,
        "status": topup.status,
        "transfer_group": topup.transfer_group or None,
    }


def create_topup(call: Call) -> dict[str, Any]:
    """Money from the platform's bank: there at once, or after as many seconds as the configuration says."""
    amount, currency = checked_amount(call.params)
    params, seconds = call.params, configuration.current().topup_seconds
    topup = Topup.objects.create(
        amount=amount,
        currency=currency,
        description=params.get("description", ""),
        statement_descriptor=params.get("statement_descriptor", ""),
        transfer_group=params.get("transfer_group", ""),
        metadata=merged({}, params.get("metadata")),
        available_on=call.at + timedelta(seconds=seconds),
        created=call.at,
    )
    emit("topup.created", topup_json(topup), at=call.at, account=call.account, call=call)
    if not seconds:
        succeed_topup(topup=topup, account=call.account, at=call.at)
    return topup_json(topup)


def succeed_topup(*, topup: Topup, account: Account, at: datetime) -> None:
    movement = BalanceTransaction.objects.create(
        account=account,
        kind="topup",
        amount=topup.amount,
        currency=topup.currency,
        source=topup.reference,
        description=topup.description,
        available_on=at,
        created=at,
    )
    topup.status, topup.balance_transaction = "succeeded", movement.reference
    topup.save(update_fields=["status", "balance_transaction"])
    emit("topup.succeeded", topup_json(topup), at=at, account=account)
    add(account=account.reference, currency=topup.currency, available=topup.amount)


def reverse_topup(*, topup: Topup, account: Account, at: datetime) -> None:
    """Let the platform's bank take the money of a top-up back, even if it is spent: the balance goes below zero.

    Raises ValueError for a top-up that did not succeed.
    """
    if topup.status != "succeeded":
        raise ValueError(f"only a top-up that succeeded comes back; this one is {topup.status}")
    BalanceTransaction.objects.create(
        account=account,
        kind="topup_reversal",
        amount=-topup.amount,
        currency=topup.currency,
        source=topup.reference,
        description=topup.description,
        available_on=at,
        created=at,
    )
    topup.status = "reversed"
    topup.save(update_fields=["status"])
    emit("topup.reversed", topup_json(topup), at=at, account=account)
    add(account=account.reference, currency=topup.currency, available=-topup.amount)


def list_topups(call: Call) -> dict[str, Any]:
    topups, params = Topup.objects.all(), call.params
    if "status" in params:
        topups = topups.filter(status=params["status"])
    amounts = params.get("amount")
    if isinstance(amounts, dict):
        topups = topups.filter(**{f"amount__{how}": bound for how, bound in amounts.items()})
    elif amounts is not None:
        topups = topups.filter(amount=amounts)
    return page(topups, params, topup_json, "/v1/topups")


def _topup(call: Call) -> Topup:
    topup = Topup.objects.filter(reference=call.args["topup"]).first()
    if topup is None:
        raise refusals.no_such("topup", call.args["topup"])
    return topup


def get_topup(call: Call) -> dict[str, Any]:
    return topup_json(_topup(call))


def update_topup(call: Call) -> dict[str, Any]:
    topup = _topup(call)
    topup.description = call.params.get("description", topup.description)
    topup.metadata = merged(topup.metadata, call.params.get("metadata"))
    topup.save(update_fields=["description", "metadata"])
    return topup_json(topup)


def adjust(*, account: Account, currency: str, amount: int, at: datetime) -> BalanceTransaction:
    """Correct a balance as Stripe would, in minor units, also below zero. Only the sandbox's own controls do so."""
    movement = BalanceTransaction.objects.create(
        account=account,
        kind="adjustment",
        amount=amount,
        currency=currency,
        source="",
        description="Adjustment",
        available_on=at,
        created=at,
    )
    add(account=account.reference, currency=currency, available=amount)
    return movement
