"""A contributor's earnings by month, and of one month by model, service and work.

Read from the sums (ledger.models.earned) and from the entries behind their mark, in one statement: a read sees each
entry once, however far the sums have come. The cost does not grow with the receipts.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from django.db import connection

from attribution.models import ModelVersion
from contributors.models import Work
from ledger.models import Earned
from ledger.money import apportion, asset, tie_key
from people.presentation.amounts import adds_up_in_minor

SCORE_SCALE = 10**12


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


# Sums up to the mark, and the entries behind it. The mark is read in the same statement, so at the same moment.
_SUMS = """
SELECT f.period_id, c.code, f.by, f.subject_id, sum(f.generations)::bigint, sum(f.amount)::bigint
  FROM (SELECT by, period_id, asset_id, subject_id, generations, amount FROM ledger_earned
         WHERE contributor_id = %(contributor)s AND by = ANY(%(by)s)
           AND (%(period)s::integer IS NULL OR period_id = %(period)s)
        UNION ALL
        SELECT by, period_id, asset_id, subject_id, generations, amount
          FROM {function}((SELECT coalesce(max(upto), 0) FROM ledger_earnedmark), 9223372036854775807, %(contributor)s)
         WHERE by = ANY(%(by)s) AND (%(period)s::integer IS NULL OR period_id = %(period)s)) f
  JOIN ledger_asset c ON c.id = f.asset_id
 GROUP BY 1, 2, 3, 4"""
_SOURCES = _SUMS.format(function="ledger_earned_by_source")
_CREDITS = _SUMS.format(function="ledger_earned_by_credit")


@dataclass(frozen=True, slots=True)
class _Sum:
    period_id: int
    currency: str
    by: str
    subject_id: int
    generations: int
    amount: int


def _sums(statement: str, contributor_id: int, by: Sequence[str], period_id: int | None = None) -> list[_Sum]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"contributor": contributor_id, "by": list(by), "period": period_id})
        return [_Sum(*row) for row in cursor.fetchall()]


def _credits(contributor_id: int, by: str, period_id: int) -> list[_Sum]:
    """Leave out a subject with credits that were all reversed in the month."""
    return [s for s in _sums(_CREDITS, contributor_id, [by], period_id) if s.amount or s.generations]


def earnings_by_month(contributor_id: int) -> list[MonthEarnings]:
    """Oldest first, a row for each period and currency with a line."""
    sums: dict[tuple[int, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    sources = (Earned.By.DIRECT.value, Earned.By.FLOOR.value, Earned.By.OTHER.value)
    for found in _sums(_SOURCES, contributor_id, sources):
        sums[found.period_id, found.currency][found.by] += found.amount
    return [
        MonthEarnings(period_id, currency, found["direct"], found["floor"], found["other"])
        for (period_id, currency), found in sorted(sums.items())
    ]


def earnings_by_model(contributor_id: int, period_id: int) -> list[ModelEarned]:
    """Of one period, the largest first. A generation that was reversed in the period counts as minus one."""
    sums = _credits(contributor_id, Earned.By.MODEL, period_id)
    versions = ModelVersion.objects.select_related("service").in_bulk({s.subject_id for s in sums})
    earned = []
    for found in sums:
        version = versions[found.subject_id]
        service = version.service
        earned.append(
            ModelEarned(
                found.currency,
                version.public_id,
                version.name,
                service.public_id,
                service.name,
                found.generations,
                found.amount,
            )
        )
    return sorted(earned, key=lambda e: (e.currency, -e.amount, e.model_id))


def earnings_by_service(contributor_id: int, period_id: int) -> list[ServiceEarned]:
    """Of one period, the largest first."""
    return by_service(earnings_by_model(contributor_id, period_id))


def by_service(models: Sequence[ModelEarned]) -> list[ServiceEarned]:
    """Sum the earnings of models by their services, the largest first."""
    sums: dict[tuple[str, uuid.UUID, str], list[int]] = defaultdict(lambda: [0, 0])
    for model in models:
        found = sums[model.currency, model.service_id, model.service]
        found[0] += model.generations
        found[1] += model.amount
    earned = [ServiceEarned(*key, *counted) for key, counted in sums.items()]
    return sorted(earned, key=lambda e: (e.currency, -e.amount, e.service_id))


def earnings_by_work(contributor_id: int, period_id: int) -> list[WorkEarned]:
    """Of one period, the largest first. Each credit is divided among the works that its evidence names."""
    sums = _credits(contributor_id, Earned.By.WORK, period_id)
    works = Work.objects.in_bulk({s.subject_id for s in sums if s.subject_id})
    earned = [
        WorkEarned(s.currency, works[s.subject_id] if s.subject_id else None, s.generations, s.amount) for s in sums
    ]
    return sorted(earned, key=lambda e: (e.currency, -e.amount, e.work.pk if e.work else 0))


def divide_among_works(
    amount: int, generation_id: uuid.UUID, works: Sequence[tuple[int, float]]
) -> list[tuple[int | None, int]]:
    """One credit over its works in proportion to their positive scores, to the last unit (largest remainder).

    A reversal (amount below zero) is divided as its original. With no positive score all of it is nobody's.
    ledger_earned_by_credit of ledger/sql/earned.sql has the same, so a score counts in its decimal digits.
    """
    weighted = [(work_id, int(Fraction(repr(score)) * SCORE_SCALE)) for work_id, score in works]
    weighted = [(work_id, weight) for work_id, weight in weighted if weight > 0]
    if not weighted:
        return [(None, amount)]
    sign = -1 if amount < 0 else 1
    keys = [tie_key(generation_id.bytes, work_id) for work_id, _ in weighted]
    parts = apportion(abs(amount), [weight for _, weight in weighted], keys)
    return [(work_id, sign * part) for (work_id, _), part in zip(weighted, parts, strict=True)]
