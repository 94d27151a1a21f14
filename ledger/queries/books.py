"""The books as a whole, for finance staff: trial balance, entries with their lines and documents, periods, plans."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from django.db import connection
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from ledger import journal
from ledger.models import (
    Account,
    Accrual,
    ChainHead,
    Entry,
    FloorCorrection,
    FloorDistribution,
    Leaf,
    Line,
    Period,
    PoolEstimate,
    RoyaltyPlan,
    Unaccrued,
)

ENTRIES_PAGE = 50
DOCUMENTS_PAGE = 50
LINES_SHOWN_MAX = 500


@dataclass(frozen=True, slots=True)
class TrialBalanceRow:
    """All accounts of one kind in one currency. `balance` is signed: credit positive."""

    currency: str
    kind: str
    normal_side: str
    accounts: int
    balance: int

    @property
    def title(self) -> str:
        return self.kind.replace("_", " ").capitalize()

    @property
    def debit(self) -> int:
        return max(0, -self.balance)

    @property
    def credit(self) -> int:
        return max(0, self.balance)


@dataclass(frozen=True, slots=True)
class TrialBalance:
    """Every account as of an entry. In each currency debits equal credits, or something is badly wrong."""

    as_of: int
    posted_at: datetime | None
    hash: bytes
    rows: dict[str, list[TrialBalanceRow]]

    def difference(self, currency: str) -> int:
        return sum(row.balance for row in self.rows[currency])

    @property
    def totals(self) -> list[tuple[str, list[TrialBalanceRow], int, int, int]]:
        """(currency, rows, sum of debits, sum of credits, their difference)"""
        return [
            (currency, rows, sum(r.debit for r in rows), sum(r.credit for r in rows), self.difference(currency))
            for currency, rows in self.rows.items()
        ]


_NOW = """
    SELECT s.code, a.kind, a.normal_side, count(*), sum(b.posted)
    FROM ledger_balance b JOIN ledger_account a ON a.id = b.account_id JOIN ledger_asset s ON s.id = a.asset_id
    GROUP BY 1, 2, 3 ORDER BY 1, 3 DESC, 2"""
# One probe of the key (account, entry) for each account: the time grows with the accounts, and not with the journal.
_THEN = """
    SELECT s.code, a.kind, a.normal_side, count(*), sum(l.balance_after)
    FROM ledger_account a JOIN ledger_asset s ON s.id = a.asset_id
    CROSS JOIN LATERAL (
        SELECT balance_after FROM ledger_line WHERE account_id = a.id AND entry_id <= %s ORDER BY entry_id DESC LIMIT 1
    ) l
    GROUP BY 1, 2, 3 ORDER BY 1, 3 DESC, 2"""


def are_empty() -> bool:
    """Whether no entry was ever posted."""
    return not Entry.objects.exists()


def trial_balance(as_of: datetime | int | None = None) -> TrialBalance:
    """The trial balance in units now, at an entry, or at a moment as known then."""
    sequence = journal.sequence_at(as_of)
    entry = Entry.objects.filter(pk=sequence).first() if sequence is not None else _last_entry()
    rows: dict[str, list[TrialBalanceRow]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(*((_NOW,) if sequence is None else (_THEN, [sequence])))
        for code, kind, side, count, balance in cursor.fetchall():
            rows[code].append(TrialBalanceRow(code, kind, side, count, int(balance)))
    return TrialBalance(
        entry.pk if entry else 0, entry.posted_at if entry else None, bytes(entry.hash) if entry else b"", dict(rows)
    )


def _last_entry() -> Entry | None:
    head = ChainHead.objects.order_by("ledger").first()
    return Entry.objects.filter(pk=head.seq).first() if head else None


def accounts_of_kind(kind: str, currency: str, *, limit: int) -> list[tuple[Account, int]]:
    """Accounts with their present balances in units, the largest first; an account of zero is skipped."""
    accounts = Account.objects.filter(kind=kind, asset__code=currency).exclude(balance__posted=0)
    largest = accounts.select_related("balance").extra(order_by=["-abs_posted"], select={"abs_posted": "abs(posted)"})
    return [(account, account.balance.posted) for account in largest[:limit]]


# --- entries ------------------------------------------------------------------------------------------------------
def entries(
    *,
    kind: str = "",
    period: int | None = None,
    account: int | None = None,
    before: int | None = None,
    limit: int = ENTRIES_PAGE,
) -> tuple[list[Entry], int | None]:
    """Newest first, from the one below `before`; with the key of the next page, if there is one."""
    found = Entry.objects.select_related("period", "earned_period").order_by("-id")
    if kind:
        found = found.filter(kind=kind)
    if period is not None:
        found = found.filter(period_id=period)
    if account is not None:
        found = found.filter(pk__in=Line.objects.filter(account_id=account).values("entry_id"))
    if before is not None:
        found = found.filter(pk__lt=before)
    page = list(found[: limit + 1])
    return page[:limit], page[limit - 1].pk if len(page) > limit else None


def moved(entry_ids: Sequence[int]) -> dict[int, list[tuple[str, int]]]:
    """Sum the debits of each entry by currency, as (currency code, units at the currency's scale)."""
    debits = Line.objects.filter(entry_id__in=entry_ids, amount__lt=0).values_list("entry_id", "account__asset__code")
    found: dict[int, list[tuple[str, int]]] = {}
    for entry_id, code, debited in debits.annotate(debited=Sum("amount")).order_by("entry_id", "account__asset__code"):
        found.setdefault(entry_id, []).append((code, -debited))
    return found


@dataclass(frozen=True, slots=True)
class EntryInFull:
    entry: Entry
    lines: list[Line]
    # (currency, debits, credits) of each currency that the entry moves.
    sums: list[tuple[str, int, int]]
    documents: list[Accrual]
    next_document: uuid.UUID | None
    follows: Entry | None
    chain_holds: bool
    reversed_by: Entry | None


def entry_in_full(entry_id: int, *, after_document: uuid.UUID | None = None) -> EntryInFull | None:
    """An entry with its lines, a page of its documents, and whether its hash chains to the entry before it."""
    entry = Entry.objects.select_related("period", "earned_period", "reverses").filter(pk=entry_id).first()
    if entry is None:
        return None
    lines = Line.objects.filter(entry_id=entry_id)
    sums = lines.values_list("account__asset__code").annotate(
        debits=Sum("amount", filter=Q(amount__lt=0), default=0),
        credits=Sum("amount", filter=Q(amount__gt=0), default=0),
    )
    documents, more = _documents(entry, after_document)
    before = Entry.objects.filter(pk=entry_id - 1).first()
    return EntryInFull(
        entry=entry,
        lines=list(lines.select_related("account__asset").order_by("amount", "account_id")[:LINES_SHOWN_MAX]),
        sums=[(code, -debits, credits) for code, debits, credits in sums.order_by("account__asset__code")],
        documents=documents,
        next_document=more,
        follows=before,
        chain_holds=before is None or bytes(before.hash) == bytes(entry.prev_hash),
        reversed_by=Entry.objects.filter(reverses_id=entry_id).first(),
    )


def _documents(entry: Entry, after: uuid.UUID | None) -> tuple[list[Accrual], uuid.UUID | None]:
    """A page of documents by generation. A restatement has two of each, so that a page may be one longer."""
    if entry.batch_id is None:
        return [], None
    found = Accrual.objects.filter(batch_id=entry.batch_id).select_related("plan").order_by("generation_id", "revision")
    if after is not None:
        found = found.filter(generation_id__gt=after)
    page = list(found[: DOCUMENTS_PAGE + 2])
    if len(page) <= DOCUMENTS_PAGE:
        return page, None
    last = page[DOCUMENTS_PAGE - 1].generation_id
    kept = [document for document in page if document.generation_id <= last]
    return kept, last if len(kept) < len(page) else None


# --- periods and plans --------------------------------------------------------------------------------------------
def periods() -> QuerySet[Period]:
    """Newest first, with `n_entries` and `n_unaccrued`: the generations that the close listed as not accrued."""
    entries_of = Entry.objects.filter(period_id=OuterRef("pk")).values("period_id").annotate(n=Count("pk")).values("n")
    left_of = Unaccrued.objects.filter(period_id=OuterRef("pk")).values("period_id").annotate(n=Count("pk")).values("n")
    return Period.objects.annotate(
        n_entries=Coalesce(Subquery(entries_of), 0), n_unaccrued=Coalesce(Subquery(left_of), 0)
    ).order_by("-id")


def sealed_periods() -> QuerySet[Period]:
    """Every sealed month, oldest first: the chain of roots."""
    return Period.objects.filter(state=Period.State.SEALED).order_by("id")


def contributors_moved_in(month: Period) -> list[int]:
    """Contributors with a line of a sealed month on one of their accounts, ascending: their statements show a
    movement.
    """
    moved = Leaf.objects.filter(period=month, n_lines__gt=0, account__owner__startswith="contributor:")
    owners = moved.values_list("account__owner", flat=True).distinct()
    return sorted(int(owner.partition(":")[2]) for owner in owners)


def period(number: int) -> Period | None:
    return periods().filter(pk=number).first()


def period_number(code: str) -> int | None:
    """The number of a period written YYYY-MM; None for anything else."""
    year, dash, month = code.partition("-")
    if len(year) != 4 or len(month) != 2 or not dash or not (year + month).isascii() or not (year + month).isdigit():
        return None
    return int(year + month) if 1 <= int(month) <= 12 else None


def unaccrued_at_close(number: int, *, limit: int) -> list[Unaccrued]:
    return list(
        Unaccrued.objects.filter(period_id=number)
        .select_related("generation__service")
        .order_by("generation_id")[:limit]
    )


@dataclass(frozen=True, slots=True)
class NotAccrued:
    """Generations of a period that are not accrued, counted by the step that they wait for."""

    received: int = 0
    attributed: int = 0
    unattributable: int = 0
    refused: int = 0

    @property
    def total(self) -> int:
        return self.received + self.attributed + self.unattributable + self.refused


def not_accrued(period: Period) -> NotAccrued:
    """Counted afresh: one probe of the accruals' key for each generation of the month (about 2 s a million)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT CASE WHEN r.id IS NOT NULL AND r.reason <> 'not_charged' THEN 'refused' ELSE g.state END, count(*)
            FROM attribution_generation g
            LEFT JOIN ledger_refusal r ON r.generation_id = g.id AND r.withdrawn_at IS NULL
            WHERE g.occurred_at >= %s AND g.occurred_at < %s
              AND NOT EXISTS (SELECT FROM ledger_accrual a WHERE a.generation_id = g.id)
              AND NOT EXISTS (SELECT FROM ledger_void v WHERE v.generation_id = g.id)
            GROUP BY 1""",
            [_midnight(period.starts), _midnight(period.ends)],
        )
        return NotAccrued(**dict(cursor.fetchall()))


def charged_to_the_base_pool(period: Period) -> list[tuple[str, int, int]]:
    """Unattributable generations of a period that are charged: (currency, their number, the sum of their gross)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT p.currency, count(*), sum(d.gross)::bigint
            FROM attribution_attribution a
            JOIN attribution_generation g ON g.id = a.generation_id
            JOIN ledger_accrual d ON (d.generation_id, d.revision) = (a.generation_id, a.revision)
            JOIN ledger_royaltyplan p ON p.id = d.plan_id
            WHERE a.unattributable AND g.occurred_at >= %s AND g.occurred_at < %s
              AND NOT EXISTS (SELECT FROM ledger_accrual b
                               WHERE b.generation_id = d.generation_id AND b.revision = -d.revision)
            GROUP BY 1 ORDER BY 1""",
            [_midnight(period.starts), _midnight(period.ends)],
        )
        return list(cursor.fetchall())


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def floor_distributions(number: int) -> list[FloorDistribution]:
    return list(FloorDistribution.objects.filter(period_id=number).select_related("plan").order_by("plan__currency"))


def floor_corrections(number: int) -> list[FloorCorrection]:
    """The corrections of earlier months' base pools that the close of a month carried, oldest first."""
    found = FloorCorrection.objects.filter(period_id=number).select_related("plan", "earned_period")
    return list(found.order_by("earned_period_id", "plan__currency"))


def estimates_of(contributor_id: int) -> QuerySet[PoolEstimate]:
    """A contributor's estimated gain from the pools of open months."""
    rows = PoolEstimate.objects.filter(contributor_id=contributor_id, period__state=Period.State.OPEN)
    return rows.select_related("plan", "period").order_by("period_id", "plan_id")


def plans() -> QuerySet[RoyaltyPlan]:
    related = ("proposed_by", "decided_by", "pool_service", "service", "model_version")
    return RoyaltyPlan.objects.select_related(*related).order_by("currency", "-version")
