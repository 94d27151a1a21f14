"""A contributor's statement of a period: one Statement, which HTML, CSV and PDF all render.

Decides which journal lines make which line of the statement and how earnings are told apart by work and model. Opening
+ lines = closing = the next opening, in every currency and pot. Knows nothing of markup.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from contributors.models import Contributor
from contributors.queries.details import details_at
from ledger import proof
from ledger.models import EntryKind, Period
from ledger.money import asset
from ledger.proof import POTS
from ledger.queries import balances, earnings
from ledger.queries.accounts import AccountPeriod, account_periods, leaf_hashes
from ledger.queries.credits import Credit
from people.presentation import dates

POT_LABELS = {"owed": "Owed to you", "held": "Held for you", "advance": "Advances still to be earned"}
ACCOUNT_TITLES = {
    "contributor_accrued": "Accrued",
    "contributor_payable": "Payable",
    "contributor_receivable": "Owed back",
    "reserve_held": "Reserve",
    "unclaimed": "Unclaimed",
    "advance": "Advance",
}
POT_ORDER = list(POT_LABELS)
# The lines of a statement in their order. Every group of journal lines has its label here; nothing is left out.
LINE_LABELS = {
    "accrued": "Accrued from generations",
    "floor": "Your part of the base pool",
    "prior_period": "Earned in earlier periods, posted in this one",
    "restated": "Restated: attributed again, the old result reversed and the new one credited",
    "prior_restated": "Restated for earlier periods (prior-period adjustment)",
    "floor_restated": "Base pools of earlier periods, shared out anew after restated or voided generations",
    "voided": "Reversed: generations that were voided (tests, refunds)",
    "prior_voided": "Reversed for earlier periods: generations that were voided",
    "adjustments": "Adjustments",
    "advances": "Advances paid to you",
    "advances_cancelled": "Advances cancelled: reversed before they were paid out, or given up",
    "guarantee": "Added at the close to reach your guaranteed minimum",
    "recovered": "Taken at the close for your debts",
    "recouped": "Earned back against your advances",
    "reserved": "Held in reserve at the close, payable later",
    "reserve_released": "Released from your reserve",
    "held": "Put on hold or set aside for you",
    "released": "Released from hold",
    "closed": "Moved from accrued to payable at the close",
    "payouts": "Paid out (sent to your account)",
    "withholding": "Tax withheld from payouts",
    "payouts_returned": "Payouts that came back",
}
# Which line a journal line belongs to, by the kind of its entry. Every other kind is an adjustment.
GROUPS = {
    EntryKind.ACCRUE: "accrued",
    EntryKind.ACCRUE_POOL: "accrued",
    EntryKind.DISTRIBUTE_FLOOR: "floor",
    EntryKind.RESTATE_FLOOR: "floor_restated",
    EntryKind.RESTATE: "restated",
    EntryKind.VOID_GENERATIONS: "voided",
    EntryKind.CLOSE_GUARANTEE: "guarantee",
    EntryKind.CLOSE_RECOVER: "recovered",
    EntryKind.CLOSE_RECOUP: "recouped",
    EntryKind.CLOSE_RESERVE: "reserved",
    EntryKind.CLOSE_PAYABLE: "closed",
    EntryKind.RELEASE_RESERVE: "reserve_released",
    EntryKind.OPEN_DISPUTE: "held",
    EntryKind.DECIDE_DISPUTE: "released",
    EntryKind.MARK_DORMANT: "held",
    EntryKind.RECLAIM: "released",
    EntryKind.GRANT_ADVANCE: "advances",
    EntryKind.CANCEL_ADVANCE: "advances_cancelled",
    EntryKind.PAYOUT_RESERVE: "payouts",
    EntryKind.PAYOUT_REFUSE: "payouts_returned",
    EntryKind.TRANSFER_REVERSED: "payouts_returned",
    EntryKind.WITHHOLDING_REVERSED: "payouts_returned",
    EntryKind.BANK_RETURN: "payouts_returned",
}
# The title of such a line where it was earned in a month before the month of its date.
PRIOR = {"accrued": "prior_period", "restated": "prior_restated", "voided": "prior_voided"}
# The meaning of "earned" on a list of statements, under every title of the month's lines.
EARNING_KINDS = (
    EntryKind.ACCRUE,
    EntryKind.ACCRUE_POOL,
    EntryKind.DISTRIBUTE_FLOOR,
    EntryKind.RESTATE_FLOOR,
    EntryKind.RESTATE,
    EntryKind.VOID_GENERATIONS,
    EntryKind.CLOSE_GUARANTEE,
    EntryKind.FIND_OWNER,
)
DOCUMENT_KINDS = (EntryKind.ACCRUE, EntryKind.ACCRUE_POOL, EntryKind.RESTATE, EntryKind.VOID_GENERATIONS)
PAYING_KINDS = tuple(kind for kind, group in GROUPS.items() if group in {"payouts", "payouts_returned"})
STATE_SENTENCES = {
    "open": "This period is still open: its figures grow until it is closed.",
    "closing": "This period is being closed; its figures are not final.",
    "closed": "This period is closed: no entry can be dated in it any more.",
    "sealed": "This period is closed and sealed.",
}


@dataclass(frozen=True, slots=True)
class StatementLine:
    kind: str
    label: str
    amount: int
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pot:
    """One balance of the statement: a payable, a reserve or an advance."""

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

    @property
    def label(self) -> str:
        return LINE_LABELS[self.group]


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
    # As many as there are generations: read through, never held at once.
    credits: Collection[Credit]
    closing: int
    leaf: LeafProof | None

    @property
    def kind(self) -> str:
        return self.name.split(" ", 1)[0]

    @property
    def accrued(self) -> int:
        """The sum of the credits: that of the journal lines that documents stand behind."""
        return sum(line.amount for line in self.journal if line.kind in DOCUMENT_KINDS)

    @property
    def title(self) -> str:
        """The name of the account and its contract: "Reserve, essays-2026"."""
        title = ACCOUNT_TITLES.get(self.kind, self.kind)
        _, _, _, *contract = self.name.split(" ", 3)
        return ", ".join([title, *contract])

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
    made_at: datetime | None = None
    """The moment of the seal, or of the close: none while the period is open."""
    country: str = ""
    """The contributor's, ISO 3166."""

    @property
    def journal(self) -> list[tuple[AccountStatement, JournalLine]]:
        """Every line with its account, in the order in which they were posted."""
        lines = [(account, line) for account in self.accounts for line in account.journal]
        return sorted(lines, key=lambda pair: pair[1].entry_id)

    @property
    def month(self) -> str:
        return dates.month(date.fromisoformat(f"{self.period}-01"))

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
    made_at: datetime | None = None,
    country: str = "",
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
        made_at=made_at,
        country=country,
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


# --- from the ledger ----------------------------------------------------------------------------------------------
def build_statement(*, contributor: Contributor, period: Period) -> Statement:
    """The contributor's statement for a month: the same again whenever it is asked for, once the month is closed."""
    found = account_periods(contributor.pk, period.pk)
    hashes = leaf_hashes(period) if period.state == Period.State.SEALED else []
    made_at = period.sealed_at or period.closed_at
    # A final statement names the payee of its day, whatever the name is today.
    named = details_at(contributor, made_at)
    reserves = [line.entry_id for a in found for line in a.lines if line.kind == EntryKind.PAYOUT_RESERVE]
    return assemble(
        period=period.code,
        state=period.state,
        contributor_id=str(contributor.public_id),
        contributor_name=named.display_name,
        legal_name=named.legal_name,
        accounts=[_account(a, period, hashes) for a in found],
        withheld=balances.withheld_by(reserves),
        works=_works(contributor, period),
        models=_models(contributor, period),
        notes=NOTES,
        seal=_seal(period),
        made_at=made_at,
        country=named.country,
    )


NOTES = (
    "A generation's gross is divided once, by the plan in effect when it occurred: the platform's take, the floor "
    "part, and the rest, weighted by the audit of the index that attributed it, by shares of influence. Every receipt "
    "shows these steps with its own figures.",
    "Amounts are kept to the last digit shown, and parts are rounded by the largest remainder, so that the parts of a "
    "generation sum to its gross. A payout pays whole cents; the rest stays owed and is carried over.",
    "Earnings by work divide each credit among the works that its receipt names, in proportion to their scores. All "
    "dates are UTC.",
)


def _account(found: AccountPeriod, period: Period, hashes: Sequence[str]) -> AccountStatement:
    account = found.account
    return AccountStatement(
        name=" ".join(part for part in (account.kind, account.asset.code, account.owner, account.contract) if part),
        currency=account.asset.code,
        scale=account.asset.scale,
        opening=found.opening,
        journal=tuple(
            JournalLine(
                entry_id=line.entry_id,
                kind=line.kind,
                group=_group(line.kind, earlier=line.earned_period_id < period.pk),
                amount=line.amount,
                effective=line.effective.isoformat(),
                earned_period=f"{line.earned_period_id // 100}-{line.earned_period_id % 100:02d}",
                entry_hash=line.entry_hash.hex(),
            )
            for line in found.lines
        ),
        credits=found.credits,
        closing=found.closing,
        leaf=_leaf_proof(found, period, hashes),
    )


def _group(kind: str, *, earlier: bool) -> str:
    group = GROUPS.get(EntryKind(kind), "adjustments")
    return PRIOR.get(group, group) if earlier else group


def _leaf_proof(found: AccountPeriod, period: Period, hashes: Sequence[str]) -> LeafProof | None:
    if found.leaf is None or not hashes:
        return None
    return LeafProof(
        salt=proof.leaf_salt(bytes(period.salt or b""), found.account.pk),
        hash=bytes(found.leaf.hash).hex(),
        siblings=tuple(proof.siblings(hashes, found.leaf.position)),
    )


def _seal(period: Period) -> Seal | None:
    if period.root is None or period.merkle_root is None or period.prev_root is None:
        return None
    return Seal(bytes(period.root).hex(), bytes(period.merkle_root).hex(), bytes(period.prev_root).hex())


def _works(contributor: Contributor, period: Period) -> list[WorkEarnings]:
    return [
        WorkEarnings(
            currency=earned.currency,
            scale=asset(earned.currency).scale,
            work_id=str(earned.work.public_id) if earned.work else "",
            title=earned.work.title if earned.work else "Works that no receipt names",
            generations=earned.generations,
            amount=earned.amount,
        )
        for earned in earnings.earnings_by_work(contributor.pk, period.pk)
    ]


def _models(contributor: Contributor, period: Period) -> list[ModelEarnings]:
    return [
        ModelEarnings(
            currency=earned.currency,
            scale=asset(earned.currency).scale,
            model_id=str(earned.model_id),
            name=earned.model,
            service=earned.service,
            generations=earned.generations,
            amount=earned.amount,
        )
        for earned in earnings.earnings_by_model(contributor.pk, period.pk)
    ]
