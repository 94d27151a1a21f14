"""Accrual: from attributions to documents, in batches.

Decides the period and the kind of a generation's posting; its division stands in ledger.division. A generation that its
plan refuses is written down with the reason; nothing is skipped.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Max

from attribution.models import Attribution
from ledger import division, journal
from ledger.division import Case
from ledger.documents import Document
from ledger.journal import AccountKey
from ledger.models import (
    Accrual,
    EntryKind,
    Period,
    Refusal,
    RoyaltyPlan,
    SweepMark,
    period_of,
    pool_owner,
    utc_date,
)
from ledger.operations.limits import check_limits
from ledger.operations.periods import dated
from people.operations import webhooks

SWEEP_MAX = 1000
# Attributions are numbered before they are committed: a sweep looks this far back for numbers that came late.
SWEEP_OVERLAP = 5000


class UnableToAccrue(Exception):
    """The sweep cannot begin, or documents that were posted are not in the database any more."""

    status = 409
    problem = "unable-to-accrue"


# An attribution of a generation under a period pool waits for the close, where its gross is known.
_CANDIDATES = f"""
SELECT {division.COLUMNS}, p.id
  FROM attribution_attribution a
  JOIN attribution_generation g ON g.id = a.generation_id
  LEFT JOIN ledger_poolpart part ON part.generation_id = g.id
  {division.PLAN_OF_GENERATION}
 WHERE a.id > %s AND (p.basis IS DISTINCT FROM 'period_pool' OR g.gross IS NOT NULL OR NOT EXISTS (
         SELECT FROM ledger_period m WHERE m.state IN ('open', 'closing')
            AND m.starts <= (g.occurred_at AT TIME ZONE 'UTC')::date
            AND m.ends > (g.occurred_at AT TIME ZONE 'UTC')::date))
   AND NOT EXISTS (SELECT FROM ledger_accrual d WHERE d.generation_id = a.generation_id AND d.revision = a.revision)
   AND NOT EXISTS (SELECT FROM ledger_refusal r WHERE r.generation_id = a.generation_id AND r.revision = a.revision
                                                  AND r.withdrawn_at IS NULL)
   AND {division.LATEST_NOT_VOID}
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
        hold_sweeps()
        dated(at)
        mark, _ = SweepMark.objects.get_or_create(name="accrue")
        newest = Attribution.objects.aggregate(Max("id"))["id__max"] or 0
        cases = _candidates(0 if full else mark.value, limit)
        plans = {plan.pk: plan for plan in RoyaltyPlan.objects.filter(pk__in={c.plan_id for c in cases})}
        accrued = divided(cases, plans, at)
        _post_all(accrued, plans, at)
        _tell(accrued, at)
        if accrued:
            check_limits(at=at, service_ids={case.service_id for case in accrued})
        if not full:
            seen = cases[-1].attribution_id if len(cases) == limit else newest
            mark.value = max(mark.value, seen - SWEEP_OVERLAP)
            mark.save(update_fields=["value"])
    return len(cases)


def _tell(cases: Sequence[Case], at: datetime) -> None:
    """Write the services' webhooks: the receipts that are new or have a new revision."""
    of: dict[str, list[dict[str, object]]] = defaultdict(list)
    for case in cases:
        of[f"service:{case.service_id}"].append({"generation": str(case.generation_id), "revision": case.revision})
    webhooks.emit_each(event="receipts.accrued", of={owner: {"receipts": rows} for owner, rows in of.items()}, at=at)


def hold_sweeps() -> None:
    """Keep every other sweep, approval of a plan and void out until commit."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger accrue'))")


def divided(cases: Sequence[Case], plans: Mapping[int, RoyaltyPlan], at: datetime) -> list[Case]:
    """The cases with their credits; those that their plan refuses are written down as refused, and left out."""
    accepted = _refuse(cases, plans, at)
    division.divide_all(accepted, plans)
    return _split_all(accepted, at)


def _candidates(after: int, limit: int) -> list[Case]:
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, [after, limit])
        return [Case(*row) for row in cursor.fetchall()]


def _refuse(cases: Sequence[Case], plans: Mapping[int, RoyaltyPlan], at: datetime) -> list[Case]:
    """Record the refusals of the plans; returns the other cases with their gross."""
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


def _refusal(case: Case, reason: Refusal.Reason, detail: str, at: datetime) -> Refusal:
    return Refusal(
        generation_id=case.generation_id,
        revision=case.revision,
        reason=reason,
        detail=detail,
        plan_id=case.plan_id,
        refused_at=at,
    )


def _price(case: Case, plan: RoyaltyPlan | None) -> tuple[Refusal.Reason | None, str]:
    if plan is not None:
        return division.price(case, plan)
    other = RoyaltyPlan.objects.filter(state=RoyaltyPlan.State.APPROVED, effective_from__lte=case.occurred_at)
    if other.exists():
        return Refusal.Reason.CURRENCY_LACKING, f"No plan was in effect for {case.currency}, the service and its model."
    return Refusal.Reason.NO_PLAN, f"No plan was in effect at {case.occurred_at:%Y-%m-%d %H:%M} UTC."


def _split_all(cases: Sequence[Case], at: datetime) -> list[Case]:
    """Holders' credits to contributors; a case without a split is refused."""
    kept, lacking = division.split_all(cases)
    Refusal.objects.bulk_create(_refusal(case, Refusal.Reason.NO_SPLIT, detail, at) for case, detail in lacking)
    return kept


# --- posting ------------------------------------------------------------------------------------------------------
def _post_all(cases: Sequence[Case], plans: Mapping[int, RoyaltyPlan], at: datetime) -> None:
    originals = standing([case.generation_id for case in cases if case.revision > 1])
    groups: dict[tuple[EntryKind, str, int], list[Case]] = defaultdict(list)
    for case in cases:
        assert case.plan_id is not None
        pooled = plans[case.plan_id].basis == RoyaltyPlan.Basis.PERIOD_POOL
        kind = EntryKind.ACCRUE_POOL if pooled else EntryKind.ACCRUE
        if case.generation_id in originals:
            kind = EntryKind.RESTATE
        groups[kind, case.currency, period_of(utc_date(case.occurred_at))].append(case)
    for (kind, currency, month), group in sorted(groups.items()):
        effective, earned = dates_of(month, at)
        documents = documents_of(currency, group, plans)
        if kind == EntryKind.RESTATE:
            documents += [opposite(originals[case.generation_id]) for case in group]
        posted = journal.post_accruals(
            kind=kind,
            idem_key=f"{kind}:{key_of_pairs(group)}",
            effective=effective,
            earned_period=earned,
            documents=documents,
            reference=f"{len(group)} generation{'' if len(group) == 1 else 's'}",
            rule_version=", ".join(sorted({str(plans[case.plan_id]) for case in group if case.plan_id}))[:60],
        )
        if posted.replayed:
            # They were candidates for want of the documents that this entry is for: every sweep would find them again.
            raise UnableToAccrue(
                f"Entry {posted.entry_id} lacks its documents: they were moved to an archive with those of its month. "
                "Attach that month again first."
            )


def key_of_pairs(cases: Sequence[Case]) -> str:
    pairs = sorted((case.generation_id.bytes, case.revision) for case in cases)
    return hashlib.sha256(b"".join(g + r.to_bytes(4, "big") for g, r in pairs)).hexdigest()


def standing(generation_ids: Sequence[UUID]) -> dict[UUID, Accrual]:
    """The accrual of each generation that is not reversed."""
    found = Accrual.objects.filter(generation_id__in=generation_ids).order_by("generation_id", "-revision")
    reversed_revisions = {(d.generation_id, -d.revision) for d in found if d.revision < 0}
    return {
        d.generation_id: d for d in found if d.revision > 0 and (d.generation_id, d.revision) not in reversed_revisions
    }


def dates_of(month: int, at: datetime) -> tuple[date, int]:
    """(effective, earned period) of a month's earnings: dated in it while it is open, later otherwise."""
    today = dated(at)
    earned = Period.objects.filter(pk=month).first()
    if earned is None:
        # Before the first period that was ever kept.
        return today, min(Period.objects.order_by("id").values_list("id", flat=True)[0], period_of(today))
    if earned.state == Period.State.OPEN:
        return min(max(today, earned.starts), earned.last_day), month
    return today, month


def source_of(case: Case, plan: RoyaltyPlan) -> AccountKey:
    """The account that is debited with the case's gross: the service, or the pool of the month in which it occurred."""
    if plan.basis == RoyaltyPlan.Basis.PERIOD_POOL:
        return AccountKey("royalty_pool", plan.currency, pool_owner(plan.pk, period_of(utc_date(case.occurred_at))))
    return AccountKey("service_unbilled", plan.currency, f"service:{case.service_id}")


def _accrued(currency: str, contributor: int, contract: str) -> AccountKey:
    return AccountKey("contributor_accrued", currency, f"contributor:{contributor}", contract)


def documents_of(currency: str, cases: Sequence[Case], plans: Mapping[int, RoyaltyPlan]) -> list[Document]:
    """The documents of divided cases; opens the accounts that they credit."""
    keys = {AccountKey("platform_fee", currency)}
    for case in cases:
        assert case.plan_id is not None
        keys.add(source_of(case, plans[case.plan_id]))
        keys.add(AccountKey("floor_pool", currency, f"plan:{case.plan_id}"))
        keys.update(_accrued(currency, *credited) for credited in case.contributors)
    ordered = sorted(keys)
    numbers = dict(zip(ordered, journal.open_accounts(ordered), strict=True))
    return [_document(case, plans, numbers) for case in cases]


def _document(case: Case, plans: Mapping[int, RoyaltyPlan], numbers: Mapping[AccountKey, int]) -> Document:
    assert case.plan_id is not None
    plan = plans[case.plan_id]
    credits = {numbers[_accrued(plan.currency, *credited)]: units for credited, units in case.contributors.items()}
    credits[numbers[AccountKey("platform_fee", plan.currency)]] = case.take
    credits[numbers[AccountKey("floor_pool", plan.currency, f"plan:{plan.pk}")]] = case.floor
    credited = sorted((account, units) for account, units in credits.items() if units)
    return Document(
        generation_id=case.generation_id,
        revision=case.revision,
        plan_id=plan.pk,
        source_id=numbers[source_of(case, plan)],
        gross=case.gross,
        account_ids=[account for account, _ in credited],
        amounts=[units for _, units in credited],
    )


def opposite(original: Accrual) -> Document:
    return Document(
        generation_id=original.generation_id,
        revision=-original.revision,
        plan_id=original.plan_id,
        source_id=original.source_id,
        gross=-original.gross,
        account_ids=original.account_ids,
        amounts=[-units for units in original.amounts],
    )
