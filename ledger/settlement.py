"""The arithmetic of a month's close for one contributor's earnings in one currency, step by step.

Decides the arithmetic of the five steps and nothing else: the close posts these lines, and a preview of new terms
computes them twice. Pure: no database. Amounts are integers at the asset's scale, credit positive.

    1 guarantee   a month's result is made up to the contract's guarantee
    2 recover     the contributor's debts are taken from it
    3 recoup      then open advances, by the contracts' recoupment order
    4 reserve     then the contract's part of the rest is held back
    5 payable     the remainder becomes payable; a negative result is taken from the payable, then owed
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ledger.journal import AccountKey
from ledger.money import apportion, part, tie_key

Lines = list[tuple[AccountKey, int]]


@dataclass(frozen=True, slots=True)
class Terms:
    """A contract's terms as a month has them in force."""

    contract_id: int
    terms_id: int
    code: str
    covers_rest: bool = False
    recoup_order: int = 100
    recoup_group: str = ""
    cross_recoup: bool = False
    guarantee: int = 0
    guarantee_currency: str = ""
    # Debited with the true-up.
    payer: AccountKey | None = None
    reserve_ppb: int = 0
    schedule: tuple[tuple[int, int], ...] = ()

    @property
    def account(self) -> str:
        """The contract dimension of the account on which its earnings are accrued."""
        return "" if self.covers_rest else self.code


@dataclass(slots=True)
class Advance:
    key: AccountKey
    open: int


@dataclass(slots=True)
class Party:
    """One contributor in one currency at the close of a month. `results`, `earned`: by the contract dimension of the
    accrued account, the sum of the month's lines on it, and the part that the month itself earned.
    """

    asset: str
    owner: str
    results: dict[str, int]
    earned: dict[str, int] = field(default_factory=dict)
    owed: int = 0
    payable: int = 0
    # Oldest first.
    advances: list[Advance] = field(default_factory=list)
    terms: list[Terms] = field(default_factory=list)

    def key(self, kind: str, contract: str = "") -> AccountKey:
        return AccountKey(kind, self.asset, self.owner, contract)

    def accrued(self, contract: str) -> AccountKey:
        return self.key("contributor_accrued", contract)

    def terms_of(self, account: str) -> Terms | None:
        """The terms under which an accrued account stands."""
        return next((terms for terms in self.terms if terms.account == account), None)

    def apply(self, lines: Lines) -> None:
        """Move the figures as posting the lines would."""
        for key, amount in lines:
            if key.kind == "contributor_accrued":
                self.results[key.contract] = self.results.get(key.contract, 0) + amount
            elif key.kind == "contributor_receivable":
                self.owed -= amount
            elif key.kind == "contributor_payable":
                self.payable += amount
            elif key.kind == "advance":
                for advance in self.advances:
                    if advance.key == key:
                        advance.open -= amount


def guarantee(party: Party) -> Lines:
    """Step 1. Compared with the month's own earnings: a correction of an earlier month calls for no true-up."""
    lines: Lines = []
    for terms in party.terms:
        if terms.guarantee and terms.guarantee_currency == party.asset:
            lacking = terms.guarantee - max(0, party.earned.get(terms.account, 0))
            if lacking > 0:
                assert terms.payer is not None
                lines += [(terms.payer, -lacking), (party.accrued(terms.account), lacking)]
    return lines


def recover(party: Party) -> Lines:
    """Step 2."""
    owed, lines = party.owed, Lines()
    for account, result in sorted(party.results.items()):
        taken = min(max(0, result), owed)
        if taken > 0:
            owed -= taken
            lines += [(party.accrued(account), -taken), (party.key("contributor_receivable"), taken)]
    return lines


def recoup(party: Party) -> Lines:
    """Step 3. Of an account's earnings: the advances of its own contract, those of its group that may be recouped
    across contracts, and advances under no terms; by recoupment order, then the oldest first."""
    lines: Lines = []
    left = {advance.key.contract: advance.open for advance in party.advances}
    by_code = {terms.code: terms for terms in party.terms}
    for account, result in sorted(party.results.items()):
        own = party.terms_of(account)
        ordered = sorted(
            (advance for advance in party.advances if _recoupable(advance, own, by_code)),
            key=lambda a: by_code[a.key.contract].recoup_order if a.key.contract in by_code else 100,
        )
        remaining = max(0, result)
        for advance in ordered:
            taken = min(remaining, left[advance.key.contract])
            if taken > 0:
                remaining -= taken
                left[advance.key.contract] -= taken
                lines += [(party.accrued(account), -taken), (advance.key, taken)]
    return lines


def _recoupable(advance: Advance, own: Terms | None, by_code: dict[str, Terms]) -> bool:
    terms = by_code.get(advance.key.contract)
    if terms is None or (own is not None and own.code == terms.code):
        return True
    return terms.cross_recoup and own is not None and own.recoup_group == terms.recoup_group


def reserve(party: Party) -> Lines:
    """Step 4."""
    lines: Lines = []
    for account, result in sorted(party.results.items()):
        terms = party.terms_of(account)
        held = part(max(0, result), terms.reserve_ppb) if terms else 0
        if terms and held:
            lines += [(party.accrued(account), -held), (party.key("reserve_held", terms.code), held)]
    return lines


def instalments(amount: int, terms: Terms, subject: str) -> list[tuple[int, int]]:
    """Divide a reserved amount into (months after the month's end, units): exact, by largest remainder; parts of
    nothing dropped.
    """
    keys = [tie_key(subject.encode(), months) for months, _ in terms.schedule]
    parts = apportion(amount, [ppb for _, ppb in terms.schedule], keys)
    return [(months, units) for (months, _), units in zip(terms.schedule, parts, strict=True) if units]


def pay(party: Party) -> Lines:
    """Step 5. Remainders above zero come first, so that a debt from another contract meets them."""
    lines, payable = Lines(), party.payable
    for account, result in sorted(party.results.items()):
        if result > 0:
            lines += [(party.accrued(account), -result), (party.key("contributor_payable"), result)]
            payable += result
    for account, result in sorted(party.results.items()):
        if result < 0:
            taken = min(-result, payable)
            lines += [(party.accrued(account), -result), (party.key("contributor_payable"), -taken)]
            lines.append((party.key("contributor_receivable"), result + taken))
            payable -= taken
    return merged(lines)


# In order. The names are those of the entries' kinds.
STEPS: dict[str, Callable[[Party], Lines]] = {
    "close_guarantee": guarantee,
    "close_recover": recover,
    "close_recoup": recoup,
    "close_reserve": reserve,
    "close_payable": pay,
}


def merged(lines: Iterable[tuple[AccountKey, int]]) -> Lines:
    """One line an account, and none of zero."""
    sums: dict[AccountKey, int] = defaultdict(int)
    for key, amount in lines:
        sums[key] += amount
    return [(key, amount) for key, amount in sums.items() if amount]
