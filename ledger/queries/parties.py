"""The findings of a month's close for each contributor: the month's lines, debts, advances, contracts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date

from django.db import connection

from ledger import journal
from ledger.journal import AccountKey
from ledger.queries.contracts import terms_in_force
from ledger.settlement import Advance, Party, Terms

# Movements by a close and by its disputes are not earned.
_RESULTS = """
SELECT a.owner, s.code, a.contract, sum(l.amount)::bigint,
       coalesce(sum(l.amount) FILTER (
         WHERE e.earned_period_id = %(month)s AND e.kind NOT IN ('open_dispute', 'close_guarantee', 'close_recover',
               'close_recoup', 'close_reserve', 'close_payable')), 0)::bigint
  FROM ledger_account a JOIN ledger_asset s ON s.id = a.asset_id
  JOIN ledger_line l ON l.account_id = a.id JOIN ledger_entry e ON e.id = l.entry_id
 WHERE a.kind = 'contributor_accrued' AND a.owner = ANY(%(owners)s)
   -- What was contested was left out of earlier closes, and put on hold in whatever month: all of it counts until now.
   AND (e.period_id = %(month)s AND l.entry_id >= (SELECT min(id) FROM ledger_entry WHERE period_id = %(month)s)
        OR a.contract LIKE 'dispute:%%' AND e.period_id <= %(month)s)
   AND (%(before)s::bigint IS NULL OR e.id <= %(before)s)
   -- What is contested waits for the decision.
   AND NOT EXISTS (SELECT FROM contributors_splitdispute d
                    WHERE d.state = 'open' AND a.contract = 'dispute:' || d.id)
 GROUP BY 1, 2, 3"""


def load_parties(
    month: int,
    contributor_ids: Sequence[int],
    *,
    before: int | None = None,
    terms: dict[int, list[Terms]] | None = None,
) -> list[Party]:
    """A party for each contributor and currency in which it earned or is guaranteed something.

    `before` looks at the books as they were after that entry; `terms` replaces those that were in force.
    """
    in_force = terms_in_force(month, contributor_ids) if terms is None else terms
    owners = {f"contributor:{number}": number for number in contributor_ids}
    parties: dict[tuple[str, str], Party] = {}
    with connection.cursor() as cursor:
        cursor.execute(_RESULTS, {"owners": list(owners), "month": month, "before": before})
        for owner, asset, contract, result, earned in cursor.fetchall():
            party = parties.setdefault((owner, asset), Party(asset, owner, {}))
            party.results[contract], party.earned[contract] = result, earned
    for owner, number in owners.items():
        for found in in_force.get(number, ()):
            if found.guarantee:
                asset = found.guarantee_currency
                parties.setdefault((owner, asset), Party(asset, owner, {}))
    loaded = [parties[key] for key in sorted(parties, key=lambda key: (owners[key[0]], key[1]))]
    owed = journal.balances([party.key("contributor_receivable") for party in loaded], before)
    payable = journal.balances([party.key("contributor_payable") for party in loaded], before)
    advances = _open_advances(month, list(owners), before)
    for party in loaded:
        party.owed = -owed[party.key("contributor_receivable")]
        party.payable = payable[party.key("contributor_payable")]
        party.advances = advances.get((party.owner, party.asset), [])
        party.terms = in_force.get(owners[party.owner], [])
    return loaded


# An advance dated after the month is earned back from later ones, also where the month closes after it was granted.
# A cancellation counts from the day of the advance's grant, so that no close earns back a cancelled part.
_ADVANCES = """
SELECT a.owner, s.code, a.contract, -sum(l.amount)::bigint
  FROM ledger_account a JOIN ledger_asset s ON s.id = a.asset_id
  JOIN ledger_line l ON l.account_id = a.id JOIN ledger_entry e ON e.id = l.entry_id
  LEFT JOIN ledger_advancecancellation x ON x.entry_id = e.id AND e.kind = 'cancel_advance'
  LEFT JOIN ledger_advanceproposal p ON p.id = x.advance_id LEFT JOIN ledger_entry granted ON granted.id = p.entry_id
 WHERE a.kind = 'advance' AND a.owner = ANY(%(owners)s) AND coalesce(granted.period_id, e.period_id) <= %(month)s
   AND (%(before)s::bigint IS NULL OR e.id <= %(before)s)
 GROUP BY a.id, 1, 2, 3 HAVING sum(l.amount) < 0 ORDER BY a.id"""


def _open_advances(month: int, owners: list[str], before: int | None) -> dict[tuple[str, str], list[Advance]]:
    """(owner, asset) -> the advances not recouped by the end of the month, oldest first."""
    found: dict[tuple[str, str], list[Advance]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_ADVANCES, {"owners": owners, "month": month, "before": before})
        for owner, asset, contract, amount in cursor.fetchall():
            found[owner, asset].append(Advance(AccountKey("advance", asset, owner, contract), amount))
    return dict(found)


def entry_before_close(month: int) -> int | None:
    """The last entry before the first step of a month's close; None while no step is posted."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(id) - 1 FROM ledger_entry WHERE period_id = %s AND kind IN ('close_guarantee', 'close_recover',"
            " 'close_recoup', 'close_reserve', 'close_payable')",
            [month],
        )
        row = cursor.fetchone()
    return None if row is None or row[0] is None else int(row[0])


def months_after(day: date, months: int) -> date:
    """The first day of the month that many months after the month of a first day."""
    count = day.year * 12 + day.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)
