"""What a contributor is shown for a period: one Statement, which HTML, CSV and PDF all render.

Decides which journal lines make which line of the statement and how earnings are told apart by work and model. Opening
+ lines = closing = the next opening, in every currency and pot. Knows nothing of markup.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from ledger.proof import POTS

POT_LABELS = {"owed": "Owed to you", "held": "Held for you", "advance": "Advances still to be earned"}
POT_ORDER = list(POT_LABELS)
# The lines of a statement in their order. Every group of journal lines has its label here; nothing is left out.
LINE_LABELS = {
    "accrued": "Accrued from generations",
    "floor": "Your part of the floor pool",
    "prior_period": "Earned in earlier periods, posted in this one",
    "restated": "Restated",
    "adjustments": "Adjustments",
    "advances": "Advances paid to you",
    "recouped": "Recouped against advances",
    "held": "Put on hold or into reserve",
    "released": "Released from hold or reserve",
    "closed": "Moved from accrued to payable at the close",
    "payouts": "Paid out (sent to your account)",
    "withholding": "Tax withheld from payouts",
    "payouts_returned": "Payouts that came back",
}
STATE_SENTENCES = {
    "open": "This period is still open: its figures grow until it is closed.",
    "closing": "This period is being closed; its figures are not final.",
    "closed": "This period is closed: no entry can be dated in it any more.",
    "sealed": "This period is closed and sealed.",
}


def decimal(amount: int, scale: int) -> str:
    """The amount with every digit of its scale and no grouping: what a machine reads and a payee can retype."""
    digits = str(abs(amount)).rjust(scale + 1, "0")
    sign = "-" if amount < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"


def grouped(amount: int, scale: int) -> str:
    """The amount with every digit of its scale, thousands set apart by commas: what a person reads."""
    text = decimal(abs(amount), scale)
    whole, point, decimals = text.partition(".")
    sign = "\u2212" if amount < 0 else ""
    return f"{sign}{int(whole):,}{point}{decimals}"


@dataclass(frozen=True, slots=True)
class StatementLine:
    kind: str
    label: str
    amount: int
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pot:
    """One balance of the statement: what is owed, what is held, what was advanced."""

    currency: str
    scale: int
    name: str
    label: str
    opening: int
    lines: tuple[StatementLine, ...]
    closing: int


@dataclass(frozen=True, slots=True)
class WorkEarnings:
    currency: str
    scale: int
    work_id: str
    title: str
    generations: int
    amount: int


@dataclass(frozen=True, slots=True)
class ModelEarnings:
    currency: str
    scale: int
    model_id: str
    name: str
    service: str
    generations: int
    amount: int


@dataclass(frozen=True, slots=True)
class JournalLine:
    entry_id: int
    kind: str
    group: str
    amount: int
    effective: str
    earned_period: str
    entry_hash: str


@dataclass(frozen=True, slots=True)
class Credit:
    generation_id: str
    revision: int
    entry_id: int
    amount: int


@dataclass(frozen=True, slots=True)
class LeafProof:
    salt: str
    hash: str
    siblings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AccountStatement:
    """One account in the period, with all that its leaf is made of."""

    name: str
    currency: str
    scale: int
    opening: int
    journal: tuple[JournalLine, ...]
    credits: tuple[Credit, ...]
    closing: int
    leaf: LeafProof | None

    @property
    def kind(self) -> str:
        return self.name.split(" ", 1)[0]

    @property
    def pot(self) -> str:
        return POTS[self.kind]


@dataclass(frozen=True, slots=True)
class Seal:
    root: str
    tree: str
    previous: str


@dataclass(frozen=True, slots=True)
class Statement:
    period: str
    state: str
    contributor_id: str
    contributor_name: str
    legal_name: str
    pots: tuple[Pot, ...]
    works: tuple[WorkEarnings, ...]
    models: tuple[ModelEarnings, ...]
    accounts: tuple[AccountStatement, ...]
    notes: tuple[str, ...]
    seal: Seal | None

    @property
    def month(self) -> str:
        return f"{date.fromisoformat(f'{self.period}-01'):%B %Y}"

    @property
    def currencies(self) -> str:
        """The codes of the statement's currencies, for a column's head."""
        return ", ".join(sorted({account.currency for account in self.accounts}))

    @property
    def state_sentence(self) -> str:
        return STATE_SENTENCES[self.state]


def assemble(
    *,
    period: str,
    state: str,
    contributor_id: str,
    contributor_name: str,
    legal_name: str,
    accounts: Sequence[AccountStatement],
    withheld: Mapping[int, int],
    works: Sequence[WorkEarnings],
    models: Sequence[ModelEarnings],
    notes: Sequence[str],
    seal: Seal | None,
) -> Statement:
    """The statement above a contributor's accounts; `withheld` is the tax kept back by each entry that paid out."""
    pots = []
    for currency, name in sorted(
        {(account.currency, account.pot) for account in accounts}, key=lambda key: (key[0], POT_ORDER.index(key[1]))
    ):
        pots.append(_pot(name, [a for a in accounts if (a.currency, a.pot) == (currency, name)], withheld))
    return Statement(
        period=period,
        state=state,
        contributor_id=contributor_id,
        contributor_name=contributor_name,
        legal_name=legal_name,
        pots=tuple(pots),
        works=tuple(works),
        models=tuple(models),
        accounts=tuple(accounts),
        notes=tuple(notes),
        seal=seal,
    )


def _pot(name: str, accounts: Sequence[AccountStatement], withheld: Mapping[int, int]) -> Pot:
    amounts: dict[str, int] = defaultdict(int)
    entries: dict[str, set[int]] = defaultdict(set)
    for line in (line for account in accounts for line in account.journal):
        amounts[line.group] += line.amount
        entries[line.group].add(line.entry_id)
        if line.group == "payouts" and (tax := withheld.get(line.entry_id, 0)):
            amounts["payouts"] += tax
            amounts["withholding"] -= tax
            entries["withholding"].add(line.entry_id)
    lines = [
        StatementLine(kind, label, amounts[kind], tuple(sorted(entries[kind])))
        for kind, label in LINE_LABELS.items()
        if amounts.get(kind)
    ]
    return Pot(
        currency=accounts[0].currency,
        scale=accounts[0].scale,
        name=name,
        label=POT_LABELS[name],
        opening=sum(account.opening for account in accounts),
        lines=tuple(lines),
        closing=sum(account.closing for account in accounts),
    )
