"""Which generations a contributor was paid for: a list that stays quick however many there are.

A receipt is a document (Accrual) that credits one of the contributor's accounts. Documents hold arrays and have no
index by account; the journal does: a contributor has a line in exactly the batches that credit it. Receipts are listed
by the moment of their generation, and the batches are not in that order. A contributor with at most BATCHES_MAX batches
has the documents of all of them read and sorted. For one with more, a page walks down the generations by their moment,
GENERATIONS_MAX at most, and stops as soon as it is full.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.db import connection
from django.db.models import Max, Min, QuerySet

from attribution.models import Attribution, Generation, ModelVersion
from contributors.models import Split, Work
from ledger.models import Entry, Line, Period
from ledger.queries.balances import accounts_of

BATCHES_MAX = 25
# Nearly always the page is full after a few; only a filter that matches little needs many.
GENERATIONS_FIRST = 1_000
GENERATIONS_MAX = 25_000
# The evidence of each is read for a work.
GENERATIONS_OF_WORK_MAX = 5_000
RECEIPTS_PAGE = 25
REVISION_MAX = 2**31 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CREDITED_KINDS = ("contributor_accrued", "contributor_payable")


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """The place of a receipt in the list; receipts come newest generation first."""

    occurred_at: datetime
    generation_id: uuid.UUID
    revision: int

    def __str__(self) -> str:
        microseconds = (self.occurred_at - _EPOCH) // timedelta(microseconds=1)
        return f"{microseconds}.{self.generation_id.hex}.{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Read a cursor from an address. Returns None for any other text: such a page begins at the beginning."""
        moment, _, rest = text.partition(".")
        generation, _, revision = rest.partition(".")
        try:
            occurred_at = _EPOCH + timedelta(microseconds=int(moment))
            cursor = cls(occurred_at, uuid.UUID(hex=generation), int(revision))
        except (ValueError, OverflowError):
            return None
        return cursor if abs(cursor.revision) <= REVISION_MAX else None


@dataclass(frozen=True, slots=True)
class WorkScore:
    work: Work
    score: float


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """One line of "why was I paid". `revision` below zero takes an earlier receipt back."""

    entry_id: int
    period_id: int
    generation_id: uuid.UUID
    revision: int
    occurred_at: datetime
    service: str
    model: str
    currency: str
    amount: int
    top_work: Work | None

    @property
    def period(self) -> str:
        return f"{self.period_id // 100}-{self.period_id % 100:02d}"


@dataclass(frozen=True, slots=True)
class ReceiptPage:
    rows: list[ReceiptRow]
    next_after: str
    """The cursor of the next page, "" on the last one."""
    searched_on: bool
    """The page is short because GENERATIONS_MAX generations were searched, not because the list ends."""
    archived: list[int] = field(default_factory=list)
    """Months, newest first, with searched credits that have no documents in the database any more."""


def receipts_of(
    contributor_id: int,
    *,
    month: int | None = None,
    model: uuid.UUID | None = None,
    service: uuid.UUID | None = None,
    work: int | None = None,
    after: str = "",
    limit: int = RECEIPTS_PAGE,
) -> ReceiptPage:
    """A page of receipts, newest first. `month` is the period in which they were posted, as on the statement."""
    account_ids = [account.pk for account in accounts_of(contributor_id, CREDITED_KINDS)]
    cursor = Cursor.parse(after) if after else None
    if work is not None and not Work.objects.filter(pk=work, holder__in=_holders(contributor_id)).exists():
        return ReceiptPage([], "", False)
    lines = Line.objects.filter(account_id__in=account_ids, entry__batch_id__isnull=False)
    if month is not None:
        lines = lines.filter(entry__period_id=month)
    entries = list(lines.values_list("entry_id", flat=True).order_by("-entry_id").distinct()[: BATCHES_MAX + 1])
    if not entries:
        return ReceiptPage([], "", False)
    values: dict[str, Any] = {
        "accounts": list(account_ids),
        "month": month,
        "at": cursor.occurred_at if cursor else None,
        "at_generation": str(cursor.generation_id) if cursor else None,
        "at_revision": cursor.revision if cursor else None,
        "model": str(model) if model else None,
        "service": str(service) if service else None,
        "work": work,
        "limit": limit + 1,
    }
    if len(entries) <= BATCHES_MAX:
        end, archived = None, _archived(entries)
        found = _rows(_DOCUMENTS % _OF_ENTRIES, {**values, "entries": entries})
    else:
        most = GENERATIONS_MAX if work is None else min(GENERATIONS_MAX, GENERATIONS_OF_WORK_MAX)
        for size in (min(GENERATIONS_FIRST, most), most):
            end, first, last = _window(lines, cursor, size)
            begin = str(end.generation_id if end else uuid.UUID(int=0))
            span = {"first": first, "first_generation": begin, "last": last}
            found = _rows(_DOCUMENTS % _OF_GENERATIONS, {**values, **span})
            if end is None or len(found) > limit:
                break
        archived = _archived(_sample(lines, first, last))
    tops = _top_works(contributor_id, found)
    rows = [_row(row, tops) for row in found[:limit]]
    if len(found) > limit:
        return ReceiptPage(rows, _cursor_of(rows[-1]), False, archived)
    return ReceiptPage(rows, str(end) if end else "", end is not None, archived)


def _cursor_of(row: ReceiptRow) -> str:
    return str(Cursor(row.occurred_at, row.generation_id, row.revision))


def _archived(entries: Sequence[int]) -> list[int]:
    """List the months of those entries that lack documents: an archive took them after the close. Newest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT e.period_id FROM ledger_entry e WHERE e.id = ANY(%s::bigint[])"
            " AND e.n_docs > (SELECT count(*) FROM ledger_accrual d WHERE d.batch_id = e.batch_id) ORDER BY 1 DESC",
            [list(entries)],
        )
        return [int(row[0]) for row in cursor.fetchall()]


def _sample(lines: QuerySet[Line], first: datetime, last: datetime) -> list[int]:
    """List the first and last entry of each month earned in a span: an archive takes the documents of whole months."""
    months = lines.filter(
        entry__earned_period_id__gte=first.year * 100 + first.month,
        entry__earned_period_id__lte=last.year * 100 + last.month,
    ).values("entry__period_id", "entry__earned_period_id")
    bounds = months.annotate(low=Min("entry_id"), high=Max("entry_id")).values_list("low", "high")
    return sorted({number for pair in bounds for number in pair})


def _window(lines: QuerySet[Line], after: Cursor | None, size: int) -> tuple[Cursor | None, datetime, datetime]:
    """Return (end, first, last): the moments of the next `size` generations that may have a receipt.

    `end` is the cursor behind the window, None where no generation is left behind it.
    """
    earned = lines.aggregate(low=Min("entry__earned_period_id"), high=Max("entry__earned_period_id"))
    periods = Period.objects.in_bulk([earned["low"], earned["high"]])
    last = datetime.combine(periods[earned["high"]].ends, time.min, UTC)
    # The first period also takes the generations from before it.
    is_first = not Period.objects.filter(pk__lt=earned["low"]).exists()
    first = _EPOCH if is_first else datetime.combine(periods[earned["low"]].starts, time.min, UTC)
    found = Generation.objects.filter(occurred_at__gte=first, occurred_at__lt=last)
    if after is not None:
        last = min(last, after.occurred_at)
        found = found.filter(occurred_at__lte=after.occurred_at).exclude(
            occurred_at=after.occurred_at, pk__gt=after.generation_id
        )
    walked = found.order_by("-occurred_at", "-pk").values_list("occurred_at", "pk")
    bound = next(iter(walked[size - 1 : size]), None)
    if bound is None:
        return None, first, last
    return Cursor(bound[0], bound[1], -REVISION_MAX), bound[0], last


_OF_ENTRIES = "e.id = ANY(%(entries)s::bigint[])"
_OF_GENERATIONS = (
    "g.occurred_at <= %(last)s AND (g.occurred_at, g.id) >= (%(first)s::timestamptz, %(first_generation)s::uuid)"
    " AND (%(month)s::int IS NULL OR e.period_id = %(month)s)"
)
_DOCUMENTS = """
    SELECT e.id AS entry_id, e.period_id, a.generation_id, a.revision, g.occurred_at, s.name AS service,
           v.name AS model, c.code AS currency, mine.amount
    FROM attribution_generation g
    JOIN ledger_accrual a ON a.generation_id = g.id AND a.account_ids && %%(accounts)s::bigint[]
    JOIN ledger_entry e ON e.batch_id = a.batch_id
    CROSS JOIN LATERAL (
        SELECT sum(a.amounts[array_position(a.account_ids, own)])::bigint AS amount
        FROM unnest(%%(accounts)s::bigint[]) own
    ) mine
    JOIN ledger_account source ON source.id = a.source_id
    JOIN ledger_asset c ON c.id = source.asset_id
    JOIN attribution_modelservice s ON s.id = g.service_id
    JOIN attribution_modelversion v ON v.id = g.model_version_id
    WHERE %s
      AND (%%(at)s::timestamptz IS NULL
           OR (g.occurred_at, a.generation_id, a.revision)
              < (%%(at)s::timestamptz, %%(at_generation)s::uuid, %%(at_revision)s::int))
      AND (%%(model)s::uuid IS NULL OR v.public_id = %%(model)s::uuid)
      AND (%%(service)s::uuid IS NULL OR s.public_id = %%(service)s::uuid)
      AND (%%(work)s::bigint IS NULL OR EXISTS (
          SELECT FROM attribution_attribution t
          WHERE t.generation_id = a.generation_id AND t.revision = abs(a.revision)
            AND jsonb_path_exists(
                t.top_works, '$.*[*] ? (@[0] == $work)', jsonb_build_object('work', %%(work)s::bigint))
      ))
    ORDER BY g.occurred_at DESC, a.generation_id DESC, a.revision DESC
    LIMIT %%(limit)s"""


def _rows(statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _row(values: Mapping[str, Any], tops: Mapping[tuple[uuid.UUID, int], list[WorkScore]]) -> ReceiptRow:
    ranked = tops.get((values["generation_id"], abs(values["revision"])), [])
    return ReceiptRow(**values, top_work=ranked[0].work if ranked else None)


def _holders(contributor_id: int) -> QuerySet[Split, int]:
    return Split.objects.filter(contributor_id=contributor_id).values_list("holder_id", flat=True)


def holders_of(contributor_id: int) -> list[int]:
    """Every holder in which the contributor has or had a part."""
    return list(_holders(contributor_id).distinct().order_by("holder_id"))


def ranked_works(
    evidence: Mapping[str, Sequence[Sequence[float]]], holder_ids: Sequence[int]
) -> list[tuple[int, float]]:
    """(work id, score) of the holders' strongest works in one generation, strongest first, each work once.

    `evidence` is Attribution.top_works.
    """
    best: dict[int, float] = {}
    for holder_id in holder_ids:
        for work_id, score in evidence.get(str(holder_id), ()):
            best[int(work_id)] = max(score, best.get(int(work_id), score))
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))


def _top_works(contributor_id: int, found: Sequence[Mapping[str, Any]]) -> dict[tuple[uuid.UUID, int], list[WorkScore]]:
    """The contributor's strongest work in each of the generations."""
    holder_ids = holders_of(contributor_id)
    attributions = Attribution.objects.filter(generation_id__in={values["generation_id"] for values in found}).only(
        "generation_id", "revision", "top_works"
    )
    best = {(a.generation_id, a.revision): ranked_works(a.top_works, holder_ids)[:1] for a in attributions}
    works = Work.objects.in_bulk({work_id for ranked in best.values() for work_id, _ in ranked})
    return {
        key: [WorkScore(works[work_id], score) for work_id, score in ranked if work_id in works]
        for key, ranked in best.items()
    }


# --- what the filters offer ---------------------------------------------------------------------------------------
def months_of(contributor_id: int) -> list[int]:
    """The periods in which anything was posted to the contributor's accounts, newest first."""
    account_ids = [account.pk for account in accounts_of(contributor_id)]
    posted = Entry.objects.filter(lines__account_id__in=account_ids)
    return list(posted.values_list("period_id", flat=True).distinct().order_by("-period_id"))


def models_of(contributor_id: int) -> list[ModelVersion]:
    """The model versions that were trained on a work of the contributor."""
    trained = ModelVersion.objects.filter(manifest__works__work__holder__in=_holders(contributor_id))
    return list(trained.select_related("service").distinct().order_by("service__name", "name"))
