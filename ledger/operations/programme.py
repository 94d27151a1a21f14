"""The programme's own money: what its owners put in, and what lies at Stripe."""

from __future__ import annotations

from datetime import datetime

from ledger.journal import AccountKey, Posted, post
from ledger.models import EntryKind
from ledger.operations.periods import dated


def _move(kind: EntryKind, key: str, debit: str, credit: str, amount: int, currency: str, at: datetime) -> Posted:
    return post(
        kind=kind,
        idem_key=f"{kind}:{key}",
        effective=dated(at),
        lines=[(AccountKey(debit, currency), -amount), (AccountKey(credit, currency), amount)],
        reference=key,
    )


def add_capital(*, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """The programme's owners paid `amount` units into its bank account. Idempotent by `reference`."""
    return _move(EntryKind.CAPITAL, reference, "bank", "programme_equity", amount, currency, at)


def top_up_stripe(*, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """The programme moved money from its bank to its Stripe balance. Idempotent by `reference` (the top-up's id)."""
    return _move(EntryKind.TOP_UP_STRIPE, reference, "stripe_balance", "bank", amount, currency, at)


def sweep_stripe(*, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """The programme moved money from its Stripe balance to its bank. Idempotent by `reference`."""
    return _move(EntryKind.SWEEP_STRIPE, reference, "bank", "stripe_balance", amount, currency, at)


def record_stripe_fee(*, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """Stripe took a fee from its balance. Idempotent by `reference` (the balance transaction's id)."""
    return _move(EntryKind.STRIPE_FEE, reference, "fees", "stripe_balance", amount, currency, at)
