"""Pools of a month: approved under four eyes or set by their plan, divided among the month's generations at its close.

Until the close a generation under a pool is attributed and its part only estimated: it depends on how many others the
month brings. The remainder of a pool (no generations, voided ones) goes into the plan's next pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any

from django.core.cache import cache
from django.db import connection, transaction
from django.urls import reverse
from redis import RedisError

from attribution.models import Generation
from ledger import division, journal
from ledger.division import Case
from ledger.journal import AccountKey
from ledger.models import (
    Account,
    EntryKind,
    Period,
    PeriodPool,
    PoolEstimate,
    RoyaltyPlan,
    period_of,
    pool_owner,
    utc_date,
)
from ledger.money import UNITS_MAX, asset
from ledger.operations.accruals import SWEEP_MAX, divided, documents_of, hold_sweeps, key_of_pairs
from ledger.operations.plans import plan_at
from ledger.queries.account_words import entry_link
from people.models import User
from people.operations.proposals import propose
from people.presentation import amounts, dates
from people.queries.proposals import ProposalKind

State = PeriodPool.State
ESTIMATE_SECONDS = 600


class UnableToProposePool(Exception):
    """The pool may not be proposed or approved: its plan, its month, four eyes or another pool stand against it."""

    status = 409
    problem = "pool-not-proposable"


def propose_pool(
    *, plan: RoyaltyPlan, period: Period, amount: int, by: User, at: datetime, note: str = ""
) -> PeriodPool:
    """Propose the amount that a plan divides in an open month, in units of its currency. Moves nothing until somebody
    else approves it; it then stands in place of the plan's own amount.

    Raises UnableToProposePool: the plan divides no pool or is not in effect in the month, the month is not open, it
    has a pool already, the amount is out of range.
    """
    if plan.basis != RoyaltyPlan.Basis.PERIOD_POOL:
        raise UnableToProposePool(f"{plan} divides no pool: its basis is {plan.get_basis_display()}.")
    if not 0 <= amount <= UNITS_MAX:
        raise UnableToProposePool("A pool is an amount of zero or more.")
    with transaction.atomic():
        hold_sweeps()
        _refuse_if_late(plan, period)
        if (other := _pool_of(plan, period)) is not None:
            raise UnableToProposePool(f"{plan} has a pool in {period} already: it is {other.standing[1].lower()}.")
        row = PeriodPool(plan=plan, period=period, amount=amount, note=note.strip(), proposed_by=by, proposed_at=at)
        return propose(KIND, row)


def _declare(pool: PeriodPool, by: User, at: datetime) -> dict[str, Any]:
    """Debit the pool to the programme or the plan's service; it waits for the close.

    Raises UnableToProposePool where the month is no longer open.
    """
    _refuse_if_late(pool.plan, pool.period)
    return {"entry_id": _post_pool(pool.plan, pool.period, pool.amount, at)}


def _pool_of(plan: RoyaltyPlan, period: Period) -> PeriodPool | None:
    return (
        PeriodPool.objects.filter(plan=plan, period=period).filter(state__in=[State.PROPOSED, State.APPROVED]).first()
    )


def _refuse_if_late(plan: RoyaltyPlan, period: Period) -> None:
    if plan.state != RoyaltyPlan.State.APPROVED or not _touches(plan, period):
        raise UnableToProposePool(f"{plan} is not in effect in {period}.")
    # Its month cannot begin to close meanwhile.
    journal.hold_still()
    if Period.objects.get(pk=period.pk).state != Period.State.OPEN:
        raise UnableToProposePool(f"Period {period} is no longer open.")


def _touches(plan: RoyaltyPlan, period: Period) -> bool:
    """Whether the plan is in effect at some moment of the month."""
    starts, ends = bounds(period)
    later = RoyaltyPlan.objects.filter(
        currency=plan.currency,
        service=plan.service_id,
        model_version=plan.model_version_id,
        state=RoyaltyPlan.State.APPROVED,
        effective_from__gt=plan.effective_from,
    )
    successor = later.order_by("effective_from").first()
    return plan.effective_from < ends and (successor is None or successor.effective_from > starts)


def bounds(period: Period) -> tuple[datetime, datetime]:
    """The first moment of a month and of the next one."""
    return datetime.combine(period.starts, time(), tzinfo=UTC), datetime.combine(period.ends, time(), tzinfo=UTC)


def _key(plan: RoyaltyPlan, period_id: int) -> AccountKey:
    return AccountKey("royalty_pool", plan.currency, pool_owner(plan.pk, period_id))


def _post_pool(plan: RoyaltyPlan, period: Period, amount: int, at: datetime) -> int | None:
    """The entry that makes the pool; None for a pool of nothing. It is dated in its own month."""
    if not amount:
        return None
    payer = AccountKey("programme_cost", plan.currency)
    if plan.pool_service_id is not None:
        payer = AccountKey("service_unbilled", plan.currency, f"service:{plan.pool_service_id}")
    return journal.post(
        kind=EntryKind.DECLARE_POOL,
        idem_key=f"declare_pool:{plan.pk}:{period.pk}",
        effective=min(max(at.astimezone(UTC).date(), period.starts), period.last_day),
        lines=[(payer, -amount), (_key(plan, period.pk), amount)],
        reference=f"pool of {plan} for {period}",
        rule_version=str(plan),
    ).entry_id


# --- at the close -------------------------------------------------------------------------------------------------
def plans_with_pool(period: Period) -> list[RoyaltyPlan]:
    """The plans in effect in a month that divide a pool."""
    plans = RoyaltyPlan.objects.filter(state=RoyaltyPlan.State.APPROVED, basis=RoyaltyPlan.Basis.PERIOD_POOL)
    return [plan for plan in plans.order_by("id") if _touches(plan, period)]


def pools_lacking(period: Period) -> list[str]:
    """The obstacles to the close of a month: generations wait for a pool that nobody declared, or a proposal for a
    second person.
    """
    found = []
    for plan in plans_with_pool(period):
        pool = _pool_of(plan, period)
        if pool is not None and pool.state == State.PROPOSED:
            found.append(f"The {pool} waits for a second person to approve or reject it.")
        elif pool is None and plan.pool is None and _waiting(plan, period):
            found.append(f"{plan} has generations in {period} and no pool: propose one, if of zero.")
    return found


def declare_own_pools(period: Period, at: datetime) -> None:
    """Before a month begins to close: the pools that plans declare themselves, and the remainders of earlier months."""
    for plan in plans_with_pool(period):
        with transaction.atomic():
            hold_sweeps()
            journal.hold_still()
            if Period.objects.get(pk=period.pk).state != Period.State.OPEN:
                return
            pool = _pool_of(plan, period)
            left = _left_over(plan, period)
            if pool is None and (plan.pool or left):
                amount = plan.pool or 0
                entry = _post_pool(plan, period, amount, at)
                PeriodPool.objects.create(
                    plan=plan, period=period, amount=amount, state=State.APPROVED, entry_id=entry, proposed_at=at
                )
            if left:
                journal.post(
                    kind=EntryKind.DECLARE_POOL,
                    idem_key=f"carry_pool:{plan.pk}:{period.pk}",
                    effective=period.last_day,
                    lines=[*((key, -units) for key, units in left), (_key(plan, period.pk), sum(u for _, u in left))],
                    reference=f"left over from earlier pools of {plan}",
                    rule_version=str(plan),
                )


def _left_over(plan: RoyaltyPlan, period: Period) -> list[tuple[AccountKey, int]]:
    """The balances, in units, of the plan's pools of earlier months that are divided."""
    accounts = Account.objects.filter(
        kind="royalty_pool", owner__startswith=f"plan:{plan.pk}:", asset__code=plan.currency
    ).exclude(balance__posted=0)
    found = [
        (AccountKey("royalty_pool", plan.currency, account.owner), account.balance.posted)
        for account in accounts.select_related("balance").order_by("id")
        if int(account.owner.rpartition(":")[2]) < period.pk
    ]
    # A pool with more accrued than it held (a refusal withdrawn late) is made up by the remainders of others.
    return found if sum(units for _, units in found) > 0 else []


# The generations that a pool is divided among; `parts` orders them by a digest that nobody chooses, and the first of
# that order get the units that do not divide: the largest remainder over equal weights, the same on every run.
_WAITING = f"""
  FROM attribution_generation g
  JOIN attribution_attribution a ON a.generation_id = g.id
  {division.PLAN_OF_GENERATION}
 WHERE g.occurred_at >= %(since)s AND g.occurred_at < %(until)s AND g.currency = %(currency)s AND g.gross IS NULL
   AND p.id = %(plan)s AND NOT (a.unattributable AND p.unattributable = 'free') AND {division.LATEST_NOT_VOID}
   AND NOT EXISTS (SELECT FROM ledger_accrual d WHERE d.generation_id = g.id)"""
_DIVIDE = f"""
INSERT INTO ledger_poolpart (generation_id, pool_id, gross)
SELECT id, %(pool)s, %(total)s / n + CASE WHEN place <= %(total)s %% n THEN 1 ELSE 0 END
  FROM (SELECT g.id, count(*) OVER () AS n, row_number() OVER (
               ORDER BY sha256(convert_to(%(subject)s, 'UTF8') || uuid_send(g.id))) AS place {_WAITING}) parts"""


def _waiting(plan: RoyaltyPlan, period: Period) -> int:
    since, until = bounds(period)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) {_WAITING}",
            {"since": since, "until": until, "currency": plan.currency, "plan": plan.pk},
        )
        return int(cursor.fetchone()[0])


def accrue_pools(month: Period, at: datetime) -> None:
    """In a month that is closing: fix each generation's part of its pool, then accrue the parts, a thousand at a time.
    Run again after a crash, it goes on; the parts stay as they were fixed."""
    pools = PeriodPool.objects.filter(period=month, state=State.APPROVED).select_related("plan").order_by("id")
    for pool in pools.filter(divided_at__isnull=True):
        _divide(pool, at)
    for pool in pools.filter(divided_at__isnull=False):
        while _accrue_chunk(pool, at):
            pass


def _divide(pool: PeriodPool, at: datetime) -> None:
    since, until = bounds(pool.period)
    with transaction.atomic():
        hold_sweeps()
        fresh = PeriodPool.objects.select_for_update(no_key=True, of=("self",)).get(pk=pool.pk)
        if fresh.state != State.APPROVED or fresh.divided_at is not None:
            return
        fresh.n_generations = _waiting(pool.plan, pool.period)
        fresh.carried = journal.balance(_key(pool.plan, pool.period_id)) - fresh.amount
        fresh.divided_at = at
        fresh.save(update_fields=["n_generations", "carried", "divided_at"])
        if not fresh.n_generations:
            return
        with connection.cursor() as cursor:
            cursor.execute(
                _DIVIDE,
                {
                    "since": since,
                    "until": until,
                    "currency": pool.plan.currency,
                    "plan": pool.plan_id,
                    "pool": pool.pk,
                    "total": fresh.total,
                    "subject": f"pool:{pool.plan_id}:{pool.period_id}:",
                },
            )


_CHUNK = f"""
SELECT {division.COLUMNS}, pool.plan_id
  FROM ledger_poolpart part
  JOIN ledger_periodpool pool ON pool.id = part.pool_id
  JOIN attribution_generation g ON g.id = part.generation_id
  JOIN attribution_attribution a ON a.generation_id = g.id
 WHERE part.pool_id = %s AND {division.LATEST_NOT_VOID}
   AND NOT EXISTS (SELECT FROM ledger_accrual d WHERE d.generation_id = g.id)
   AND NOT EXISTS (SELECT FROM ledger_refusal r WHERE r.generation_id = g.id AND r.revision = a.revision
                                                  AND r.withdrawn_at IS NULL)
 ORDER BY g.id LIMIT %s"""


def _accrue_chunk(pool: PeriodPool, at: datetime) -> int:
    plan = pool.plan
    with transaction.atomic():
        hold_sweeps()
        with connection.cursor() as cursor:
            cursor.execute(_CHUNK, [pool.pk, SWEEP_MAX])
            cases = [Case(*row) for row in cursor.fetchall()]
        accepted = divided(cases, {plan.pk: plan}, at)
        if accepted:
            journal.post_accruals(
                kind=EntryKind.ACCRUE_POOL,
                idem_key=f"accrue_pool:{pool.pk}:{key_of_pairs(accepted)}",
                effective=pool.period.last_day,
                earned_period=pool.period_id,
                documents=documents_of(plan.currency, accepted, {plan.pk: plan}),
                reference=f"{len(accepted)} generation{'' if len(accepted) == 1 else 's'} of the pool of {pool.period}",
                rule_version=str(plan),
            )
    return len(cases)


# --- until then ---------------------------------------------------------------------------------------------------
def estimate_pools(*, at: datetime) -> int:
    """Write down each contributor's share by attribution if the open months closed now; returns the number of standing
    estimates. Reads every attribution of the months under a pool once.
    """
    made = 0
    for period in Period.objects.filter(state=Period.State.OPEN).order_by("id"):
        for plan in plans_with_pool(period):
            made += _estimate(plan, period, at)
    PoolEstimate.objects.exclude(period__state=Period.State.OPEN).delete()
    return made


def expected_part(plan: RoyaltyPlan, period: Period) -> int:
    """The part, in units, that one generation of the month would get of its pool now."""
    count = _waiting(plan, period)
    return _expected_total(plan, period) // count if count else 0


def pool_among(plan: RoyaltyPlan, period: Period) -> tuple[int, int]:
    """The units that a plan's pool of a month divides, and among how many: as divided, or as expected now."""
    divided = PeriodPool.objects.filter(plan=plan, period=period, divided_at__isnull=False).first()
    if divided is not None:
        return divided.total, divided.n_generations or 0
    return _expected_total(plan, period), _waiting(plan, period)


def estimated_gross(*, generation: Generation) -> int | None:
    """A generation's part of its month's pool now, in units, up to ten minutes old; None where it is under no pool, or
    its month is no longer open.
    """
    at = generation.occurred_at
    plan = plan_at(
        currency=generation.currency,
        at=at,
        service_id=generation.service_id,
        model_version_id=generation.model_version_id,
    )
    if plan is None or plan.basis != RoyaltyPlan.Basis.PERIOD_POOL or generation.gross is not None:
        return None
    period = Period.objects.filter(pk=period_of(utc_date(at)), state=Period.State.OPEN).first()
    if period is None:
        return None
    key = f"pool-part:{plan.pk}:{period.pk}"
    try:
        part = cache.get(key)
        if part is None:
            part = expected_part(plan, period)
            cache.set(key, part, ESTIMATE_SECONDS)
    except RedisError:
        part = expected_part(plan, period)
    return int(part)


def _expected_total(plan: RoyaltyPlan, period: Period) -> int:
    pool = _pool_of(plan, period)
    amount = pool.amount if pool is not None else (plan.pool or 0)
    return amount + sum(units for _, units in _left_over(plan, period))


def _estimate(plan: RoyaltyPlan, period: Period, at: datetime) -> int:
    gross = expected_part(plan, period)
    since, until = bounds(period)
    amounts: dict[int, int] = {}
    counts: dict[int, int] = {}
    for page in division.pages_of(currency=plan.currency, since=since, until=until):
        cases = [case for case in page if case.plan_id == plan.pk and case.reported is None]
        for case in cases:
            case.gross = gross
        division.divide_all(cases, {plan.pk: plan})
        _add_up(division.split_all(cases)[0], amounts, counts)
    with transaction.atomic():
        hold_sweeps()
        PoolEstimate.objects.filter(plan=plan, period=period).delete()
        PoolEstimate.objects.bulk_create(
            PoolEstimate(
                plan=plan, period=period, contributor_id=c, amount=amounts[c], n_generations=counts[c], estimated_at=at
            )
            for c in sorted(amounts)
        )
    return len(amounts)


def _add_up(cases: Sequence[Case], amounts: dict[int, int], counts: dict[int, int]) -> None:
    for case in cases:
        for (contributor, _), units in case.contributors.items():
            amounts[contributor] = amounts.get(contributor, 0) + units
        for contributor in {contributor for contributor, _ in case.contributors}:
            counts[contributor] = counts.get(contributor, 0) + 1


KIND = ProposalKind(
    key="pool",
    model=PeriodPool,
    name="pool",
    heading="Pools of a month",
    mail="A pool waits for a second person",
    apply=_declare,
    lock=lambda row: hold_sweeps(),
    refusal=UnableToProposePool,
    unique="a_plan_has_one_pool_a_month",
    equal=lambda row: f"{row.plan} has a pool in {row.period} already.",
    title=lambda row: f"Pool of {row.plan} in {row.period.code}",
    summary=lambda row: amounts.text(row.amount, asset(row.plan.currency)),
    facts=lambda row: [
        ("Month", row.period.code),
        ("Amount", amounts.html(row.amount, asset(row.plan.currency))),
        ("Paid by", str(row.plan.pool_service or "the programme")),
        ("Divided", dates.moment_html(row.divided_at) if row.divided_at else ""),
        ("Note", row.note),
        ("Entry", entry_link(row.entry_id)),
    ],
    effect="It is debited to the payer at once, and divided when its month closes. It replaces the plan's own amount.",
    approved=lambda row: "Approved. The pool is divided when its month closes.",
    page=lambda row: reverse("ledger:plan", args=[row.plan_id]),
    parent=("Royalty plans", "ledger:plans"),
    subject=lambda row: f"plan:{row.plan_id}",
    fields=("pk", "period", "amount", "entry_id"),
    related=("plan__pool_service", "period"),
)
