"""A contributor's earnings: by month from the journal, by model, service and work from the documents of one month.

By month costs one journal line for each batch. The rest reads every document of the contributor in the month, and by
work the evidence of each as well: measured on a busy core, 0.5 s and 1.1 s for 100,000 generations.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from django.db import connection

from contributors.models import Work
from ledger.models import EntryKind
from ledger.money import apportion, asset, tie_key
from ledger.queries.balances import accounts_of
from ledger.queries.receipts import CREDITED_KINDS, holders_of, ranked_works
from people.presentation.amounts import adds_up_in_minor

SCORE_SCALE = 10**12
CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class MonthEarnings:
    """The earned credits of one period, by source, in units."""

    period_id: int
    currency: str
    direct: int
    floor: int
    other: int

    @property
    def period(self) -> str:
        return f"{self.period_id // 100}-{self.period_id % 100:02d}"

    @property
    def total(self) -> int:
        return self.direct + self.floor + self.other

    @property
    def adds_up(self) -> bool:
        """Whether the sources in cents sum to the total in cents; if not, a page shows exact amounts."""
        return adds_up_in_minor((self.direct, self.floor, self.other), self.total, asset(self.currency))


@dataclass(frozen=True, slots=True)
class ModelEarned:
    currency: str
    model_id: uuid.UUID
    model: str
    service_id: uuid.UUID
    service: str
    generations: int
    amount: int


@dataclass(frozen=True, slots=True)
class ServiceEarned:
    currency: str
    service_id: uuid.UUID
    service: str
    generations: int
    amount: int


@dataclass(frozen=True, slots=True)
class WorkEarned:
    """`work` is None for credits with evidence that names no work."""

    currency: str
    work: Work | None
    generations: int
    amount: int


# Entries that add to the earned royalty or take from it, as opposed to entries that move it on.
_EARNING_KINDS = {
    EntryKind.ACCRUE: "direct",
    EntryKind.ACCRUE_POOL: "direct",
    EntryKind.RESTATE: "direct",
    EntryKind.VOID_GENERATIONS: "direct",
    EntryKind.DISTRIBUTE_FLOOR: "floor",
    EntryKind.RESTATE_FLOOR: "floor",
    EntryKind.CLOSE_GUARANTEE: "other",
    EntryKind.FIND_OWNER: "other",
    EntryKind.MANUAL: "other",
}


def earnings_by_month(contributor_id: int) -> list[MonthEarnings]:
    """Oldest first, a row for each period and currency with a line."""
    account_ids = [account.pk for account in accounts_of(contributor_id, ("contributor_accrued",))]
    sums: dict[tuple[int, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT e.period_id, c.code, e.kind, sum(l.amount)::bigint
            FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
            JOIN ledger_account a ON a.id = l.account_id JOIN ledger_asset c ON c.id = a.asset_id
            WHERE l.account_id = ANY(%s::bigint[]) AND e.kind = ANY(%s) GROUP BY 1, 2, 3""",
            [account_ids, [kind.value for kind in _EARNING_KINDS]],
        )
        for period_id, currency, kind, amount in cursor.fetchall():
            sums[period_id, currency][_EARNING_KINDS[EntryKind(kind)]] += amount
    return [
        MonthEarnings(period_id, currency, found["direct"], found["floor"], found["other"])
        for (period_id, currency), found in sorted(sums.items())
    ]


# The contributor's credits of one period: its batches by the key (account, entry), then the documents of those.
_CREDITS = """
    FROM (SELECT DISTINCT e.id, e.batch_id FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
          WHERE l.account_id = ANY(%(accounts)s::bigint[]) AND e.period_id = %(period)s AND e.batch_id IS NOT NULL) e
    JOIN ledger_accrual a ON a.batch_id = e.batch_id AND a.account_ids && %(accounts)s::bigint[]
    JOIN ledger_account own ON own.id = ANY(%(accounts)s::bigint[]) AND own.id = ANY(a.account_ids)
    JOIN ledger_asset c ON c.id = own.asset_id"""
_AMOUNT = "a.amounts[array_position(a.account_ids, own.id)]"


def earnings_by_model(contributor_id: int, period_id: int) -> list[ModelEarned]:
    """Of one period, the largest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT c.code, v.public_id, v.name, s.public_id, s.name,
                   count(DISTINCT a.generation_id), sum({_AMOUNT})::bigint {_CREDITS}
            JOIN attribution_generation g ON g.id = a.generation_id
            JOIN attribution_modelversion v ON v.id = g.model_version_id
            JOIN attribution_modelservice s ON s.id = g.service_id
            GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 7 DESC, 2""",
            _parameters(contributor_id, period_id),
        )
        return [ModelEarned(*row) for row in cursor.fetchall()]


def earnings_by_service(contributor_id: int, period_id: int) -> list[ServiceEarned]:
    """Of one period, the largest first."""
    sums: dict[tuple[str, uuid.UUID, str], list[int]] = defaultdict(lambda: [0, 0])
    for model in earnings_by_model(contributor_id, period_id):
        found = sums[model.currency, model.service_id, model.service]
        found[0] += model.generations
        found[1] += model.amount
    earned = [ServiceEarned(*key, *counted) for key, counted in sums.items()]
    return sorted(earned, key=lambda e: (e.currency, -e.amount, e.service_id))


def earnings_by_work(contributor_id: int, period_id: int) -> list[WorkEarned]:
    """Of one period, the largest first. Each credit is divided among the works that its evidence names."""
    amounts: dict[tuple[str, int | None], int] = defaultdict(int)
    generations: dict[tuple[str, int | None], int] = defaultdict(int)
    for credit in _credits_with_evidence(contributor_id, period_id):
        for work_id, amount in divide_among_works(credit.amount, credit.generation_id, credit.works):
            amounts[credit.currency, work_id] += amount
            generations[credit.currency, work_id] += 1 if credit.revision > 0 else 0
    works = Work.objects.in_bulk({work_id for _, work_id in amounts if work_id is not None})
    earned = [
        WorkEarned(currency, works[work_id] if work_id else None, generations[currency, work_id], amount)
        for (currency, work_id), amount in amounts.items()
    ]
    return sorted(earned, key=lambda e: (e.currency, -e.amount, e.work.pk if e.work else 0))


def divide_among_works(
    amount: int, generation_id: uuid.UUID, works: Sequence[tuple[int, float]]
) -> list[tuple[int | None, int]]:
    """One credit over its works in proportion to their positive scores, to the last unit (largest remainder).

    A reversal (amount below zero) is divided as its original. With no positive score all of it is nobody's.
    """
    weighted = [(work_id, int(Fraction(score) * SCORE_SCALE)) for work_id, score in works]
    weighted = [(work_id, weight) for work_id, weight in weighted if weight > 0]
    if not weighted:
        return [(None, amount)]
    sign = -1 if amount < 0 else 1
    keys = [tie_key(generation_id.bytes, work_id) for work_id, _ in weighted]
    parts = apportion(abs(amount), [weight for _, weight in weighted], keys)
    return [(work_id, sign * part) for (work_id, _), part in zip(weighted, parts, strict=True)]


@dataclass(frozen=True, slots=True)
class _Credit:
    currency: str
    generation_id: uuid.UUID
    revision: int
    amount: int
    works: list[tuple[int, float]]


def _credits_with_evidence(contributor_id: int, period_id: int) -> Iterator[_Credit]:
    holder_ids = holders_of(contributor_id)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT c.code, a.generation_id, a.revision, sum({_AMOUNT})::bigint,
                   (SELECT jsonb_object_agg(w.key, w.value) FROM jsonb_each(t.top_works) w
                    WHERE w.key = ANY(%(holders)s))
            {_CREDITS}
            LEFT JOIN attribution_attribution t ON t.generation_id = a.generation_id AND t.revision = abs(a.revision)
            GROUP BY 1, 2, 3, t.id ORDER BY 2, 3""",
            {**_parameters(contributor_id, period_id), "holders": [str(holder_id) for holder_id in holder_ids]},
        )
        while rows := cursor.fetchmany(CHUNK):
            for currency, generation_id, revision, amount, evidence in rows:
                ranked = ranked_works(json.loads(evidence or "{}"), holder_ids)
                yield _Credit(currency, generation_id, revision, amount, ranked)


def _parameters(contributor_id: int, period_id: int) -> dict[str, Any]:
    return {
        "accounts": [account.pk for account in accounts_of(contributor_id, CREDITED_KINDS)],
        "period": period_id,
    }
