"""Accrual: from attributions to documents, in batches.

Decides the arithmetic of one generation (see `divide`) and in which period it is posted. A generation that its plan
refuses is written down with the reason; nothing is skipped.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

import numpy as np
from django.db import connection, transaction

from contributors.models import Split
from contributors.queries import split_of
from ledger import journal
from ledger.journal import AccountKey, Document
from ledger.models import Accrual, EntryKind, Period, Refusal, RoyaltyPlan, SweepMark, period_of, utc_date
from ledger.money import PPB, apportion, apportion_rows, from_billionths, part, tie_key
from ledger.operations.periods import dated
from ledger.queries.contracts import Coverage, coverage

SWEEP_MAX = 1000
# Attributions are numbered before they are committed: a sweep looks this far back for numbers that came late.
SWEEP_OVERLAP = 5000
UNATTRIBUTED = 0


class UnableToAccrue(Exception):
    """The sweep cannot begin, or an attribution contradicts itself."""

    status = 409
    problem = "unable-to-accrue"


@dataclass(slots=True)
class _Case:
    """One attribution on its way to a document."""

    attribution_id: int
    generation_id: UUID
    revision: int
    index_id: int
    weight_ppb: int
    holder_ids: list[int]
    shares_ppb: list[int]
    unattributed_ppb: int
    general_ppb: list[int]
    general_unattributed_ppb: int
    occurred_at: datetime
    reported: int | None
    currency: str
    service_id: int
    plan_id: int | None
    gross: int = 0
    direct: int = 0
    take: int = 0
    # Holder -> units of the direct pool; (contributor, contract that covers the holder) -> units.
    holders: dict[int, int] = field(default_factory=dict)
    contributors: dict[tuple[int, str], int] = field(default_factory=dict)
    floor: int = 0


# An attribution whose generation falls under a period pool waits for the close, where its gross is known.
_CANDIDATES = """
SELECT a.id, a.generation_id, a.revision, a.index_id, a.weight_ppb, a.holder_ids, a.shares_ppb, a.unattributed_ppb,
       a.general_ppb, a.general_unattributed_ppb, g.occurred_at, g.gross, g.currency, g.service_id, p.id
  FROM attribution_attribution a
  JOIN attribution_generation g ON g.id = a.generation_id
  LEFT JOIN LATERAL (
    SELECT id, basis FROM ledger_royaltyplan
     WHERE currency = g.currency AND state = 'effective' AND effective_from <= g.occurred_at
     ORDER BY effective_from DESC LIMIT 1) p ON true
 WHERE a.id > %s AND p.basis IS DISTINCT FROM 'period_pool'
   AND NOT EXISTS (SELECT FROM ledger_accrual d WHERE d.generation_id = a.generation_id AND d.revision = a.revision)
   AND NOT EXISTS (SELECT FROM ledger_refusal r WHERE r.generation_id = a.generation_id AND r.revision = a.revision
                                                  AND r.withdrawn_at IS NULL)
   AND NOT EXISTS (SELECT FROM attribution_attribution n
                    WHERE n.generation_id = a.generation_id AND n.revision > a.revision)
 ORDER BY a.id LIMIT %s"""


def accrue(*, limit: int = SWEEP_MAX, at: datetime, full: bool = False) -> int:
    """Accrue up to `limit` attributions that have no accrual of their revision yet; returns how many were dealt with
    (accrued, restated, or refused with a reason). 0 says that none is left.

    One advisory lock lets one sweep run at a time. `full` looks at every attribution ever made, not only at those
    since the last sweep; the close of a period does so. Where an older revision is accrued, its document is reversed
    in the same entry.
    """
    if not 1 <= limit <= SWEEP_MAX:
        raise UnableToAccrue(f"A sweep takes 1 to {SWEEP_MAX} attributions, not {limit}.")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger accrue'))")
        dated(at)
        mark, _ = SweepMark.objects.get_or_create(name="accrue")
        cases = _candidates(0 if full else mark.value, limit)
        plans = {plan.pk: plan for plan in RoyaltyPlan.objects.filter(pk__in={c.plan_id for c in cases})}
        accepted = _refuse(cases, plans, at)
        _divide_all(accepted, plans)
        accepted = _split_all(accepted, at)
        _post_all(accepted, plans, at)
        if cases and not full:
            mark.value = max(mark.value, cases[-1].attribution_id - SWEEP_OVERLAP)
            mark.save(update_fields=["value"])
    return len(cases)


def withdraw_refusals(*, generation_ids: Sequence[UUID], at: datetime) -> int:
    """Let the next full sweep try refused generations again; returns how many refusals were withdrawn."""
    return Refusal.objects.filter(generation_id__in=generation_ids, withdrawn_at__isnull=True).update(withdrawn_at=at)


def _candidates(after: int, limit: int) -> list[_Case]:
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, [after, limit])
        return [_Case(*row) for row in cursor.fetchall()]


def _refuse(cases: Sequence[_Case], plans: dict[int, RoyaltyPlan], at: datetime) -> list[_Case]:
    """Record what the plans refuse; returns the rest with their gross."""
    accepted, refusals = [], []
    for case in cases:
        plan = plans.get(case.plan_id) if case.plan_id is not None else None
        reason, detail = _price(case, plan)
        if reason is None:
            accepted.append(case)
        else:
            refusals.append(_refusal(case, reason, detail, at))
    Refusal.objects.bulk_create(refusals)
    return accepted


def _refusal(case: _Case, reason: Refusal.Reason, detail: str, at: datetime) -> Refusal:
    return Refusal(
        generation_id=case.generation_id, revision=case.revision, reason=reason, detail=detail, plan_id=case.plan_id,
        refused_at=at,
    )  # fmt: skip


def _price(case: _Case, plan: RoyaltyPlan | None) -> tuple[Refusal.Reason | None, str]:
    """Set the case's gross, or say why the plan refuses it."""
    if plan is None:
        other = RoyaltyPlan.objects.filter(state=RoyaltyPlan.State.EFFECTIVE, effective_from__lte=case.occurred_at)
        if other.exists():
            return Refusal.Reason.CURRENCY_LACKING, f"No plan was in effect for {case.currency}."
        return Refusal.Reason.NO_PLAN, f"No plan was in effect at {case.occurred_at:%Y-%m-%d %H:%M} UTC."
    if plan.basis == RoyaltyPlan.Basis.PRICE:
        if case.reported is not None:
            return Refusal.Reason.GROSS_FORBIDDEN, f"{plan} sets the price of a generation itself."
        assert plan.price is not None
        case.gross = plan.price
        return None, ""
    if case.reported is None:
        return Refusal.Reason.GROSS_MISSING, f"{plan} shares the revenue of a generation."
    assert plan.rate_ppb is not None
    # Attribution knows no asset: it keeps what was reported in billionths of the currency, whichever that is.
    case.gross = part(from_billionths(case.reported, case.currency), plan.rate_ppb)
    if case.gross == 0:
        return Refusal.Reason.GROSS_TOO_SMALL, f"{plan} takes less than one unit of this revenue."
    return None, ""


# --- the arithmetic -----------------------------------------------------------------------------------------------
def _divide_all(cases: Sequence[_Case], plans: dict[int, RoyaltyPlan]) -> None:
    """Set take, direct pool, floor and each holder's credit.

        take   = floor(gross x take_ppb / 1e9)                    pool = gross - take
        floor  = floor(pool x floor_ppb / 1e9)
        direct = floor((pool - floor) x weight_ppb / 1e9)
        credits = largest remainder of direct over the shares of holders and of "unattributed"
        floor pool = pool - direct + the unattributed credit

    Generations of one index have the same holders, so their credits are divided as one matrix.
    """
    together: dict[tuple[int, ...], list[_Case]] = defaultdict(list)
    for case in cases:
        assert case.plan_id is not None
        plan = plans[case.plan_id]
        case.take = part(case.gross, plan.take_ppb)
        pool = case.gross - case.take
        case.direct = part(pool - part(pool, plan.floor_ppb), case.weight_ppb)
        case.floor = pool - case.direct
        if plan.general_ppb:
            _divide_blended(case, plan.general_ppb)
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


def _divide_blended(case: _Case, general_ppb: int) -> None:
    """As above where the plan pays part of the direct pool by general shares: one vector, so one division."""
    specific = [*case.shares_ppb, case.unattributed_ppb]
    general = [*case.general_ppb, case.general_unattributed_ppb]
    weights = [s * (PPB - general_ppb) + g * general_ppb for s, g in zip(specific, general, strict=True)]
    numbers = [*case.holder_ids, UNATTRIBUTED]
    units = apportion(case.direct, weights, [tie_key(case.generation_id.bytes, number) for number in numbers])
    case.floor += units[-1]
    case.holders = {holder: amount for holder, amount in zip(case.holder_ids, units, strict=False) if amount}


def _split_all(cases: Sequence[_Case], at: datetime) -> list[_Case]:
    """Holders' credits to contributors, by the split sheets in force when the generation occurred."""
    holder_ids = {holder for case in cases for holder in case.holders}
    changes = sorted(Split.objects.filter(holder_id__in=holder_ids).values_list("effective_from", flat=True).distinct())
    contracts = coverage(holder_ids)
    by_interval: dict[int, list[_Case]] = defaultdict(list)
    for case in cases:
        by_interval[bisect_right(changes, case.occurred_at)].append(case)
    kept, refusals = [], []
    for group in by_interval.values():
        # No sheet changes inside the interval, so that any of its moments stands for all.
        sheets = split_of(holder_ids, group[0].occurred_at)
        for case in group:
            lacking = [holder for holder in case.holders if holder not in sheets]
            if lacking:
                detail = f"Holder {lacking[0]} had no split at {case.occurred_at:%Y-%m-%d %H:%M} UTC."
                refusals.append(_refusal(case, Refusal.Reason.NO_SPLIT, detail, at))
            else:
                case.contributors = _split(case, sheets, contracts)
                kept.append(case)
    Refusal.objects.bulk_create(refusals)
    return kept


def _split(case: _Case, sheets: dict[int, list[tuple[int, int]]], contracts: Coverage) -> dict[tuple[int, str], int]:
    credited: dict[tuple[int, str], int] = defaultdict(int)
    day = utc_date(case.occurred_at)
    for holder, units in case.holders.items():
        sheet = sheets[holder]
        if len(sheet) == 1:
            credited[sheet[0][0], contracts.contract_of(sheet[0][0], holder, day)] += units
            continue
        keys = [tie_key(case.generation_id.bytes, contributor) for contributor, _ in sheet]
        for (contributor, _), share in zip(sheet, apportion(units, [p for _, p in sheet], keys), strict=True):
            if share:
                credited[contributor, contracts.contract_of(contributor, holder, day)] += share
    return dict(credited)


# --- posting ------------------------------------------------------------------------------------------------------
def _post_all(cases: Sequence[_Case], plans: dict[int, RoyaltyPlan], at: datetime) -> None:
    originals = _standing([case.generation_id for case in cases if case.revision > 1])
    groups: dict[tuple[EntryKind, str, int], list[_Case]] = defaultdict(list)
    for case in cases:
        kind = EntryKind.RESTATE if case.generation_id in originals else EntryKind.ACCRUE
        groups[kind, case.currency, period_of(utc_date(case.occurred_at))].append(case)
    for (kind, currency, month), group in sorted(groups.items()):
        effective, earned = _dates(month, at)
        numbers = _open_accounts(currency, group)
        documents = [_document(case, currency, numbers) for case in group]
        if kind == EntryKind.RESTATE:
            documents += [_opposite(originals[case.generation_id]) for case in group]
        versions = sorted({str(plans[case.plan_id]) for case in group if case.plan_id is not None})
        journal.post_accruals(
            kind=kind,
            idem_key=f"{kind}:{_key_of_pairs(group)}",
            effective=effective,
            earned_period=earned,
            documents=documents,
            reference=f"{len(group)} generation{'' if len(group) == 1 else 's'}",
            rule_version=", ".join(versions)[:60],
        )


def _key_of_pairs(cases: Sequence[_Case]) -> str:
    pairs = sorted((case.generation_id.bytes, case.revision) for case in cases)
    return hashlib.sha256(b"".join(g + r.to_bytes(4, "big") for g, r in pairs)).hexdigest()


def _standing(generation_ids: Sequence[UUID]) -> dict[UUID, Accrual]:
    """The accrual of each generation that is not reversed."""
    found = Accrual.objects.filter(generation_id__in=generation_ids).order_by("generation_id", "-revision")
    reversed_revisions = {(d.generation_id, -d.revision) for d in found if d.revision < 0}
    return {
        d.generation_id: d for d in found if d.revision > 0 and (d.generation_id, d.revision) not in reversed_revisions
    }


def _dates(month: int, at: datetime) -> tuple[date, int]:
    """(effective, earned period) of what was earned in a month: dated in it while it is open, later otherwise."""
    today = dated(at)
    earned = Period.objects.filter(pk=month).first()
    if earned is None:
        # Before the first period that was ever kept.
        return today, min(Period.objects.order_by("id").values_list("id", flat=True)[0], period_of(today))
    if earned.state == Period.State.OPEN:
        return min(max(today, earned.starts), earned.last_day), month
    return today, month


def _accrued(currency: str, contributor: int, contract: str) -> AccountKey:
    return AccountKey("contributor_accrued", currency, f"contributor:{contributor}", contract)


def _open_accounts(currency: str, cases: Sequence[_Case]) -> dict[AccountKey, int]:
    keys = {AccountKey("platform_fee", currency)}
    for case in cases:
        keys.add(AccountKey("service_unbilled", currency, f"service:{case.service_id}"))
        keys.add(AccountKey("floor_pool", currency, f"plan:{case.plan_id}"))
        keys.update(_accrued(currency, *credited) for credited in case.contributors)
    ordered = sorted(keys)
    return dict(zip(ordered, journal.open_accounts(ordered), strict=True))


def _document(case: _Case, currency: str, numbers: dict[AccountKey, int]) -> Document:
    assert case.plan_id is not None
    credits = {numbers[_accrued(currency, *credited)]: units for credited, units in case.contributors.items()}
    credits[numbers[AccountKey("platform_fee", currency)]] = case.take
    credits[numbers[AccountKey("floor_pool", currency, f"plan:{case.plan_id}")]] = case.floor
    credited = sorted((account, units) for account, units in credits.items() if units)
    return Document(
        generation_id=case.generation_id,
        revision=case.revision,
        plan_id=case.plan_id,
        source_id=numbers[AccountKey("service_unbilled", currency, f"service:{case.service_id}")],
        gross=case.gross,
        account_ids=[account for account, _ in credited],
        amounts=[units for _, units in credited],
    )


def _opposite(original: Accrual) -> Document:
    return Document(
        generation_id=original.generation_id,
        revision=-original.revision,
        plan_id=original.plan_id,
        source_id=original.source_id,
        gross=-original.gross,
        account_ids=original.account_ids,
        amounts=[-units for units in original.amounts],
    )
