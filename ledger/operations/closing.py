"""The close of a month, in steps and resumable chunks.

Each chunk of each step is one entry under the key `close:{period}:{step}:{chunk}`, so that a close that was killed
anywhere goes on where it stood, with the same result. A step moves the sum of the period's lines, never a balance: the
next month is already open and posting.
"""

from __future__ import annotations

from datetime import datetime

from django.db import DatabaseError, connection, transaction

from ledger import journal, settlement
from ledger.crashpoints import ClosePoint, crashpoint
from ledger.models import EntryKind, Period, utc_date
from ledger.operations.accruals import accrue
from ledger.operations.contests import hold_contested
from ledger.operations.floor_corrections import correct_floors
from ledger.operations.floors import distribute_floors
from ledger.operations.periods import open_periods
from ledger.operations.pools import accrue_pools, declare_own_pools, pools_lacking
from ledger.operations.reserves import release_reserves, write_instalments
from ledger.queries.contracts import versions_in_force
from ledger.queries.parties import load_parties
from people.actor import Actor, lacks_role
from people.models import User

CHUNK_CONTRIBUTORS = 1000
CLOSERS = ("finance_checker",)


class UnableToClose(Exception):
    """The period is not one that can be closed now."""

    status = 409
    problem = "period-not-closable"


def close_period(*, period: Period | int, at: datetime, by: User | None = None) -> Period:
    """Close a month that is over. Accrue the attributed generations and divide the month's pools. Carry the changes
    that restatements make to the base pools of closed months, and distribute its own. Make up guarantees, recover
    debts, recoup advances, hold reserves back and make the remainder payable. List the generations that were not
    accrued; then release the due reserves of earlier closes. Run again after a crash, it finishes; on a closed period
    it does nothing. The period and the audit log keep `by`, the person that closes it.

    Raises UnableToClose: no such period, the month is not over, the one before is not closed, a pool is
    lacking, or `by` lacks the role.
    """
    if by is not None and (refusal := lacks_role(by=by, roles=CLOSERS)):
        raise UnableToClose(refusal)
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
        if lacking := pools_lacking(month):
            raise UnableToClose(" ".join(lacking))
        while accrue(at=at, full=True):
            pass
        declare_own_pools(month, at)
        month = _advance(month, Period.State.CLOSING, at)
    crashpoint(ClosePoint.BEGUN)
    accrue_pools(month, at)
    correct_floors(month)
    crashpoint(ClosePoint.FLOORS_CORRECTED)
    distribute_floors(month)
    crashpoint(ClosePoint.FLOORS_DISTRIBUTED)
    for kind in settlement.STEPS:
        _run_step(month, EntryKind(kind))
    list_unaccrued(month, at)
    crashpoint(ClosePoint.UNACCRUED_LISTED)
    month = _advance(month, Period.State.CLOSED, at, by)
    crashpoint(ClosePoint.CLOSED)
    release_reserves(at=at)
    hold_contested(at=at)
    return month


def _advance(month: Period, state: Period.State, at: datetime, by: User | None = None) -> Period:
    try:
        with transaction.atomic():
            journal.hold_still()
            fresh = Period.objects.get(pk=month.pk)
            if fresh.state != state:
                # Looked at again where nothing is proposed, declared or adopted any more: a pool proposed, or the
                # first generation under one attributed, since the close began would be left out of its month.
                if state == Period.State.CLOSING and (lacking := pools_lacking(fresh)):
                    raise UnableToClose(" ".join(lacking))
                fresh.state = state
                fresh.closed_at = at if state == Period.State.CLOSED else None
                fresh.closed_by = by if state == Period.State.CLOSED else None
                fresh.save(update_fields=["state", "closed_at", "closed_by"])
                if by is not None:
                    moved = {"before": {"state": Period.State.CLOSING}, "after": {"state": state}}
                    Actor(by, at).log("close_period", f"period:{fresh.code}", **moved)
            return fresh
    except DatabaseError as error:
        raise UnableToClose(str(error).splitlines()[0]) from error


# --- the steps that move each contributor's result ----------------------------------------------------------------
def _run_step(month: Period, kind: EntryKind) -> None:
    """One step, for a thousand contributors at a time; the postings of an earlier chunk already stand."""
    contributors = _guaranteed(month) if kind == EntryKind.CLOSE_GUARANTEE else _earners(month)
    for start in range(0, len(contributors), CHUNK_CONTRIBUTORS):
        chunk = start // CHUNK_CONTRIBUTORS
        key = f"close:{month.pk}:{kind}:{chunk}"
        if journal.find(key) is not None:
            continue
        with transaction.atomic():
            # Balances that the lines rest on must stand until they are posted.
            journal.hold_still()
            if journal.find(key) is not None:
                continue
            parties = load_parties(month.pk, contributors[start : start + CHUNK_CONTRIBUTORS])
            lines = settlement.merged(line for party in parties for line in settlement.STEPS[kind](party))
            if not lines:
                continue
            entry = journal.post(
                kind=kind,
                idem_key=key,
                effective=month.last_day,
                lines=lines,
                reference=f"close of {month}, chunk {chunk}",
            ).entry_id
            crashpoint(f"{kind}_posted")
            if kind == EntryKind.CLOSE_RESERVE:
                write_instalments(month, entry, parties, lines)
        crashpoint(f"{kind}_committed")


def _guaranteed(month: Period) -> list[int]:
    """The contributors with a contract that guarantees something, also where the month brought them nothing. It stands
    still: no terms are adopted for a month that is closing.
    """
    return sorted({row.contract.contributor_id for row in versions_in_force(month.pk) if row.guarantee})


def _earners(month: Period) -> list[int]:
    """The contributors with accrued money that the month's lines touched, in order. It grows no more once the floor
    pools are distributed and the guarantees are made up: the later steps only touch accounts of these.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT split_part(a.owner, ':', 2)::bigint FROM ledger_entry e"
            " JOIN ledger_line l ON l.entry_id = e.id JOIN ledger_account a ON a.id = l.account_id"
            " WHERE e.period_id = %s AND l.entry_id >= (SELECT min(id) FROM ledger_entry WHERE period_id = %s)"
            " AND a.kind = 'contributor_accrued'"
            " AND NOT EXISTS (SELECT FROM contributors_splitdispute d"
            "                  WHERE d.state = 'open' AND a.contract = 'dispute:' || d.id) ORDER BY 1",
            [month.pk, month.pk],
        )
        return [row[0] for row in cursor.fetchall()]


# --- what was not accrued -----------------------------------------------------------------------------------------
def list_unaccrued(month: Period, at: datetime) -> None:
    """Step 6: every generation of the month that is neither accrued nor refused is listed with its reason."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO ledger_unaccrued (period_id, generation_id, reason, listed_at)
            SELECT %s, g.id, CASE WHEN v.generation_id IS NOT NULL THEN left('voided, ' || v.reason
                                            || CASE WHEN v.detail = '' THEN '' ELSE ': ' || v.detail END, 500)
                                  WHEN g.state = 'received' THEN 'not attributed yet'
                                  WHEN g.state = 'unattributable' THEN left('unattributable: ' || g.error, 500)
                                  ELSE 'attributed after the last sweep of the period' END, %s
              FROM attribution_generation g
              LEFT JOIN ledger_void v ON v.generation_id = g.id
             WHERE g.occurred_at >= %s::date::timestamp AT TIME ZONE 'UTC'
               AND g.occurred_at < %s::date::timestamp AT TIME ZONE 'UTC'
               AND NOT EXISTS (SELECT FROM ledger_accrual d WHERE d.generation_id = g.id)
               AND NOT EXISTS (SELECT FROM ledger_refusal r WHERE r.generation_id = g.id AND r.withdrawn_at IS NULL)
            ON CONFLICT DO NOTHING""",
            [month.pk, at, month.starts, month.ends],
        )
