"""The programme's own money: what its owners put in, what lies at Stripe, cash to be placed, tax to be remitted."""

from __future__ import annotations

from datetime import datetime

from attribution.models import ModelService
from ledger.journal import AccountKey, Posted, post, reverse
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


def reverse_top_up(*, entry_id: int, reference: str, at: datetime) -> Posted:
    """The programme's bank took a top-up back, and Stripe took it from the balance. Idempotent by `reference` (the
    top-up's id)."""
    return reverse(entry_id=entry_id, idem_key=f"top_up_reversed:{reference}", effective=dated(at), reference=reference)


def sweep_stripe(*, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """The programme moved money from its Stripe balance to its bank. Idempotent by `reference`."""
    return _move(EntryKind.SWEEP_STRIPE, reference, "bank", "stripe_balance", amount, currency, at)


def record_stripe_fee(*, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """Stripe took a fee from its balance. Idempotent by `reference` (the balance transaction's id)."""
    return _move(EntryKind.STRIPE_FEE, reference, "fees", "stripe_balance", amount, currency, at)


def receive_unidentified(*, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """Money came in that nobody can place yet. Idempotent by `reference` (the bank's)."""
    return _move(EntryKind.RECEIVE_UNIDENTIFIED, reference, "bank", "suspense_cash", amount, currency, at)


def match_cash(*, service: ModelService, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """Unidentified money was a service's payment of its invoices. Idempotent by `reference`."""
    return post(
        kind=EntryKind.MATCH_CASH,
        idem_key=f"{EntryKind.MATCH_CASH}:{reference}",
        effective=dated(at),
        lines=[
            (AccountKey("suspense_cash", currency), -amount),
            (AccountKey("service_receivable", currency, f"service:{service.pk}"), amount),
        ],
        reference=reference,
    )


def remit_tax(*, jurisdiction: str, tax: str, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """Tax ("withholding" or "sales") was paid to the authority of a jurisdiction. Idempotent by `reference`."""
    return post(
        kind=EntryKind.REMIT_TAX,
        idem_key=f"{EntryKind.REMIT_TAX}:{reference}",
        effective=dated(at),
        lines=[
            (AccountKey("tax_payable", currency, f"jurisdiction:{jurisdiction}/{tax}"), -amount),
            (AccountKey("bank", currency), amount),
        ],
        reference=reference,
    )
