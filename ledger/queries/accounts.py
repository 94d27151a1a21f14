"""The contributor's accounts in one period: opening, lines, the documents behind them, closing, proof."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date

from django.db import connection
from django.db.models import Max

from ledger.models import Account, Entry, Leaf, Period
from ledger.queries.balances import accounts_of
from ledger.queries.credits import AccountCredits, Credit

# The one kind of a contributor's accounts that documents credit.
CREDITED_KIND = "contributor_accrued"


@dataclass(frozen=True, slots=True)
class PeriodLine:
    entry_id: int
    kind: str
    amount: int
    effective: date
    earned_period_id: int
    entry_hash: bytes


@dataclass(slots=True)
class AccountPeriod:
    """One account in one period, by the date of its entries (not by when they were posted)."""

    account: Account
    opening: int = 0
    lines: list[PeriodLine] = field(default_factory=list)
    # The documents behind the lines, in the order in which a leaf digests them; read when they are asked for.
    credits: Collection[Credit] = ()
    leaf: Leaf | None = None

    @property
    def closing(self) -> int:
        return self.opening + sum(line.amount for line in self.lines)


def account_periods(contributor_id: int, period_id: int) -> list[AccountPeriod]:
    """Every account of the contributor that moved in the period or did not stand at zero in it."""
    found = {account.pk: AccountPeriod(account) for account in accounts_of(contributor_id)}
    last_entry = Entry.objects.aggregate(last=Max("id", default=0))["last"]
    _take_openings(found, period_id)
    _take_lines(found, period_id, last_entry)
    for account_id, period in found.items():
        if period.account.kind == CREDITED_KIND:
            period.credits = AccountCredits(account_id, period_id, last_entry=last_entry)
    for leaf in Leaf.objects.filter(period_id=period_id, account_id__in=list(found)):
        found[leaf.account_id].leaf = leaf
    return [period for period in found.values() if period.opening or period.lines]


def _take_openings(found: dict[int, AccountPeriod], period_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT l.account_id, sum(l.amount)::bigint FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
            WHERE l.account_id = ANY(%s::bigint[]) AND e.period_id < %s GROUP BY 1""",
            [list(found), period_id],
        )
        for account_id, opening in cursor.fetchall():
            found[account_id].opening = opening


def _take_lines(found: dict[int, AccountPeriod], period_id: int, last_entry: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT l.account_id, e.id, e.kind, l.amount, e.effective, e.earned_period_id, e.hash
            FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
            WHERE l.account_id = ANY(%s::bigint[]) AND e.period_id = %s AND e.id <= %s
            ORDER BY l.account_id, e.id""",
            [list(found), period_id, last_entry],
        )
        for account_id, entry_id, kind, amount, effective, earned, digest in cursor.fetchall():
            line = PeriodLine(entry_id, kind, amount, effective, earned, bytes(digest))
            found[account_id].lines.append(line)


# --- proof --------------------------------------------------------------------------------------------------------
def leaf_hashes(period: Period) -> list[str]:
    """Every leaf of a sealed period in the order of the tree: 32 bytes for each account that has one."""
    return [
        bytes(row).hex()
        for row in Leaf.objects.filter(period=period).order_by("position").values_list("hash", flat=True)
    ]


@dataclass(frozen=True, slots=True)
class PeriodMovement:
    """One contributor's sums in one period and currency, over its accounts of owed money."""

    period_id: int
    currency: str
    state: str
    earned: int
    paid: int
    closing: int


def movements(
    contributor_id: int, kinds: Sequence[str], earning: Sequence[str], paying: Sequence[str]
) -> list[PeriodMovement]:
    """A row for each period since the first line, newest first, also for months in which nothing moved."""
    accounts = accounts_of(contributor_id, kinds)
    codes = {account.pk: account.asset.code for account in accounts}
    sums: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT e.period_id, l.account_id, sum(l.amount)::bigint,
                   coalesce(sum(l.amount) FILTER (WHERE e.kind = ANY(%s)), 0)::bigint,
                   coalesce(sum(l.amount) FILTER (WHERE e.kind = ANY(%s)), 0)::bigint
            FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
            WHERE l.account_id = ANY(%s::bigint[]) GROUP BY 1, 2""",
            [list(earning), list(paying), list(codes)],
        )
        for period_id, account_id, moved, earned, paid in cursor.fetchall():
            found = sums[period_id, codes[account_id]]
            for place, amount in enumerate((moved, earned, paid)):
                found[place] += amount
    rows: list[PeriodMovement] = []
    if not sums:
        return rows
    first = min(period_id for period_id, _ in sums)
    last = max(period_id for period_id, _ in sums)
    closing: dict[str, int] = dict.fromkeys(sorted(set(codes.values())), 0)
    for period in Period.objects.filter(pk__gte=first).order_by("id"):
        if period.pk > last and period.state == Period.State.OPEN:
            break
        for currency in closing:
            moved, earned, paid = sums.get((period.pk, currency), [0, 0, 0])
            closing[currency] += moved
            rows.append(PeriodMovement(period.pk, currency, period.state, earned, paid, closing[currency]))
    return rows[::-1]


def earned_by_contributor(
    period_id: int, kinds: Sequence[str], earning: Sequence[str]
) -> dict[int, list[tuple[str, int]]]:
    """Return for each contributor that a period credited its currencies, in order, with the units earned in it."""
    found: dict[int, list[tuple[str, int]]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT a.owner, s.code, sum(l.amount)::bigint
            FROM ledger_entry e JOIN ledger_line l ON l.entry_id = e.id
            JOIN ledger_account a ON a.id = l.account_id JOIN ledger_asset s ON s.id = a.asset_id
            WHERE e.period_id = %s AND e.kind = ANY(%s) AND a.kind = ANY(%s) AND a.owner LIKE 'contributor:%%'
            GROUP BY 1, 2 ORDER BY 1, 2""",
            [period_id, list(earning), list(kinds)],
        )
        for owner, currency, units in cursor.fetchall():
            found[int(owner.partition(":")[2])].append((currency, units))
    return found


# --- advances -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class OpenAdvance:
    """An advance that is not earned back yet. Amounts in units, above zero."""

    contract: str
    currency: str
    # The granted amount less its cancelled part.
    granted: int
    open: int

    @property
    def recouped(self) -> int:
        return self.granted - self.open


def open_advances(contributor_id: int) -> list[OpenAdvance]:
    """Every advance that was ever granted under a contract, with its open part."""
    accounts = {account.pk: account for account in accounts_of(contributor_id, ("advance",))}
    granted: dict[int, int] = defaultdict(int)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.account_id, -sum(l.amount)::bigint FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id"
            " WHERE l.account_id = ANY(%s::bigint[]) AND (l.amount < 0 OR e.kind = 'cancel_advance') GROUP BY 1",
            [list(accounts)],
        )
        granted.update(cursor.fetchall())
    return [OpenAdvance(a.contract, a.asset.code, granted[pk], -a.balance.posted) for pk, a in accounts.items()]
