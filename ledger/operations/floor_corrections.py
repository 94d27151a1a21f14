"""The base pools of closed months, after generations of theirs were restated or voided.

A closed month keeps its entries. The next close posts a difference: the base pool's division with the present facts,
less the original one. Some get more, some less, and the plan's pool bears the remainder. Money that a cap or a lack of
contributors kept in the pool is not taken out again; it is in the pool of the month that closes.
"""

from __future__ import annotations

from collections import defaultdict

from django.db import connection, transaction

from ledger import journal
from ledger.journal import AccountKey
from ledger.models import EntryKind, FloorCorrection, FloorDistribution, Period, RoyaltyPlan
from ledger.money import apportion, tie_key
from ledger.operations.floors import (
    CORRECTIONS,
    KEPT,
    equal_weights,
    general_weights,
    models_of,
    pools_at_end,
    share_out,
)


def correct_floors(month: Period) -> list[FloorCorrection]:
    """Before a month's own base pools are distributed: carry the differences that its corrections make in those of
    closed months. Done once for each closed month and plan; returns the corrections of the period."""
    for earned_id, plan_id in _touched(month):
        found = FloorCorrection.objects.filter(period=month, earned_period_id=earned_id, plan_id=plan_id)
        if not found.exists():
            _correct(month, Period.objects.get(pk=earned_id), RoyaltyPlan.objects.get(pk=plan_id))
    return list(FloorCorrection.objects.filter(period=month).order_by("earned_period_id", "plan_id"))


def _touched(month: Period) -> list[tuple[int, int]]:
    """(earlier month, plan) of the generations that were restated or voided in the month, by the month of their first
    accrual. The journal takes documents under any number of a plan; only plans have base pools.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT f.period_id, d.plan_id
              FROM ledger_entry e JOIN ledger_accrual d ON d.batch_id = e.batch_id
              JOIN ledger_accrual first ON first.generation_id = d.generation_id
              JOIN ledger_entry f ON f.batch_id = first.batch_id AND f.kind IN ('accrue', 'accrue_pool')
              JOIN ledger_royaltyplan p ON p.id = d.plan_id
             WHERE e.period_id = %s AND e.kind IN ('restate', 'void_generations') AND f.period_id < e.period_id
             ORDER BY 1, 2""",
            [month.pk],
        )
        return [(int(earned), int(plan)) for earned, plan in cursor.fetchall()]


def _correct(month: Period, earned: Period, plan: RoyaltyPlan) -> None:
    account = AccountKey("floor_pool", plan.currency, f"plan:{plan.pk}")
    holders, generations = general_weights(earned, plan, until=month)
    distributed = FloorDistribution.objects.filter(period=earned, plan=plan).first()
    before = distributed.pool if distributed else pools_at_end(earned).get(plan.pk, 0)
    pool = before + _brought(month, earned, plan, account)
    differences = defaultdict(int, _due(earned, plan, pool, holders, distributed))
    given = [distributed.credits] if distributed else []
    given += [earlier.credits for earlier in FloorCorrection.objects.filter(earned_period=earned, plan=plan)]
    for credits in given:
        for contributor, units in credits.items():
            differences[contributor] -= units
    changed = {contributor: units for contributor, units in sorted(differences.items()) if units}
    with transaction.atomic():
        entry_id = None
        if changed:
            left = sum(changed.values())
            entry_id = journal.post(
                kind=EntryKind.RESTATE_FLOOR,
                idem_key=f"close:{month.pk}:{EntryKind.RESTATE_FLOOR}:{earned.pk}:{plan.pk}",
                effective=month.last_day,
                earned_period=earned.pk,
                lines=[
                    *([(account, -left)] if left else []),
                    *(
                        (AccountKey("contributor_accrued", plan.currency, f"contributor:{c}"), units)
                        for c, units in changed.items()
                    ),
                ],
                reference=f"base pool of {earned} after corrections",
                rule_version=str(plan),
            ).entry_id
        FloorCorrection.objects.create(
            period=month,
            earned_period=earned,
            plan=plan,
            entry_id=entry_id,
            pool=pool,
            n_generations=generations,
            contributor_ids=list(changed),
            amounts=list(changed.values()),
        )


def _brought(month: Period, earned: Period, plan: RoyaltyPlan, account: AccountKey) -> int:
    """The gain of a closed month's base pool, or its loss, in units, by the corrections posted after that month."""
    (number,) = journal.open_accounts([account])
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT coalesce(sum(d.amounts[array_position(d.account_ids, %(account)s)]), 0)::bigint {CORRECTIONS}"
            " AND e.period_id > %(month)s",
            {"account": number, "month": earned.pk, "plan": plan.pk, "until": month.pk},
        )
        return int(cursor.fetchone()[0])


def _due(
    earned: Period, plan: RoyaltyPlan, pool: int, holders: dict[int, int], distributed: FloorDistribution | None
) -> dict[int, int]:
    """Contributor -> the pool's present credit in units."""
    if pool <= 0:
        return {}
    if plan.floor_rule == RoyaltyPlan.FloorRule.GENERAL:
        return share_out(earned, plan, pool, holders).credited
    if distributed is None:
        return share_out(earned, plan, pool, equal_weights(earned, models_of(earned, plan))).credited
    # By works, not by generations: the parts are those of the close, and only the pool is another.
    subject = f"floor:{earned.pk}:{plan.pk}".encode()
    numbers = [*distributed.contributor_ids, KEPT]
    weights = [*distributed.weights_ppb, distributed.kept_ppb]
    units = apportion(pool, weights, [tie_key(subject, number) for number in numbers])
    return dict(zip(distributed.contributor_ids, units, strict=False))
