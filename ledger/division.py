"""The division of generations: from attributions to credits, many at a time. Writes nothing.

Postings, previews and estimates come from here; a receipt redoes them by a second way (queries.receipt).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import numpy as np
from django.db import connection

from attribution.models import GeneralShares
from contributors.models import Split, SplitDispute
from contributors.queries.splits import split_of
from ledger.models import Refusal, RoyaltyPlan, utc_date
from ledger.money import PPB, apportion, apportion_rows, from_billionths, part, tie_key
from ledger.queries.contracts import Coverage, coverage

UNATTRIBUTED = 0
PAGE = 2000


@dataclass(slots=True)
class Case:
    """One attribution on its way to a document."""

    attribution_id: int
    generation_id: UUID
    revision: int
    model_version_id: int
    weight_ppb: int
    holder_ids: list[int]
    shares_ppb: list[int]
    unattributed_ppb: int
    general_ppb: list[int]
    general_unattributed_ppb: int
    # Rule 2: its general shares stand in a row of their own, and the two fields before are empty.
    general_id: int | None
    occurred_at: datetime
    reported: int | None
    currency: str
    service_id: int
    # Its part of a divided pool, where it has one.
    pool_part: int | None
    # It could not be measured: under most plans the base pool gets its price.
    unattributable: bool
    plan_id: int | None
    gross: int = 0
    direct: int = 0
    take: int = 0
    # Holder -> units of the direct pool; (contributor, contract that covers the holder) -> units.
    holders: dict[int, int] = field(default_factory=dict)
    contributors: dict[tuple[int, str], int] = field(default_factory=dict)
    floor: int = 0


# The columns of a Case but its plan; `a` is the attribution, `g` its generation, `part` its part of a pool.
COLUMNS = """a.id, a.generation_id, a.revision, g.model_version_id, a.weight_ppb, a.holder_ids, a.shares_ppb,
       a.unattributed_ppb, a.general_ppb, a.general_unattributed_ppb, a.general_id, g.occurred_at, g.gross, g.currency,
       g.service_id, part.gross, a.unattributable"""
# The most specific plan in force: of the model version, else of the service, else of all; of several the last to begin.
PLAN_OF_GENERATION = """LEFT JOIN LATERAL (
    SELECT id, basis, unattributable, num_nonnulls(service_id, model_version_id) AS specificity
      FROM ledger_royaltyplan
     WHERE currency = g.currency AND state = 'approved' AND effective_from <= g.occurred_at
       AND (service_id IS NULL OR service_id = g.service_id)
       AND (model_version_id IS NULL OR model_version_id = g.model_version_id)
     ORDER BY num_nonnulls(service_id, model_version_id) DESC, effective_from DESC LIMIT 1) p ON true"""
LATEST_NOT_VOID = """NOT EXISTS (SELECT FROM attribution_attribution n
                    WHERE n.generation_id = a.generation_id AND n.revision > a.revision)
   AND NOT EXISTS (SELECT FROM ledger_void v WHERE v.generation_id = a.generation_id)"""

_PAGE_OF_MONTH = f"""
SELECT {COLUMNS}, p.id
  FROM attribution_generation g
  JOIN attribution_attribution a ON a.generation_id = g.id
  LEFT JOIN ledger_poolpart part ON part.generation_id = g.id
  {PLAN_OF_GENERATION}
 WHERE g.occurred_at >= %(since)s AND g.occurred_at < %(until)s AND g.currency = %(currency)s
   AND (g.occurred_at, g.id) > (%(after_at)s, %(after_id)s) AND {LATEST_NOT_VOID}
 ORDER BY g.occurred_at, g.id LIMIT %(limit)s"""


def pages_of(*, currency: str, since: datetime, until: datetime) -> Iterator[list[Case]]:
    """The standing attributions of generations that occurred in [since, until), a page at a time, in their order."""
    after: tuple[datetime, UUID] = (since, UUID(int=0))
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                _PAGE_OF_MONTH,
                {
                    "since": since,
                    "until": until,
                    "currency": currency,
                    "after_at": after[0],
                    "after_id": after[1],
                    "limit": PAGE,
                },
            )
            cases = [Case(*row) for row in cursor.fetchall()]
        if not cases:
            return
        yield cases
        after = (cases[-1].occurred_at, cases[-1].generation_id)


def count_without_gross(*, plan: RoyaltyPlan, since: datetime, until: datetime) -> int:
    """How many of the generations that a plan would price (see `would_price`) were reported without a gross."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM attribution_generation g JOIN attribution_attribution a ON a.generation_id = g.id"
            f" {PLAN_OF_GENERATION}"
            " WHERE g.occurred_at >= %(since)s AND g.occurred_at < %(until)s AND g.currency = %(currency)s"
            " AND g.gross IS NULL AND coalesce(p.specificity, 0) <= %(specificity)s"
            " AND (%(service)s::bigint IS NULL OR g.service_id = %(service)s)"
            " AND (%(model)s::bigint IS NULL OR g.model_version_id = %(model)s)"
            f" AND {LATEST_NOT_VOID}",
            {
                "since": since,
                "until": until,
                "currency": plan.currency,
                "specificity": plan.specificity,
                "service": plan.service_id,
                "model": plan.model_version_id,
            },
        )
        return int(cursor.fetchone()[0])


def count_taken_over(*, proposal: RoyaltyPlan, plan: RoyaltyPlan, since: datetime, until: datetime) -> int:
    """How many generations without a gross a proposed plan would take over from one in effect (see `would_price`)."""
    if proposal.specificity < plan.specificity:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM attribution_generation g JOIN attribution_attribution a ON a.generation_id = g.id"
            f" {PLAN_OF_GENERATION} LEFT JOIN ledger_poolpart part ON part.generation_id = g.id"
            " WHERE g.occurred_at >= %(since)s AND g.occurred_at < %(until)s AND g.currency = %(currency)s"
            " AND g.gross IS NULL AND p.id = %(plan)s"
            " AND (%(service)s::bigint IS NULL OR g.service_id = %(service)s)"
            " AND (%(model)s::bigint IS NULL OR g.model_version_id = %(model)s)"
            # A divided pool has a part for each of its generations, and none for those that came later.
            " AND (part.generation_id IS NOT NULL OR NOT EXISTS (SELECT FROM ledger_periodpool d JOIN ledger_period m"
            "      ON m.id = d.period_id WHERE d.plan_id = p.id AND d.divided_at IS NOT NULL"
            "      AND m.starts <= (g.occurred_at AT TIME ZONE 'UTC')::date"
            "      AND m.ends > (g.occurred_at AT TIME ZONE 'UTC')::date))"
            f" AND {LATEST_NOT_VOID}",
            {
                "since": since,
                "until": until,
                "currency": plan.currency,
                "plan": plan.pk,
                "service": proposal.service_id,
                "model": proposal.model_version_id,
            },
        )
        return int(cursor.fetchone()[0])


def would_price(plan: RoyaltyPlan, case: Case, current: RoyaltyPlan | None) -> bool:
    """Whether a proposed plan, once in effect, prices the case in place of its `current` plan."""
    covered = plan.covers(service_id=case.service_id, model_version_id=case.model_version_id)
    return covered and (current is None or current.specificity <= plan.specificity)


def price(case: Case, plan: RoyaltyPlan) -> tuple[Refusal.Reason | None, str]:
    """Set the case's gross, or say why the plan refuses it. Under a pool the gross is the part that it was given."""
    if case.unattributable and plan.unattributable == RoyaltyPlan.Unattributable.FREE:
        return Refusal.Reason.NOT_CHARGED, f"{plan} charges nothing for a generation that cannot be attributed."
    if plan.basis != RoyaltyPlan.Basis.REVENUE_SHARE and case.reported is not None:
        return Refusal.Reason.GROSS_FORBIDDEN, f"{plan} sets the price of a generation itself."
    if plan.basis == RoyaltyPlan.Basis.PRICE:
        assert plan.price is not None
        case.gross = plan.price
        return None, ""
    if plan.basis == RoyaltyPlan.Basis.PERIOD_POOL:
        if case.pool_part is None:
            return Refusal.Reason.POOL_DIVIDED, f"{plan} had divided {case.occurred_at:%Y-%m} among others by then."
        case.gross = case.pool_part
        if case.gross == 0:
            return Refusal.Reason.GROSS_TOO_SMALL, f"{plan} had less than one unit for each generation of the month."
        return None, ""
    if case.reported is None:
        return Refusal.Reason.GROSS_MISSING, f"{plan} shares the revenue of a generation."
    assert plan.rate_ppb is not None
    # Attribution knows no asset: it keeps the reported revenue in billionths of its currency.
    case.gross = part(from_billionths(case.reported, case.currency), plan.rate_ppb)
    if case.gross == 0:
        return Refusal.Reason.GROSS_TOO_SMALL, f"{plan} takes less than one unit of this revenue."
    return None, ""


def divide_all(cases: Sequence[Case], plans: Mapping[int, RoyaltyPlan]) -> None:
    """Set take, direct pool, floor and each holder's credit.

        take   = floor(gross x take_ppb / 1e9)                    pool = gross - take
        floor  = floor(pool x floor_ppb / 1e9)
        direct = floor((pool - floor) x weight_ppb / 1e9)
        credits = largest remainder of direct over the shares of holders and of "unattributed"
        base pool = pool - direct + the unattributed credit

    Generations of one index have the same holders under rule 1, so their credits are divided as one matrix.
    """
    general = generals_of([case for case in cases if case.plan_id is not None and plans[case.plan_id].general_ppb])
    together: dict[tuple[int, ...], list[Case]] = defaultdict(list)
    for case in cases:
        assert case.plan_id is not None
        plan = plans[case.plan_id]
        case.take = part(case.gross, plan.take_ppb)
        pool = case.gross - case.take
        case.direct = part(pool - part(pool, plan.floor_ppb), case.weight_ppb)
        case.floor = pool - case.direct
        if plan.general_ppb:
            _divide_blended(case, plan.general_ppb, general)
        else:
            together[tuple(case.holder_ids)].append(case)
    for holder_ids, group in together.items():
        credits = apportion_rows(
            np.array([case.direct for case in group], dtype=np.int64),
            np.array([[*case.shares_ppb, case.unattributed_ppb] for case in group], dtype=np.int64),
            [case.generation_id.bytes for case in group],
            [*holder_ids, UNATTRIBUTED],
        )
        for case, row in zip(group, credits.tolist(), strict=True):
            case.floor += row[-1]
            case.holders = {holder: units for holder, units in zip(holder_ids, row[:-1], strict=True) if units}


General = tuple[dict[int, int], int]
"""General shares: holder -> parts per billion, and the unattributed part."""


def generals_of(cases: Collection[Case]) -> dict[int, General]:
    """Read the general shares of the cases under rule 2, by the id of their row: one for all of a revision."""
    wanted = {case.general_id for case in cases if case.general_id is not None}
    rows = GeneralShares.objects.filter(pk__in=wanted).values_list("pk", "holder_ids", "ppb", "unattributed_ppb")
    return {pk: (dict(zip(ids, ppb, strict=True)), nobody) for pk, ids, ppb, nobody in rows}


def general_of(case: Case, generals: Mapping[int, General]) -> General:
    """The general shares of a case, of its own row under rule 1."""
    if case.general_id is not None:
        return generals[case.general_id]
    return dict(zip(case.holder_ids, case.general_ppb, strict=True)), case.general_unattributed_ppb


def _divide_blended(case: Case, general_ppb: int, generals: Mapping[int, General]) -> None:
    """As above where the plan pays part of the direct pool by general shares: one vector, so one division."""
    general, nobody = general_of(case, generals)
    specific = dict(zip(case.holder_ids, case.shares_ppb, strict=True))
    numbers = [*sorted(general.keys() | specific.keys()), UNATTRIBUTED]
    specific[UNATTRIBUTED], general = case.unattributed_ppb, {**general, UNATTRIBUTED: nobody}
    weights = [specific.get(n, 0) * (PPB - general_ppb) + general.get(n, 0) * general_ppb for n in numbers]
    units = apportion(case.direct, weights, [tie_key(case.generation_id.bytes, number) for number in numbers])
    case.floor += units[-1]
    case.holders = {holder: amount for holder, amount in zip(numbers[:-1], units, strict=False) if amount}


# (holder, contributor) -> the accounts of the disputed parts of that share, each with its parts per billion.
Contested = dict[tuple[int, int], list[tuple[str, int]]]


def contested_parts(holder_ids: Collection[int]) -> Contested:
    """Map each co-author's share to its disputed parts. They are accrued apart and put on hold from there."""
    found: Contested = defaultdict(list)
    for dispute in SplitDispute.objects.filter(state="open", holder_id__in=holder_ids).order_by("id"):
        found[dispute.holder_id, dispute.against_id].append((dispute.account, dispute.ppb))
    return dict(found)


def split_all(cases: Sequence[Case]) -> tuple[list[Case], list[tuple[Case, str]]]:
    """Holders' credits to contributors, by the split sheets in force when the generation occurred. Returns the split
    cases, and the other cases, each with the reason.
    """
    holder_ids = {holder for case in cases for holder in case.holders}
    changes = sorted(Split.objects.filter(holder_id__in=holder_ids).values_list("effective_from", flat=True).distinct())
    contracts = coverage(holder_ids)
    contested = contested_parts(holder_ids)
    by_interval: dict[int, list[Case]] = defaultdict(list)
    for case in cases:
        by_interval[bisect_right(changes, case.occurred_at)].append(case)
    kept: list[Case] = []
    lacking: list[tuple[Case, str]] = []
    for group in by_interval.values():
        # No sheet changes inside the interval, so that any of its moments stands for all.
        sheets = split_of(holder_ids, group[0].occurred_at)
        for case in group:
            without = [holder for holder in case.holders if holder not in sheets]
            if without:
                lacking.append((case, f"Holder {without[0]} had no split at {case.occurred_at:%Y-%m-%d %H:%M} UTC."))
            else:
                case.contributors = _split(case, sheets, contracts, contested)
                kept.append(case)
    return kept, lacking


def _split(
    case: Case, sheets: dict[int, list[tuple[int, int]]], contracts: Coverage, contested: Contested
) -> dict[tuple[int, str], int]:
    credited: dict[tuple[int, str], int] = defaultdict(int)
    day = utc_date(case.occurred_at)
    for holder, units in case.holders.items():
        sheet = sheets[holder]
        parts = [units]
        if len(sheet) > 1:
            keys = [tie_key(case.generation_id.bytes, contributor) for contributor, _ in sheet]
            parts = apportion(units, [p for _, p in sheet], keys)
        for (contributor, ppb), share in zip(sheet, parts, strict=True):
            left = share
            for account, claimed in contested.get((holder, contributor), ()):
                held = min(left, share * claimed // ppb)
                if held:
                    credited[contributor, account] += held
                    left -= held
            if left:
                credited[contributor, contracts.contract_of(contributor, holder, day)] += left
    return dict(credited)
