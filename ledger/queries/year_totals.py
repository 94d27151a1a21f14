"""The payments to payees in a calendar year (UTC), as the journal has them, and the ledger's own sums beside them."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from ledger.sql import script

# A query with the columns effective, posted_at, owner, asset_id, paid, withheld, by_hand, tax_by_hand.
PAYMENTS = script("payments").strip()

_BOOKED = """
WITH line AS (
  SELECT e.kind, e.id, e.effective, e.reference, a.kind AS account, a.asset_id, l.amount
    FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id JOIN ledger_account a ON a.id = l.account_id
   WHERE a.kind IN ('bank', 'stripe_balance') AND e.kind IN ('payout_succeed', 'transfer_reversed', 'bank_return')
      OR a.kind = 'tax_payable' AND a.owner LIKE '%%/withholding' AND e.kind <> 'remit_tax'
), moved AS (
  SELECT asset_id, CASE account WHEN 'tax_payable' THEN 'withheld' ELSE 'cash' END AS name, amount
    FROM line WHERE extract(year FROM effective) = %(year)s
  UNION ALL
  -- Tax is withheld with the reserve and counts when the money leaves: the part that is on its way.
  SELECT l.asset_id, 'on_its_way',
         CASE WHEN extract(year FROM l.effective) = %(year)s THEN l.amount ELSE 0 END
         - CASE WHEN extract(year FROM done.effective) = %(year)s THEN l.amount ELSE 0 END
    FROM line l
    LEFT JOIN ledger_entry done
      ON done.idem_key IN ('payout_succeed:' || l.reference, 'payout_refuse:' || l.reference)
   WHERE l.account = 'tax_payable' AND l.kind = 'payout_reserve'
)
SELECT s.code, name, sum(amount)::bigint FROM moved JOIN ledger_asset s ON s.id = asset_id GROUP BY 1, 2"""


@dataclass(frozen=True, slots=True)
class Booked:
    """The ledger's own sums of a year in one currency, from cash and tax accounts alone.

    `cash` left for payees, less the returns. `withheld` was credited to the accounts of withheld tax. Of it,
    `on_its_way` belongs to payouts that had not left at the end of the year, less those of the year before.
    """

    currency: str
    cash: int = 0
    withheld: int = 0
    on_its_way: int = 0


def booked_in(year: int) -> dict[str, Booked]:
    """The ledger's own sums of a year by currency."""
    found: dict[str, dict[str, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_BOOKED, {"year": year})
        for code, name, amount in cursor.fetchall():
            found.setdefault(code, {})[name] = amount
    return {code: Booked(code, **sums) for code, sums in sorted(found.items())}
