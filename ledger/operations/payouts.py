"""Money on its way out of a contributor's payable, as entries: reserved with the attempt, then gone or given back.

The state of a payout belongs to the app above; here each step is one entry, found again by the key of its attempt.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from ledger import journal
from ledger.journal import AccountKey, post
from ledger.models import EntryKind, Line
from ledger.money import format_amount, to_minor
from ledger.operations.periods import dated

# Where the money of a rail leaves from.
RAILS = {"stripe": "stripe_balance", "manual": "bank"}


class UnableToRecordPayout(Exception):
    """The amounts or the reserve do not fit the payout."""

    status = 422
    problem = "payout-not-recordable"


def _payable(contributor_id: int, currency: str) -> AccountKey:
    return AccountKey("contributor_payable", currency, f"contributor:{contributor_id}")


def _receivable(contributor_id: int, currency: str) -> AccountKey:
    return AccountKey("contributor_receivable", currency, f"contributor:{contributor_id}")


def _withheld(jurisdiction: str, currency: str) -> AccountKey:
    return AccountKey("tax_payable", currency, f"jurisdiction:{jurisdiction}/withholding")


def reserve_payout(
    *,
    contributor_id: int,
    currency: str,
    gross: int,
    tax: int,
    rail: str,
    attempt_key: str,
    at: datetime,
    jurisdiction: str = "US",
    treaty: str = "",
) -> int:
    """Take `gross` units out of the contributor's payable before anything goes on the wire; returns the entry.

    `gross` and `tax` are whole minor units; `treaty` (rate and article) is kept on the entry. Raises UnableToPost
    (below-minimum) beyond what is payable, UnableToRecordPayout for amounts that no rail can pay.
    """
    if rail not in RAILS:
        raise UnableToRecordPayout(f"There is no rail {rail!r}.")
    to_minor(gross, currency)
    to_minor(tax, currency)
    if not 0 <= tax < gross:
        raise UnableToRecordPayout(
            f"A payout of {format_amount(gross, currency)} cannot withhold {format_amount(tax, currency)}."
        )
    lines = [
        (_payable(contributor_id, currency), -gross),
        (AccountKey("payouts_in_transit", currency, f"rail:{rail}"), gross - tax),
    ]
    if tax:
        lines.append((_withheld(jurisdiction, currency), tax))
    return post(
        kind=EntryKind.PAYOUT_RESERVE,
        idem_key=f"payout_reserve:{attempt_key}",
        effective=dated(at),
        lines=lines,
        reference=attempt_key,
        rule_version=treaty,
    ).entry_id


def _reserved(reserve_entry: int, attempt_key: str) -> tuple[AccountKey, int]:
    """The transit account and the net amount of a reserve."""
    line = (
        Line.objects.filter(entry_id=reserve_entry, account__kind="payouts_in_transit", amount__gt=0)
        .select_related("account__asset", "entry")
        .first()
    )
    if line is None or line.entry.idem_key != f"payout_reserve:{attempt_key}":
        raise UnableToRecordPayout(f"Entry {reserve_entry} is not the reserve of attempt {attempt_key}.")
    return AccountKey("payouts_in_transit", line.account.asset.code, line.account.owner), line.amount


def succeed_payout(*, reserve_entry: int, attempt_key: str, currency: str, net: int, at: datetime) -> int:
    """The transfer succeeded: what was in transit left the rail's own balance. Returns the entry."""
    transit, reserved = _reserved(reserve_entry, attempt_key)
    if (transit.asset, reserved) != (currency, net):
        raise UnableToRecordPayout(
            f"Entry {reserve_entry} reserved {format_amount(reserved, transit.asset)} {transit.asset}, "
            f"not {format_amount(net, currency)} {currency}."
        )
    source = AccountKey(RAILS[transit.owner.partition(":")[2]], currency)
    return post(
        kind=EntryKind.PAYOUT_SUCCEED,
        idem_key=f"payout_succeed:{attempt_key}",
        effective=dated(at),
        lines=[(transit, -net), (source, net)],
        reference=attempt_key,
    ).entry_id


def refuse_payout(*, reserve_entry: int, attempt_key: str, at: datetime) -> int:
    """The transfer was refused or is void: the reserve is reversed, its tax line included. Returns the entry."""
    _reserved(reserve_entry, attempt_key)
    if journal.find(f"payout_succeed:{attempt_key}") is not None:
        raise UnableToRecordPayout(f"Attempt {attempt_key} has succeeded; only a transfer reversal undoes it.")
    return journal.reverse(
        entry_id=reserve_entry,
        idem_key=f"payout_refuse:{attempt_key}",
        effective=dated(at),
        reference=attempt_key,
        kind=EntryKind.PAYOUT_REFUSE,
    ).entry_id


def _give_back(contributor_id: int, currency: str, amount: int) -> list[tuple[AccountKey, int]]:
    """Credit lines that first settle what the contributor owes, then make the rest payable. Needs chain_head."""
    receivable = _receivable(contributor_id, currency)
    settled = min(amount, journal.owed(receivable))
    lines = [(receivable, settled), (_payable(contributor_id, currency), amount - settled)]
    return [line for line in lines if line[1]]


def _returned(
    kind: EntryKind, key: str, contributor_id: int, amount: int, debit: AccountKey, at: datetime, reference: str
) -> int:
    to_minor(amount, debit.asset)
    if amount <= 0:
        raise UnableToRecordPayout(f"{format_amount(amount, debit.asset)} {debit.asset} cannot come back.")
    with transaction.atomic():
        if (stored := journal.find(key)) is not None:
            return stored
        journal.hold_still()
        lines = [(debit, -amount), *_give_back(contributor_id, debit.asset, amount)]
        return post(kind=kind, idem_key=key, effective=dated(at), lines=lines, reference=reference).entry_id


def record_transfer_reversal(*, contributor_id: int, currency: str, amount: int, reversal_id: str, at: datetime) -> int:
    """Stripe took `amount` of a transfer back: it settles what the contributor owes, and the rest is payable again."""
    return _returned(
        EntryKind.TRANSFER_REVERSED, f"transfer_reversed:{reversal_id}", contributor_id, amount,
        AccountKey("stripe_balance", currency), at, reversal_id,
    )  # fmt: skip


def reverse_withholding(
    *, contributor_id: int, currency: str, amount: int, reversal_id: str, at: datetime, jurisdiction: str = "US"
) -> int:
    """The tax withheld from a reversed transfer, where it was not remitted yet, goes back to the contributor."""
    return _returned(
        EntryKind.WITHHOLDING_REVERSED, f"withholding_reversed:{reversal_id}", contributor_id, amount,
        _withheld(jurisdiction, currency), at, reversal_id,
    )  # fmt: skip


def record_bank_return(*, contributor_id: int, currency: str, amount: int, return_id: str, at: datetime) -> int:
    """The bank sent a payout of the manual rail back. (On Stripe's rail the money is with the contributor's account
    there, and nothing is posted.)"""
    return _returned(
        EntryKind.BANK_RETURN, f"bank_return:{return_id}", contributor_id, amount,
        AccountKey("bank", currency), at, return_id,
    )  # fmt: skip
