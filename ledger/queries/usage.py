"""A model service's side of the books: its usage by month, the money that it owes or has paid in, its invoices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Q

from ledger.journal import CHART
from ledger.models import Account, Line

KINDS = ("service_deposit", "service_unbilled", "service_receivable")


@dataclass(frozen=True, slots=True)
class Usage:
    """The generations of one model version in one month. `accrued` is their gross in units of `currency`.

    `currency` is empty where nothing was charged. Each generation stands in one row.
    """

    model_version: str
    state: str
    currency: str
    generations: int
    accrued: int


@dataclass(frozen=True, slots=True)
class ServiceBalance:
    """In units: paid in and not used, accrued and not invoiced, invoiced and not paid."""

    currency: str
    deposit: int
    unbilled: int
    receivable: int

    @property
    def available(self) -> int:
        """The deposit less everything that it still has to cover; negative for a service that owes."""
        return self.deposit - self.unbilled - self.receivable


@dataclass(frozen=True, slots=True)
class Bill:
    """A movement of the service's receivable: an invoice is positive, a payment or a write-off negative; in units."""

    entry_id: int
    kind: str
    reference: str
    posted_at: datetime
    currency: str
    amount: int
    open_after: int


_USAGE = """
SELECT v.name,
       CASE WHEN EXISTS (SELECT 1 FROM ledger_void w WHERE w.generation_id = g.id) THEN 'voided'
            WHEN a.gross IS NOT NULL THEN 'accrued'
            WHEN EXISTS (SELECT 1 FROM ledger_refusal f WHERE f.generation_id = g.id AND f.withdrawn_at IS NULL)
            THEN 'refused' ELSE g.state END AS state,
       coalesce(s.code, '') AS currency, count(*), coalesce(sum(a.gross), 0)::bigint
  FROM attribution_generation g
  JOIN attribution_modelversion v ON v.id = g.model_version_id
  LEFT JOIN LATERAL (
    SELECT d.gross, d.source_id FROM ledger_accrual d
     WHERE d.generation_id = g.id AND d.revision > 0
       AND NOT EXISTS (SELECT 1 FROM ledger_accrual r WHERE r.generation_id = g.id AND r.revision = -d.revision)
  ) a ON true
  LEFT JOIN ledger_account c ON c.id = a.source_id
  LEFT JOIN ledger_asset s ON s.id = c.asset_id
 WHERE g.service_id = %s AND g.occurred_at >= %s AND g.occurred_at < %s
 GROUP BY 1, 2, 3 ORDER BY 1, 3, 2"""


def usage(service_id: int, *, since: datetime, before: datetime) -> list[Usage]:
    """Count a service's generations that occurred in a span, by model version, state and currency."""
    with connection.cursor() as cursor:
        cursor.execute(_USAGE, [service_id, since, before])
        return [Usage(*row) for row in cursor.fetchall()]


def service_balances(service_id: int) -> list[ServiceBalance]:
    """One row for each currency that ever moved."""
    accounts = Account.objects.filter(owner=f"service:{service_id}", kind__in=KINDS).select_related("asset", "balance")
    found: dict[str, dict[str, int]] = {}
    for account in accounts:
        sign = -1 if CHART[account.kind].normal_side == "D" else 1
        found.setdefault(account.asset.code, dict.fromkeys(KINDS, 0))[account.kind] += sign * account.balance.posted
    return [ServiceBalance(code, *(row[kind] for kind in KINDS)) for code, row in sorted(found.items())]


def bills(service_id: int, *, before_entry: int | None = None, limit: int) -> Iterator[Bill]:
    """The movements of the debt of a service on invoices, the newest first."""
    lines = (
        Line.objects.filter(account__owner=f"service:{service_id}", account__kind="service_receivable")
        .filter(Q(entry_id__lt=before_entry) if before_entry is not None else Q())
        .select_related("entry", "account__asset")
        .order_by("-entry_id")[:limit]
    )
    for line in lines:
        yield Bill(
            line.entry_id,
            line.entry.kind,
            line.entry.reference,
            line.entry.posted_at,
            line.account.asset.code,
            -line.amount,
            -line.balance_after,
        )
