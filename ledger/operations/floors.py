"""The base pool at the close of a month: the part that influence did not decide goes by the plan's disclosed rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time

from django.db import connection, transaction

from contributors.queries.consents import consents_in_force
from contributors.queries.splits import split_of
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import EntryKind, FloorDistribution, Period, RoyaltyPlan
from ledger.money import PPB, apportion, tie_key

# A cluster's part is divided among its works in integers; this many parts divide by every small number of works.
CLUSTER_PARTS = 232_792_560
KEPT = 0


def distribute_floors(month: Period) -> list[FloorDistribution]:
    """Step 1 of a close: for each plan, the balance of its base pool at the end of the month is distributed.

    A contributor gets at most the plan's cap. The part above the cap, and a pool for which nobody qualifies, stays for
    the next month. Done once for each period and plan; returns the distributions of the period.
    """
    for plan_id, pool in sorted(pools_at_end(month).items()):
        if pool > 0 and not FloorDistribution.objects.filter(period=month, plan_id=plan_id).exists():
            _distribute(month, RoyaltyPlan.objects.get(pk=plan_id), pool)
    return list(FloorDistribution.objects.filter(period=month).order_by("plan_id"))


def pools_at_end(month: Period) -> dict[int, int]:
    """plan -> the balance of its pool in units at the end of the month, by the dates of entries."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT split_part(a.owner, ':', 2)::bigint, sum(l.amount)::bigint FROM ledger_account a"
            " JOIN ledger_line l ON l.account_id = a.id JOIN ledger_entry e ON e.id = l.entry_id"
            " WHERE a.kind = 'floor_pool' AND e.period_id <= %s GROUP BY 1",
            [month.pk],
        )
        return dict(cursor.fetchall())


def _distribute(month: Period, plan: RoyaltyPlan, pool: int) -> None:
    holders, generations = general_weights(month, plan, until=month)
    if plan.floor_rule == RoyaltyPlan.FloorRule.EQUAL:
        holders = equal_weights(month, models_of(month, plan))
    shared = share_out(month, plan, pool, holders)
    credited = shared.credited
    with transaction.atomic():
        entry_id = None
        if credited:
            account = AccountKey("floor_pool", plan.currency, f"plan:{plan.pk}")
            entry_id = journal.post(
                kind=EntryKind.DISTRIBUTE_FLOOR,
                idem_key=f"close:{month.pk}:{EntryKind.DISTRIBUTE_FLOOR}:{plan.pk}",
                effective=month.last_day,
                lines=[
                    (account, -sum(credited.values())),
                    *(
                        (AccountKey("contributor_accrued", plan.currency, f"contributor:{c}"), units)
                        for c, units in credited.items()
                    ),
                ],
                reference=f"base pool of {month}",
                rule_version=str(plan),
            ).entry_id
        FloorDistribution.objects.create(
            period=month,
            plan=plan,
            entry_id=entry_id,
            pool=pool,
            kept=pool - sum(credited.values()),
            n_generations=generations,
            contributor_ids=list(credited),
            weights_ppb=[shared.parts[c] for c in credited],
            amounts=list(credited.values()),
            kept_ppb=shared.kept_ppb,
        )


@dataclass(frozen=True, slots=True)
class Shared:
    """A base pool shared out: contributor -> parts of a billion after the cap, and units; the part of it that stays."""

    parts: dict[int, int]
    credited: dict[int, int]
    kept_ppb: int


def share_out(month: Period, plan: RoyaltyPlan, pool: int, holders: Mapping[int, int]) -> Shared:
    """Divide a pool, in units, by the weights of holders, under the plan's cap. Writes nothing."""
    shares, kept_ppb = _capped(month, plan, _of_contributors(holders, month))
    subject = f"floor:{month.pk}:{plan.pk}".encode()
    contributors = sorted(shares)
    amounts = apportion(
        pool,
        [*(shares[c] for c in contributors), kept_ppb],
        [tie_key(subject, number) for number in (*contributors, KEPT)],
    )
    credited = {c: units for c, units in zip(contributors, amounts, strict=False) if units}
    return Shared(shares, credited, kept_ppb)


def general_weights(month: Period, plan: RoyaltyPlan, *, until: Period) -> tuple[dict[int, int], int]:
    """Holder -> the sum of its general shares over the generations first accrued in the month, and their number.

    Each counts with the revision that stands at the end of `until`, and not at all where it was voided by then: a
    correction counts for the month in which its generation was first accrued, whenever it is posted.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH counted AS (
              SELECT generation_id, abs(revision) AS revision, sum(sign(revision))::bigint AS n
                FROM (SELECT d.generation_id, d.revision FROM ledger_entry e
                        JOIN ledger_accrual d ON d.batch_id = e.batch_id
                       WHERE e.period_id = %(month)s AND e.kind IN ('accrue', 'accrue_pool') AND d.plan_id = %(plan)s
                      UNION ALL
                      SELECT d.generation_id, d.revision {CORRECTIONS}) documents
               GROUP BY 1, 2)
            SELECT NULL, coalesce(sum(n), 0)::bigint FROM counted
            UNION ALL
            SELECT u.holder, sum(u.ppb * u.n) FROM (
              SELECT s.holder, s.ppb, c.n
                FROM counted c
                JOIN attribution_attribution a ON (a.generation_id, a.revision) = (c.generation_id, c.revision),
                     unnest(a.holder_ids, a.general_ppb) AS s(holder, ppb)
               WHERE c.n <> 0 AND a.general_id IS NULL
              UNION ALL
              -- General shares that stand once for many generations.
              SELECT s.holder, s.ppb, c.n
                FROM (SELECT a.general_id, sum(c.n)::bigint AS n
                        FROM counted c
                        JOIN attribution_attribution a ON (a.generation_id, a.revision) = (c.generation_id, c.revision)
                       WHERE c.n <> 0 AND a.general_id IS NOT NULL GROUP BY 1) c
                JOIN attribution_generalshares r ON r.id = c.general_id,
                     unnest(r.holder_ids, r.ppb) AS s(holder, ppb)) u
             WHERE u.ppb > 0 GROUP BY u.holder""",
            {"month": month.pk, "plan": plan.pk, "until": until.pk},
        )
        (_, generations), *rows = cursor.fetchall()
    return {holder: int(weight) for holder, weight in rows if weight > 0}, int(generations)


# Documents that restate or void, up to the end of a month, a generation that was first accrued in an earlier or the
# same one.
CORRECTIONS = """
    FROM ledger_entry e JOIN ledger_accrual d ON d.batch_id = e.batch_id
   WHERE e.period_id BETWEEN %(month)s AND %(until)s AND e.kind IN ('restate', 'void_generations')
     AND d.plan_id = %(plan)s
     AND EXISTS (SELECT FROM ledger_accrual first JOIN ledger_entry f ON f.batch_id = first.batch_id
                  WHERE first.generation_id = d.generation_id AND f.kind IN ('accrue', 'accrue_pool')
                    AND f.period_id = %(month)s)"""


def models_of(month: Period, plan: RoyaltyPlan) -> set[int]:
    """The model versions with generations that were accrued under the plan in the month."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT g.model_version_id FROM ledger_accrual d JOIN ledger_entry e ON e.batch_id = d.batch_id"
            " JOIN attribution_generation g ON g.id = d.generation_id WHERE e.period_id = %s AND d.plan_id = %s",
            [month.pk, plan.pk],
        )
        return {row[0] for row in cursor.fetchall()}


def equal_weights(month: Period, model_version_ids: Collection[int]) -> dict[int, int]:
    """Holder -> its part when every duplicate cluster with valid consent counts once.

    Counted are the works that the models of the month's generations were trained on, and that their owners still
    allow at its end; works of one cluster divide the cluster's part equally.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT w.id, w.holder_id, coalesce('c' || w.cluster_id, 'w' || w.id)
              FROM attribution_manifestwork m
              JOIN attribution_trainingmanifest t ON t.id = m.manifest_id
              JOIN contributors_work w ON w.id = m.work_id
             WHERE t.model_version_id = ANY(%s)""",
            [list(model_version_ids)],
        )
        works = cursor.fetchall()
    allowed = consents_in_force(work_ids=[work for work, _, _ in works], scope="train_generative", at=_end(month))
    clusters: dict[str, list[int]] = defaultdict(list)
    for work, holder, cluster in works:
        if work in allowed:
            clusters[cluster].append(holder)
    weights: dict[int, int] = defaultdict(int)
    for members in clusters.values():
        for holder in members:
            weights[holder] += CLUSTER_PARTS // len(members)
    return dict(weights)


def _end(month: Period) -> datetime:
    return datetime.combine(month.last_day, time.max, tzinfo=UTC)


def _of_contributors(holders: Mapping[int, int], month: Period) -> dict[int, int]:
    """Contributor -> weight, by the split sheets in force at the end of the month."""
    weights: dict[int, int] = defaultdict(int)
    sheets = split_of(holders, _end(month))
    for holder, weight in holders.items():
        for contributor, ppb in sheets.get(holder, ()):
            weights[contributor] += weight * ppb
    return dict(weights)


def _capped(month: Period, plan: RoyaltyPlan, weights: Mapping[int, int]) -> tuple[dict[int, int], int]:
    """(contributor -> parts of a billion after the cap, the part that stays in the pool)"""
    if not weights:
        return {}, PPB
    contributors = sorted(weights)
    subject = f"floor-shares:{month.pk}:{plan.pk}".encode()
    parts = apportion(PPB, [weights[c] for c in contributors], [tie_key(subject, c) for c in contributors])
    shares = {c: min(ppb, plan.cap_ppb) for c, ppb in zip(contributors, parts, strict=True)}
    return shares, PPB - sum(shares.values())
