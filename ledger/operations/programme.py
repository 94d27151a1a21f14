"""The programme's money at Stripe: top-ups and fees. People record its other movements as business verbs."""

from __future__ import annotations

from datetime import datetime

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


def top_up_stripe(*, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """The programme moved `amount` units from its bank to its Stripe balance. Idempotent by `reference` (the top-up's
    id)."""
    return _move(EntryKind.TOP_UP_STRIPE, reference, "stripe_balance", "bank", amount, currency, at)


def reverse_top_up(*, entry_id: int, reference: str, at: datetime) -> Posted:
    """The programme's bank took a top-up back, and Stripe took it from the balance. Idempotent by `reference` (the
    top-up's id)."""
    return reverse(entry_id=entry_id, idem_key=f"top_up_reversed:{reference}", effective=dated(at), reference=reference)


def record_stripe_fee(*, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """Stripe took a fee, in units, from its balance. Idempotent by `reference` (the balance transaction's id)."""
    return _move(EntryKind.STRIPE_FEE, reference, "fees", "stripe_balance", amount, currency, at)
