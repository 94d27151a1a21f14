"""The lines of a proposed entry, with the balances of their accounts before and after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ledger import journal
from ledger.journal import AccountKey
from ledger.queries.account_words import kind_title, owners_in_words


@dataclass(frozen=True, slots=True)
class ShownLine:
    title: str
    owner: str
    currency: str
    amount: int
    # On the account's normal side, in units: the balance now, and the balance after this line.
    now: int
    after: int

    @property
    def absolute(self) -> int:
        return abs(self.amount)

    @property
    def falls_below_zero(self) -> bool:
        return self.after < 0 <= self.now


def lines_of(stored: list[list[Any]]) -> list[tuple[AccountKey, int]]:
    """Read stored lines: the account, and its amount in units, credit positive."""
    return [(AccountKey(*key), amount) for *key, amount in stored]


def stored_lines(lines: Iterable[tuple[AccountKey, int]]) -> list[list[Any]]:
    """Write lines as a proposal stores them: [kind, currency, owner, contract, amount]."""
    return [[key.kind, key.asset, key.owner, key.contract, amount] for key, amount in lines]


def contributors_in(stored: list[list[Any]]) -> list[int]:
    """Name the contributors with an account in stored lines."""
    owners = [key.owner for key, _ in lines_of(stored)]
    numbers = [owner.removeprefix("contributor:") for owner in owners if owner.startswith("contributor:")]
    return [int(number) for number in numbers if number.isdecimal()]


def lines_with_balances(stored: list[list[Any]], *, is_posted: bool) -> list[ShownLine]:
    """Return the lines of a proposal (credit positive) with the balance of each account before and after them."""
    keys = lines_of(stored)
    owners = owners_in_words(key.owner for key, _ in keys)
    balances = journal.balances([key for key, _ in keys])
    shown = []
    for key, amount in keys:
        sign = -1 if journal.CHART[key.kind].normal_side == "D" else 1
        now = sign * balances[key]
        after = now if is_posted else now + sign * amount
        shown.append(ShownLine(kind_title(key.kind), owners[key.owner], key.asset, amount, now, after))
    return shown
