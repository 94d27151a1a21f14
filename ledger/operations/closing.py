"""The close of a month, in steps and resumable chunks.

Each chunk of each step is one entry under the key `close:{period}:{step}:{chunk}`, so that a close that was killed
anywhere goes on where it stood, with the same result. What a step moves is the sum of the period's lines, never a
balance: the next month is already open and posting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import DatabaseError, connection, transaction

from ledger import journal
from ledger.journal import AccountKey
from ledger.models import Account, EntryKind, Period, utc_date
from ledger.operations.accruals import accrue
from ledger.operations.floors import distribute_floors
from ledger.operations.periods import open_periods

CHUNK_ACCOUNTS = 1000


class UnableToClose(Exception):
    """The period is not one that can be closed now."""

    status = 409
    problem = "period-not-closable"


def close_period(*, period: Period | int, at: datetime) -> Period:
    """Close a month that is over: accrue what is attributed, distribute the floor pools, recover debts, recoup
    advances, make what is left payable, list what was not accrued. Run again after a crash, it finishes; on a closed
    period it does nothing.

    Raises UnableToClose: no such period, the month is not over, or the one before is not closed.
    """
    number = period if isinstance(period, int) else period.pk
    month = Period.objects.filter(pk=number).first()
    if month is None:
        raise UnableToClose(f"There is no period {number}.")
    if month.state in (Period.State.CLOSED, Period.State.SEALED):
        return month
    if utc_date(at) < month.ends:
        raise UnableToClose(f"Period {month} is not over at {at:%Y-%m-%d}.")
    if month.state == Period.State.OPEN:
        open_periods(at=at)
        while accrue(at=at, full=True):
            pass
        month = _advance(month, Period.State.CLOSING, at)
    distribute_floors(month)
    _recover(month)
    _recoup(month)
    _make_payable(month)
    list_unaccrued(month, at)
    return _advance(month, Period.State.CLOSED, at)


def _advance(month: Period, state: Period.State, at: datetime) -> Period:
    try:
        with transaction.atomic():
            journal.hold_still()
            fresh = Period.objects.get(pk=month.pk)
            if fresh.state != state:
                fresh.state = state
                fresh.closed_at = at if state == Period.State.CLOSED else None
                fresh.save(update_fields=["state", "closed_at"])
            return fresh
    except DatabaseError as error:
        raise UnableToClose(str(error).splitlines()[0]) from error


# --- the steps that move each contributor's result ----------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Result:
    """One contributor's account of accrued money, and what the period's lines on it sum to so far."""

    key: AccountKey
    amount: int

    def other(self, kind: str) -> AccountKey:
        """The account of the same contributor and asset of another kind."""
        return AccountKey(kind, self.key.asset, self.key.owner)


Lines = list[tuple[AccountKey, int]]


def _recover(month: Period) -> None:
    """Step 2: what a contributor owes (restated after it was paid) is taken from what the month brought."""
    _in_chunks(month, EntryKind.CLOSE_RECOVER, _recovery)


def _recovery(results: Sequence[_Result]) -> Lines:
    owed = journal.balances([r.other("contributor_receivable") for r in results])
    lines: Lines = []
    for result in results:
        debt = result.other("contributor_receivable")
        taken = min(max(0, result.amount), -owed[debt])
        if taken > 0:
            owed[debt] += taken
            lines += [(result.key, -taken), (debt, taken)]
    return lines


def _recoup(month: Period) -> None:
    """Step 3: open advances are recouped, the oldest first, from what is left."""
    _in_chunks(month, EntryKind.CLOSE_RECOUP, _recoupment)


def _recoupment(results: Sequence[_Result]) -> Lines:
    advances = _open_advances({r.key.owner for r in results})
    lines: Lines = []
    for result in results:
        left = max(0, result.amount)
        for place, (advance, open_amount) in enumerate(advances[result.key.owner, result.key.asset]):
            taken = min(left, open_amount)
            if taken:
                advances[result.key.owner, result.key.asset][place] = (advance, open_amount - taken)
                lines += [(result.key, -taken), (advance, taken)]
                left -= taken
    return lines


def _open_advances(owners: set[str]) -> dict[tuple[str, str], list[tuple[AccountKey, int]]]:
    """(owner, asset) -> the advances not recouped yet, oldest first."""
    found: dict[tuple[str, str], list[tuple[AccountKey, int]]] = defaultdict(list)
    accounts = Account.objects.filter(kind="advance", owner__in=owners, balance__posted__lt=0)
    for account in accounts.select_related("asset", "balance").order_by("id"):
        key = AccountKey("advance", account.asset.code, account.owner, account.contract)
        found[account.owner, account.asset.code].append((key, -account.balance.posted))
    return found


def _make_payable(month: Period) -> None:
    """Step 5: what is left becomes payable; a negative result is taken from the payable, then owed."""
    _in_chunks(month, EntryKind.CLOSE_PAYABLE, _payment)


def _payment(results: Sequence[_Result]) -> Lines:
    payable = journal.balances([r.other("contributor_payable") for r in results])
    lines: Lines = []
    for result in results:
        account = result.other("contributor_payable")
        if result.amount > 0:
            lines += [(result.key, -result.amount), (account, result.amount)]
        elif result.amount < 0:
            taken = min(-result.amount, payable[account])
            lines += [(result.key, -result.amount), (account, -taken)]
            lines.append((result.other("contributor_receivable"), result.amount + taken))
            payable[account] -= taken
    return [line for line in lines if line[1]]


def _in_chunks(month: Period, kind: EntryKind, lines_of: Callable[[Sequence[_Result]], Lines]) -> None:
    accounts = _accounts_of_result(month)
    for start in range(0, len(accounts), CHUNK_ACCOUNTS):
        key = f"close:{month.pk}:{kind}:{start // CHUNK_ACCOUNTS}"
        if journal.find(key) is not None:
            continue
        with transaction.atomic():
            # Balances that the lines rest on must stand until they are posted.
            journal.hold_still()
            if journal.find(key) is not None:
                continue
            lines = lines_of(_results(month, accounts[start : start + CHUNK_ACCOUNTS]))
            if lines:
                journal.post(
                    kind=kind, idem_key=key, effective=month.last_day, lines=_merged(lines),
                    reference=f"close of {month}, chunk {start // CHUNK_ACCOUNTS}",
                )  # fmt: skip


def _merged(lines: Lines) -> Lines:
    """One line an account: two contracts of one contributor lead to one payable."""
    sums: dict[AccountKey, int] = defaultdict(int)
    for key, amount in lines:
        sums[key] += amount
    return [(key, amount) for key, amount in sums.items() if amount]


def _accounts_of_result(month: Period) -> list[int]:
    """The accounts that the month's earnings touched, in order. It grows no more once the period is closing and its
    floor pools are distributed: the later steps only touch accounts that are in it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT a.id FROM ledger_entry e JOIN ledger_line l ON l.entry_id = e.id"
            " JOIN ledger_account a ON a.id = l.account_id"
            " WHERE e.period_id = %s AND l.entry_id >= (SELECT min(id) FROM ledger_entry WHERE period_id = %s)"
            " AND a.kind = 'contributor_accrued' ORDER BY a.id",
            [month.pk, month.pk],
        )
        return [row[0] for row in cursor.fetchall()]


def _results(month: Period, accounts: Sequence[int]) -> list[_Result]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.code, a.owner, a.contract, sum(l.amount)::bigint FROM ledger_line l"
            " JOIN ledger_entry e ON e.id = l.entry_id JOIN ledger_account a ON a.id = l.account_id"
            " JOIN ledger_asset s ON s.id = a.asset_id"
            " WHERE l.account_id = ANY(%s) AND e.period_id = %s GROUP BY a.id, s.code ORDER BY a.id",
            [list(accounts), month.pk],
        )
        return [_Result(AccountKey("contributor_accrued", *row[:3]), row[3]) for row in cursor.fetchall()]


# --- what was not accrued -----------------------------------------------------------------------------------------
def list_unaccrued(month: Period, at: datetime) -> None:
    """Step 6: every generation of the month that is neither accrued nor refused is listed with its reason."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO ledger_unaccrued (period_id, generation_id, reason, listed_at)
            SELECT %s, g.id, CASE g.state WHEN 'received' THEN 'not attributed yet'
                                          WHEN 'unattributable' THEN left('unattributable: ' || g.error, 500)
                                          ELSE 'attributed after the last sweep of the period' END, %s
              FROM attribution_generation g
             WHERE g.occurred_at >= %s::date::timestamp AT TIME ZONE 'UTC'
               AND g.occurred_at < %s::date::timestamp AT TIME ZONE 'UTC'
               AND NOT EXISTS (SELECT FROM ledger_accrual d WHERE d.generation_id = g.id)
               AND NOT EXISTS (SELECT FROM ledger_refusal r WHERE r.generation_id = g.id AND r.withdrawn_at IS NULL)
            ON CONFLICT DO NOTHING""",
            [month.pk, at, month.starts, month.ends],
        )
