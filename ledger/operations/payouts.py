"""Money on its way out of a contributor's payable, as entries: reserved with the attempt, then gone or given back.

The state of a payout belongs to the app above; here each step is one entry, found again by the key of its attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from ledger import journal
from ledger.journal import AccountKey, Draft, post
from ledger.models import EntryKind, Line
from ledger.money import asset, to_minor
from ledger.operations.periods import dated
from people.presentation import amounts

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


@dataclass(frozen=True, slots=True)
class Reserve:
    """The debit of one attempt to a contributor's payable, in units: `gross`, of which `tax` is withheld.

    `treaty` (rate and article) is kept on the entry.
    """

    contributor_id: int
    currency: str
    gross: int
    tax: int
    rail: str
    attempt_key: str
    jurisdiction: str = "US"
    treaty: str = ""

    def draft(self) -> Draft:
        if self.rail not in RAILS:
            raise UnableToRecordPayout(f"There is no rail {self.rail!r}.")
        to_minor(self.gross, self.currency)
        to_minor(self.tax, self.currency)
        if not 0 <= self.tax < self.gross:
            raise UnableToRecordPayout(
                f"A payout of {amounts.text(self.gross, asset(self.currency))} cannot withhold "
                f"{amounts.text(self.tax, asset(self.currency))}."
            )
        lines = [
            (_payable(self.contributor_id, self.currency), -self.gross),
            (AccountKey("payouts_in_transit", self.currency, f"rail:{self.rail}"), self.gross - self.tax),
        ]
        if self.tax:
            lines.append((_withheld(self.jurisdiction, self.currency), self.tax))
        return Draft(f"payout_reserve:{self.attempt_key}", lines, self.attempt_key, self.treaty)


def reserve_payouts(*, reserves: Sequence[Reserve], at: datetime) -> list[int]:
    """Take the gross of each out of its contributor's payable before anything goes on the wire; returns the entries.

    All or none. Amounts are whole minor units. Raises UnableToPost (below-minimum) where an amount is beyond the
    payable, UnableToRecordPayout for amounts that no rail can pay.
    """
    drafts = [reserve.draft() for reserve in reserves]
    posted = journal.post_many(kind=EntryKind.PAYOUT_RESERVE, effective=dated(at), drafts=drafts)
    return [entry.entry_id for entry in posted]


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
    """`reserve_payouts` for one attempt; returns the entry."""
    reserve = Reserve(contributor_id, currency, gross, tax, rail, attempt_key, jurisdiction, treaty)
    return reserve_payouts(reserves=[reserve], at=at)[0]


def _reserved(reserve_entries: Mapping[int, str]) -> dict[int, tuple[AccountKey, int]]:
    """Reserve entry -> its transit account and net amount, for entries given with the key of their attempt."""
    lines = Line.objects.filter(
        entry_id__in=list(reserve_entries), account__kind="payouts_in_transit", amount__gt=0
    ).select_related("account__asset", "entry")
    found = {
        line.entry_id: (AccountKey("payouts_in_transit", line.account.asset.code, line.account.owner), line.amount)
        for line in lines
        if line.entry.idem_key == f"payout_reserve:{reserve_entries[line.entry_id]}"
    }
    for entry, attempt_key in reserve_entries.items():
        if entry not in found:
            raise UnableToRecordPayout(f"Entry {entry} is not the reserve of attempt {attempt_key}.")
    return found


@dataclass(frozen=True, slots=True)
class Success:
    """An attempt with a successful transfer: the entry that reserved its money, and the `net` units that left."""

    reserve_entry: int
    attempt_key: str
    currency: str
    net: int


def succeed_payouts(*, successes: Sequence[Success], at: datetime) -> list[int]:
    """The transfers succeeded: the money in transit left each rail's own balance. All or none; returns the entries."""
    found = _reserved({success.reserve_entry: success.attempt_key for success in successes})
    drafts = []
    for success in successes:
        transit, reserved = found[success.reserve_entry]
        if (transit.asset, reserved) != (success.currency, success.net):
            raise UnableToRecordPayout(
                f"Entry {success.reserve_entry} reserved {amounts.text(reserved, asset(transit.asset))}, "
                f"not {amounts.text(success.net, asset(success.currency))}."
            )
        source = AccountKey(RAILS[transit.owner.partition(":")[2]], success.currency)
        lines = [(transit, -success.net), (source, success.net)]
        drafts.append(Draft(f"payout_succeed:{success.attempt_key}", lines, success.attempt_key))
    posted = journal.post_many(kind=EntryKind.PAYOUT_SUCCEED, effective=dated(at), drafts=drafts)
    return [entry.entry_id for entry in posted]


def succeed_payout(*, reserve_entry: int, attempt_key: str, currency: str, net: int, at: datetime) -> int:
    """`succeed_payouts` for one attempt; returns the entry."""
    return succeed_payouts(successes=[Success(reserve_entry, attempt_key, currency, net)], at=at)[0]


def refuse_payout(*, reserve_entry: int, attempt_key: str, at: datetime) -> int:
    """The transfer was refused or is void: the reserve is reversed, its tax line included. Returns the entry."""
    _reserved({reserve_entry: attempt_key})
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
    """Credit lines that first settle the contributor's debt, then make the rest payable. Needs chain_head."""
    receivable = _receivable(contributor_id, currency)
    settled = min(amount, journal.owed(receivable))
    lines = [(receivable, settled), (_payable(contributor_id, currency), amount - settled)]
    return [line for line in lines if line[1]]


def _returned(
    kind: EntryKind, key: str, contributor_id: int, amount: int, debit: AccountKey, at: datetime, reference: str
) -> int:
    to_minor(amount, debit.asset)
    if amount <= 0:
        raise UnableToRecordPayout(f"{amounts.text(amount, asset(debit.asset))} cannot come back.")
    with transaction.atomic():
        if (stored := journal.find(key)) is not None:
            return stored
        journal.hold_still()
        lines = [(debit, -amount), *_give_back(contributor_id, debit.asset, amount)]
        return post(kind=kind, idem_key=key, effective=dated(at), lines=lines, reference=reference).entry_id


def record_transfer_reversal(*, contributor_id: int, currency: str, amount: int, reversal_id: str, at: datetime) -> int:
    """Stripe reversed `amount` units of a transfer: it settles the contributor's debt, and the rest is payable
    again.
    """
    return _returned(
        EntryKind.TRANSFER_REVERSED,
        f"transfer_reversed:{reversal_id}",
        contributor_id,
        amount,
        AccountKey("stripe_balance", currency),
        at,
        reversal_id,
    )


def reverse_withholding(
    *, contributor_id: int, currency: str, amount: int, reversal_id: str, at: datetime, jurisdiction: str = "US"
) -> int:
    """The tax (units) withheld from a reversed transfer goes back to the contributor. Where it was remitted already,
    the jurisdiction's account is in debt to us by it until a later remittance is the less."""
    return _returned(
        EntryKind.WITHHOLDING_REVERSED,
        f"withholding_reversed:{reversal_id}",
        contributor_id,
        amount,
        _withheld(jurisdiction, currency),
        at,
        reversal_id,
    )


def record_bank_return(*, contributor_id: int, currency: str, amount: int, return_id: str, at: datetime) -> int:
    """The bank sent `amount` units of a payout of the manual rail back. (On Stripe's rail the money is with the
    contributor's account there, and nothing is posted.)"""
    return _returned(
        EntryKind.BANK_RETURN,
        f"bank_return:{return_id}",
        contributor_id,
        amount,
        AccountKey("bank", currency),
        at,
        return_id,
    )
