"""`expand[]`: identifiers in an answer replaced by the objects that they name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stripe_sandbox import refusals
from stripe_sandbox.accounts import account_json
from stripe_sandbox.bank_payouts import payout_json
from stripe_sandbox.models import Account, BalanceTransaction, Payout, Reversal, Topup, Transfer
from stripe_sandbox.money import movement_json, topup_json
from stripe_sandbox.transfers import payment_json, refund_json, reversal_json, transfer_json

DEPTH_MAX = 4
_FIND: dict[str, Callable[[str], dict[str, Any]]] = {
    "acct": lambda name: account_json(Account.objects.get(reference=name)),
    "txn": lambda name: movement_json(BalanceTransaction.objects.get(reference=name)),
    "tr": lambda name: transfer_json(Transfer.objects.get(reference=name)),
    "trr": lambda name: reversal_json(Reversal.objects.select_related("transfer").get(reference=name)),
    "py": lambda name: payment_json(Transfer.objects.get(destination_payment=name)),
    "pyr": lambda name: refund_json(Reversal.objects.select_related("transfer").get(destination_payment_refund=name)),
    "po": lambda name: payout_json(Payout.objects.get(reference=name)),
    "tu": lambda name: topup_json(Topup.objects.get(reference=name)),
}
EXPANDABLE = {
    "balance_transaction", "destination_payment", "destination_payment_refund", "destination", "transfer", "source",
    "failure_balance_transaction", "source_transfer", "charge", "account", "source_transfer_reversal",
}  # fmt: skip


def expand(shown: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """`shown` with every path expanded. Raises UnableToServe for a path that cannot be."""
    for path in paths:
        parts = path.split(".")
        if len(parts) > DEPTH_MAX:
            raise refusals.not_expandable(path)
        _expand(shown, parts, path)
    return shown


def _expand(place: dict[str, Any], parts: list[str], path: str) -> None:
    name, *rest = parts
    if name == "data" and isinstance(place.get("data"), list) and rest:
        for row in place["data"]:
            _expand(row, rest, path)
        return
    if name == "reversals" and isinstance(place.get("reversals"), dict) and rest:
        _expand(place["reversals"], rest, path)
        return
    if name not in EXPANDABLE or name not in place:
        raise refusals.not_expandable(path)
    value = place[name]
    if isinstance(value, str) and (find := _FIND.get(value.split("_", 1)[0])):
        place[name] = find(value)
    if rest and isinstance(place[name], dict):
        _expand(place[name], rest, path)
