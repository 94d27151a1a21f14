"""Receipts of archived documents: these left the database with their part of the books, after the month was closed.

The journal, the attributions and the months' files of credits stay. They give the month, the credit, and the published
root and statement that prove it.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.db import connection

from attribution.models import Attribution, Generation
from attribution.queries.generations import weighed_holders
from contributors.queries.splits import split_of
from ledger.models import Period, period_of, utc_date
from ledger.queries.balances import accounts_of
from ledger.queries.credits import AccountCredits
from ledger.queries.receipts import holders_of


@dataclass(frozen=True, slots=True)
class ArchivedReceipt:
    """The remaining facts of a receipt. `credited`: (currency, units) in the first month with a credit of it, before
    any later correction. It is empty where the month's file is not at hand, or where the month brought nothing.
    """

    generation: Generation
    period: Period
    credited: list[tuple[str, int]]


def is_archived(generation_id: uuid.UUID) -> bool:
    """Whether the part of the books that documents of this generation stand in is not in the database any more."""
    return bool(archived_of([generation_id]))


def archived_of(generation_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Those of the generations that `is_archived` holds for."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT g.id FROM unnest(%s::uuid[]) AS g(id)
             WHERE NOT EXISTS (
              SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               CROSS JOIN LATERAL regexp_match(
                 pg_get_expr(c.relpartbound, c.oid), $$FROM \\((?:MINVALUE|'(.+)')\\) TO \\('(.+)'\\)$$) AS b(ends)
               WHERE i.inhparent = 'ledger_accrual'::regclass
                 AND (b.ends[1] IS NULL OR b.ends[1]::uuid <= g.id) AND g.id < b.ends[2]::uuid)""",
            [[str(generation_id) for generation_id in generation_ids]],
        )
        return {row[0] for row in cursor.fetchall()}


def archived_month(generation: Generation) -> Period | None:
    """The month of a generation with archived documents: the journal's first closed month since it occurred with an
    entry without its documents. None where there is none: only a closed month can prove its archive.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e.period_id FROM ledger_entry e JOIN ledger_period p ON p.id = e.period_id"
            " WHERE e.period_id >= %s AND p.closed_at IS NOT NULL"
            " AND e.n_docs > (SELECT count(*) FROM ledger_accrual d WHERE d.batch_id = e.batch_id)"
            " ORDER BY e.period_id, e.id LIMIT 1",
            [period_of(utc_date(generation.occurred_at))],
        )
        row = cursor.fetchone()
    return Period.objects.get(pk=row[0]) if row else None


def archived_receipt(generation_id: uuid.UUID, contributor_id: int) -> ArchivedReceipt | None:
    """None where the contributor had no receipt of it, or has one still, or no closed month proves it."""
    rows = Generation.objects.select_related("model_version", "void")
    generation = rows.defer("prompt_text", "output_text", "token_ids").filter(pk=generation_id).first()
    if generation is None or not is_archived(generation_id) or not _had_a_part(generation, contributor_id):
        return None
    month = archived_month(generation)
    if month is None:
        return None
    accounts = {account.pk: account.asset.code for account in accounts_of(contributor_id, ("contributor_accrued",))}
    for period in Period.objects.filter(pk__gte=month.pk, closed_at__isnull=False).order_by("id"):
        if credited := _credited(generation_id, period, accounts.items()):
            return ArchivedReceipt(generation, period, credited)
    return ArchivedReceipt(generation, month, [])


def _had_a_part(generation: Generation, contributor_id: int) -> bool:
    own = set(holders_of(contributor_id))
    rows = Attribution.objects.filter(generation=generation).select_related("general")
    weighed = {holder_id for attribution in rows for holder_id in weighed_holders(attribution)}
    sheets = split_of(own & weighed, generation.occurred_at)
    return any(contributor_id == who and ppb for sheet in sheets.values() for who, ppb in sheet)


def _credited(generation_id: uuid.UUID, period: Period, accounts: Iterable[tuple[int, str]]) -> list[tuple[str, int]]:
    """The generation's credits in the month's file, in units; one pass over the contributor's own credits."""
    wanted = str(generation_id)
    found = []
    for account_id, currency in accounts:
        own = [c for c in AccountCredits(account_id, period.pk, last_entry=2**63 - 1) if c.generation_id == wanted]
        if own:
            found.append((currency, sum(credit.amount for credit in own)))
    return found
