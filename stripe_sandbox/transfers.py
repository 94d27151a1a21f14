"""Transfers from the platform to connected accounts, and their reversals.

A transfer happens at once or not at all. The platform's balance is taken last in the transaction: every transfer
waits for that row, so it is held for one statement and the commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection

from stripe_sandbox import currencies, money, refusals
from stripe_sandbox.events import Call, emit, merged
from stripe_sandbox.lists import page, unix
from stripe_sandbox.models import PLATFORM, Balance, BalanceTransaction, Reversal, Transfer, mint
from stripe_sandbox.refusals import UnableToServe

# Money sent to an account under the recipient agreement becomes available a day later.
RECIPIENT_DELAY = timedelta(hours=24)
ENABLING = ("transfers", "crypto_transfers", "legacy_payments")


# --- what is shown ------------------------------------------------------------------------------------------------
def reversal_json(reversal: Reversal) -> dict[str, Any]:
    return {
        "id": reversal.reference,
        "object": "transfer_reversal",
        "amount": reversal.amount,
        "balance_transaction": reversal.balance_transaction,
        "created": unix(reversal.created),
        "currency": reversal.transfer.currency,
        "destination_payment_refund": reversal.destination_payment_refund,
        "metadata": reversal.metadata,
        "source_refund": None,
        "transfer": reversal.transfer_id,
    }


def transfer_json(transfer: Transfer) -> dict[str, Any]:
    reversals = list(transfer.reversals.order_by("-pk")[:11]) if transfer.amount_reversed else []
    return {
        "id": transfer.reference,
        "object": "transfer",
        "amount": transfer.amount,
        "amount_reversed": transfer.amount_reversed,
        "balance_transaction": transfer.balance_transaction,
        "created": unix(transfer.created),
        "currency": transfer.currency,
        "description": transfer.description or None,
        "destination": transfer.destination_id,
        "destination_payment": transfer.destination_payment,
        "livemode": False,
        "metadata": transfer.metadata,
        "reversals": {
            "object": "list",
            "data": [reversal_json(one) for one in reversals[:10]],
            "has_more": len(reversals) > 10,
            "url": f"/v1/transfers/{transfer.reference}/reversals",
        },
        "reversed": transfer.amount_reversed == transfer.amount,
        "source_transaction": None,
        "source_type": transfer.source_type,
        "transfer_group": transfer.transfer_group or None,
    }


def payment_json(transfer: Transfer) -> dict[str, Any]:
    """The transfer as the connected account sees it: a payment that came in."""
    return {
        "id": transfer.destination_payment,
        "object": "charge",
        "amount": transfer.amount,
        "amount_captured": transfer.amount,
        "amount_refunded": transfer.amount_reversed,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": transfer.destination_balance_transaction,
        "billing_details": {"address": None, "email": None, "name": None, "phone": None, "tax_id": None},
        "calculated_statement_descriptor": None,
        "captured": True,
        "created": unix(transfer.created),
        "currency": transfer.currency,
        "customer": None,
        "description": transfer.description or None,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": {},
        "on_behalf_of": None,
        "outcome": None,
        "paid": True,
        "payment_intent": None,
        "payment_method": None,
        "payment_method_details": {"stripe_account": {}, "type": "stripe_account"},
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": None,
        "refunded": transfer.amount_reversed == transfer.amount,
        "review": None,
        "shipping": None,
        "source_transfer": transfer.reference,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "succeeded",
        "transfer_data": None,
        "transfer_group": transfer.transfer_group or None,
    }


def refund_json(reversal: Reversal) -> dict[str, Any]:
    """The reversal as the connected account sees it: a refund of the payment."""
    return {
        "id": reversal.destination_payment_refund,
        "object": "refund",
        "amount": reversal.amount,
        "balance_transaction": reversal.destination_balance_transaction,
        "charge": reversal.transfer.destination_payment,
        "created": unix(reversal.created),
        "currency": reversal.transfer.currency,
        "metadata": {},
        "payment_intent": None,
        "reason": None,
        "receipt_number": None,
        "source_transfer_reversal": reversal.reference,
        "status": "succeeded",
        "transfer_reversal": None,
    }


# --- transfers ----------------------------------------------------------------------------------------------------
def _platform_only(call: Call) -> None:
    if not call.account.is_platform:
        raise refusals.no_such_url("ANY", "/v1/transfers on behalf of a connected account")


@dataclass(frozen=True)
class Destination:
    reference: str
    currency: str
    agreement: str


_DESTINATION = """
SELECT default_currency, service_agreement, EXISTS (
  SELECT FROM stripe_sandbox_capability
  WHERE account_id = a.reference AND name = ANY(%s) AND status = 'active'
) FROM stripe_sandbox_account a WHERE reference = %s AND NOT is_platform AND disconnected_at IS NULL
"""


def _destination(reference: str) -> Destination:
    with connection.cursor() as cursor:
        cursor.execute(_DESTINATION, [list(ENABLING), reference])
        row = cursor.fetchone()
    if row is None:
        raise refusals.no_such("destination", reference, param="destination", status=400)
    currency, agreement, enabled = row
    if not enabled:
        raise refusals.insufficient_capabilities()
    return Destination(reference, currency, agreement)


def create_transfer(call: Call) -> dict[str, Any]:
    _platform_only(call)
    amount, currency = money.checked_amount(call.params)
    params = call.params
    if "source_transaction" in params:
        raise refusals.no_such("charge", params["source_transaction"], param="source_transaction", status=400)
    destination = _destination(params["destination"])
    arriving, rate = currencies.convert(amount, currency, destination.currency)
    waits = destination.agreement == "recipient"
    transfer = Transfer(
        amount=amount,
        currency=currency,
        destination_id=destination.reference,
        destination_amount=arriving,
        destination_currency=destination.currency,
        balance_transaction=mint("txn"),
        destination_balance_transaction=mint("txn"),
        transfer_group=params.get("transfer_group", ""),
        source_type=params.get("source_type", "card"),
        description=params.get("description", ""),
        metadata=merged({}, params.get("metadata")),
        created=call.at,
    )
    transfer.save(force_insert=True)
    BalanceTransaction.objects.bulk_create([
        BalanceTransaction(
            reference=transfer.balance_transaction, account=call.account, kind="transfer", amount=-amount,
            currency=currency, source=transfer.reference, available_on=call.at, created=call.at,
        ),
        BalanceTransaction(
            reference=transfer.destination_balance_transaction, account_id=destination.reference, kind="payment",
            amount=arriving, currency=destination.currency, exchange_rate=rate, source=transfer.destination_payment,
            status="pending" if waits else "available", created=call.at,
            available_on=call.at + RECIPIENT_DELAY if waits else call.at,
        ),
    ])  # fmt: skip
    shown = transfer_json(transfer)
    emit("transfer.created", shown, at=call.at, account=call.account, call=call)
    money.add(
        account=destination.reference,
        currency=destination.currency,
        **{"pending" if waits else "available": arriving},
    )
    money.take(account=PLATFORM, currency=currency, amount=amount)
    return shown


def _transfer(call: Call, name: str = "transfer", *, lock: bool = False) -> Transfer:
    _platform_only(call)
    transfers = Transfer.objects.select_for_update(no_key=True) if lock else Transfer.objects
    transfer = transfers.filter(reference=call.args[name]).first()
    if transfer is None:
        raise refusals.no_such("transfer", call.args[name], param=name)
    return transfer


def get_transfer(call: Call) -> dict[str, Any]:
    return transfer_json(_transfer(call))


def list_transfers(call: Call) -> dict[str, Any]:
    _platform_only(call)
    transfers, params = Transfer.objects.all(), call.params
    if "transfer_group" in params:
        transfers = transfers.filter(transfer_group=params["transfer_group"])
    if "destination" in params:
        transfers = transfers.filter(destination=params["destination"])
    return page(transfers, params, transfer_json, "/v1/transfers")


def update_transfer(call: Call) -> dict[str, Any]:
    transfer = _transfer(call, lock=True)
    transfer.description = call.params.get("description", transfer.description)
    transfer.metadata = merged(transfer.metadata, call.params.get("metadata"))
    transfer.save(update_fields=["description", "metadata"])
    shown = transfer_json(transfer)
    emit("transfer.updated", shown, at=call.at, account=call.account, call=call, previous={})
    return shown


# --- reversals ----------------------------------------------------------------------------------------------------
def create_reversal(call: Call) -> dict[str, Any]:
    """Reverse a transfer, in whole or in part, as far as the connected account still has the money.

    Raises UnableToServe for an amount below one or above the rest that is not reversed.
    """
    transfer = _transfer(call, "id", lock=True)
    left = transfer.amount - transfer.amount_reversed
    if left == 0:
        raise UnableToServe(f"The transfer {transfer.reference} is already fully reversed.", param="id")
    amount = int(call.params.get("amount", left))
    if amount < 1:
        raise refusals.not_positive("amount")
    if amount > left:
        raise UnableToServe(
            f"Transfer amount (${amount / 100:.2f}) is greater than unreversed amount (${left / 100:.2f})",
            param="amount",
        )
    returned = transfer.amount_reversed + amount
    # The share is taken of the running total, so that parts add up to the whole also where a currency was converted.
    taken_before = transfer.destination_amount * transfer.amount_reversed // transfer.amount
    taken = transfer.destination_amount * returned // transfer.amount - taken_before
    reversal = Reversal(
        transfer=transfer,
        amount=amount,
        destination_amount=taken,
        balance_transaction=mint("txn"),
        destination_balance_transaction=mint("txn"),
        metadata=merged({}, call.params.get("metadata")),
        created=call.at,
    )
    _take_back(transfer, reversal, call)
    transfer.amount_reversed = returned
    transfer.save(update_fields=["amount_reversed"])
    reversal.save(force_insert=True)
    emit("transfer.reversed", transfer_json(transfer), at=call.at, account=call.account, call=call)
    money.add(account=PLATFORM, currency=transfer.currency, available=amount)
    return reversal_json(reversal)


def _take_back(transfer: Transfer, reversal: Reversal, call: Call) -> None:
    """Take the money out of the connected balance: from the pending part where it is not available yet."""
    held = Balance.objects.select_for_update().get(
        account__reference=transfer.destination_id, currency=transfer.destination_currency
    )
    payment = BalanceTransaction.objects.get(reference=transfer.destination_balance_transaction)
    waits = payment.status == "pending"
    if (held.pending if waits else held.available) < reversal.destination_amount:
        raise UnableToServe(
            "The connected account has insufficient funds for this reversal.", code="balance_insufficient"
        )
    BalanceTransaction.objects.bulk_create([
        BalanceTransaction(
            reference=reversal.balance_transaction, account=call.account, kind="transfer_refund",
            amount=reversal.amount, currency=transfer.currency, source=reversal.reference, available_on=call.at,
            created=call.at,
        ),
        BalanceTransaction(
            reference=reversal.destination_balance_transaction, account_id=transfer.destination_id,
            kind="payment_refund", amount=-reversal.destination_amount, currency=transfer.destination_currency,
            exchange_rate=payment.exchange_rate, source=reversal.destination_payment_refund, status=payment.status,
            available_on=payment.available_on if waits else call.at, created=call.at,
        ),
    ])  # fmt: skip
    money.add(
        account=transfer.destination_id,
        currency=transfer.destination_currency,
        **{"pending" if waits else "available": -reversal.destination_amount},
    )


def list_reversals(call: Call) -> dict[str, Any]:
    transfer = _transfer(call, "id")
    rows = transfer.reversals.select_related("transfer")
    return page(rows, call.params, reversal_json, f"/v1/transfers/{transfer.reference}/reversals")


def _reversal(call: Call) -> Reversal:
    transfer = _transfer(call)
    found = transfer.reversals.select_related("transfer").filter(reference=call.args["id"]).first()
    if found is None:
        raise refusals.no_such("transfer reversal", call.args["id"])
    return found


def get_reversal(call: Call) -> dict[str, Any]:
    return reversal_json(_reversal(call))


def update_reversal(call: Call) -> dict[str, Any]:
    reversal = _reversal(call)
    reversal.metadata = merged(reversal.metadata, call.params.get("metadata"))
    reversal.save(update_fields=["metadata"])
    return reversal_json(reversal)


# --- as the connected account sees them ---------------------------------------------------------------------------
def get_payment(call: Call) -> dict[str, Any]:
    transfer = Transfer.objects.filter(destination=call.account, destination_payment=call.args["charge"]).first()
    if transfer is None:
        raise refusals.no_such("charge", call.args["charge"])
    return payment_json(transfer)


def get_refund(call: Call) -> dict[str, Any]:
    reversals = Reversal.objects.select_related("transfer").filter(transfer__destination=call.account)
    reversal = reversals.filter(destination_payment_refund=call.args["refund"]).first()
    if reversal is None:
        raise refusals.no_such("refund", call.args["refund"])
    return refund_json(reversal)
