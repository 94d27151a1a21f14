"""Money that is not simply earned and paid: disputes, owners found later, debts, dormant balances.

Each operation is one entry under the key of its own reference, and moves what stands on an account now where the
amount is not given.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction

from attribution.models import ModelService
from ledger import journal
from ledger.journal import AccountKey, Posted, post
from ledger.models import EntryKind
from ledger.money import asset
from ledger.operations.periods import dated
from people.presentation import amounts


class UnableToSettleClaim(Exception):
    """There is less on the account than is claimed, or nothing at all."""

    status = 409
    problem = "claim-not-settleable"


def _of(kind: str, currency: str, contributor_id: int, contract: str = "") -> AccountKey:
    return AccountKey(kind, currency, f"contributor:{contributor_id}", contract)


def _move(kind: EntryKind, reference: str, debit: AccountKey, credit: AccountKey, amount: int, at: datetime) -> Posted:
    return post(
        kind=kind,
        idem_key=f"{kind}:{reference}",
        effective=dated(at),
        lines=[(debit, -amount), (credit, amount)],
        reference=reference,
    )


# --- disputes -----------------------------------------------------------------------------------------------------
def open_dispute(
    *, dispute: str, contributor_id: int, currency: str, amount: int, payable: bool, at: datetime
) -> Posted:
    """Put a contested amount on hold, out of what is payable or (before its month closed) of what is accrued."""
    source = _of("contributor_payable" if payable else "contributor_accrued", currency, contributor_id)
    held = AccountKey("on_hold", currency, f"dispute:{dispute}")
    return _move(EntryKind.OPEN_DISPUTE, f"{dispute}:{contributor_id}", source, held, amount, at)


def decide_dispute(*, dispute: str, currency: str, awards: Mapping[int, int], at: datetime) -> Posted:
    """Give all that a dispute holds to those whom the decision names; refused where it does not add up."""
    held = AccountKey("on_hold", currency, f"dispute:{dispute}")
    key = f"decide_dispute:{dispute}:{currency}"
    with transaction.atomic():
        if journal.find(key) is None:
            journal.hold_still()
            if sum(awards.values()) != (stands := journal.owed(held)):
                raise UnableToSettleClaim(
                    f"The awards sum to {amounts.text(sum(awards.values()), asset(currency))}; "
                    f"the dispute holds {amounts.text(stands, asset(currency))}."
                )
        lines = [(_of("contributor_payable", currency, who), units) for who, units in awards.items() if units]
        return post(
            kind=EntryKind.DECIDE_DISPUTE, idem_key=key, effective=dated(at),
            lines=[(held, -sum(awards.values())), *lines], reference=dispute,
        )  # fmt: skip


def find_owner(*, work_id: int, contributor_id: int, currency: str, reference: str, at: datetime) -> Posted:
    """The owner of an unmatched work was found: all that waited for it is accrued to them."""
    return _move_all(
        EntryKind.FIND_OWNER, reference, AccountKey("suspense_unmatched", currency, f"work:{work_id}"),
        _of("contributor_accrued", currency, contributor_id), at,
    )  # fmt: skip


# --- debts --------------------------------------------------------------------------------------------------------
def absorb_deficit(*, contributor_id: int, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """Stripe charged the programme for a contributor's negative balance there: the contributor owes it."""
    return _move(
        EntryKind.ABSORB_DEFICIT, reference, _of("contributor_receivable", currency, contributor_id),
        AccountKey("stripe_balance", currency), amount, at,
    )  # fmt: skip


def write_off_contributor(*, contributor_id: int, currency: str, reference: str, at: datetime) -> Posted:
    """Forgive all that a contributor owes; the programme bears it."""
    debt = _of("contributor_receivable", currency, contributor_id)
    return _write_off(debt, currency, reference, at)


def write_off_service(*, service: ModelService, currency: str, reference: str, at: datetime) -> Posted:
    """Give up all that a service owes on its invoices; the programme bears it."""
    return _write_off(AccountKey("service_receivable", currency, f"service:{service.pk}"), currency, reference, at)


def _write_off(debt: AccountKey, currency: str, reference: str, at: datetime) -> Posted:
    return _move_all(EntryKind.WRITE_OFF, reference, AccountKey("programme_cost", currency), debt, at)


# --- dormant balances ---------------------------------------------------------------------------------------------
def mark_dormant(*, contributor_id: int, currency: str, reference: str, at: datetime) -> Posted:
    """Set aside all that is payable to somebody who cannot be reached; it stays theirs."""
    return _move_all(
        EntryKind.MARK_DORMANT, reference, _of("contributor_payable", currency, contributor_id),
        _of("unclaimed", currency, contributor_id), at,
    )  # fmt: skip


def reclaim(*, contributor_id: int, currency: str, reference: str, at: datetime) -> Posted:
    """The contributor came back: what was unclaimed is payable again."""
    return _move_all(
        EntryKind.RECLAIM, reference, _of("unclaimed", currency, contributor_id),
        _of("contributor_payable", currency, contributor_id), at,
    )  # fmt: skip


def escheat(*, contributor_id: int, currency: str, reference: str, at: datetime) -> Posted:
    """Unclaimed money was handed to the state, as its law asks."""
    return _move_all(
        EntryKind.ESCHEAT, reference, _of("unclaimed", currency, contributor_id), AccountKey("bank", currency), at
    )


def _move_all(kind: EntryKind, reference: str, debit: AccountKey, credit: AccountKey, at: datetime) -> Posted:
    """Move all that stands on the one account of the two that may not go below zero."""
    key = f"{kind}:{reference}"
    with transaction.atomic():
        if (stored := journal.find(key)) is not None:
            return Posted(stored, True)
        journal.hold_still()
        emptied = debit if journal.CHART[debit.kind].normal_side == "C" else credit
        amount = journal.owed(emptied)
        if amount <= 0:
            raise UnableToSettleClaim(f"There is nothing on {emptied}.")
        return _move(kind, reference, debit, credit, amount, at)
