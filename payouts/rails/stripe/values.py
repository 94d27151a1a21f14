"""The known parts of Stripe's objects, as values of our own: amounts in minor units, currencies in capitals."""

from __future__ import annotations

import hashlib
import urllib.parse
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any


@dataclass(frozen=True)
class Account:
    id: str
    country: str
    default_currency: str
    transfers_capability: str
    payouts_enabled: bool
    details_submitted: bool
    disabled_reason: str
    requirements: dict[str, Any]
    bank_fingerprint: str
    # Stripe's own mark of the account's number: the same wherever the same bank account is named.
    bank_number: str = ""
    # As Stripe's `requirements`, of the time after their own `current_deadline`.
    future_requirements: dict[str, Any] = field(default_factory=dict)
    # The key of the attempt that opened it, as its metadata keep it; empty where somebody else did.
    set_up: str = ""


@dataclass(frozen=True)
class Transfer:
    id: str
    amount_minor: int
    currency: str
    destination: str
    transfer_group: str
    balance_transaction: str
    destination_payment: str
    reversed_minor: int
    created: datetime
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def came_back(self) -> bool:
        """True when all of it was taken back."""
        return self.reversed_minor >= self.amount_minor


@dataclass(frozen=True)
class TransferReversal:
    id: str
    transfer: str
    amount_minor: int
    balance_transaction: str
    created: datetime
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BalanceTransaction:
    id: str
    type: str
    source: str
    amount_minor: int
    fee_minor: int
    currency: str
    created: datetime
    # As Stripe states it; empty where nothing was converted.
    exchange_rate: str = ""


@dataclass(frozen=True)
class Balance:
    """Minor units by currency (upper case)."""

    available: dict[str, int]
    pending: dict[str, int]

    def total(self, currency: str) -> int:
        """Sum the available and the pending money of a currency, in minor units."""
        return self.available.get(currency, 0) + self.pending.get(currency, 0)


@dataclass(frozen=True)
class BankTransfer:
    """Stripe's payout (po_...) from a connected account to its bank."""

    id: str
    amount_minor: int
    currency: str
    state: str
    arrives_on: date | None
    failure_code: str
    failure_message: str
    trace_id: str
    made_at: datetime
    # Made by Stripe on its schedule; False: the payee asked for it.
    automatic: bool = True


@dataclass(frozen=True)
class ToppedUp:
    id: str
    amount_minor: int
    currency: str
    state: str
    # The key under which we asked for it, as its metadata keep it; empty where somebody else did.
    key: str


@dataclass(frozen=True)
class TransferRequest:
    """The body of a transfer, byte for byte, made before anything is sent."""

    body: str

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.body.encode()).digest()

    @property
    def params(self) -> dict[str, Any]:
        return _nested(self.body)


def _nested(body: str) -> dict[str, Any]:
    """Turn form pairs with one level of brackets into values that the SDK encodes back into the same pairs."""
    params: dict[str, Any] = {}
    for name, value in urllib.parse.parse_qsl(body, keep_blank_values=True, strict_parsing=True):
        stem, bracket, inner = name.partition("[")
        if bracket:
            params.setdefault(stem, {})[inner.removesuffix("]")] = value
        else:
            params[stem] = value
    return params
