"""A pool for each month: declared, estimated until the month closes, divided among its generations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError, transaction
from django.test import override_settings

from contributors.models import PPB
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import Accrual, Entry, Period, PeriodPool, PoolEstimate, PoolPart, Refusal, RoyaltyPlan, Unaccrued
from ledger.operations import accruals, closing, pools
from ledger.operations import pools as pool_operations
from ledger.operations.closing import UnableToClose, close_period
from ledger.queries.invariants import check_all
from people.operations.proposals import UnableToDecide, approve, reject
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import World, build_world

pytestmark = pytest.mark.django_db
POOL = 1_000_000_007
STARTS = datetime(2026, 10, 1, tzinfo=UTC)


def build(*, pool: int | None = POOL, service: bool = False, contributors: int = 3) -> tuple[World, RoyaltyPlan]:
    world = build_world(OCTOBER, plan=False, contributors=contributors)
    terms: dict[str, Any] = {"basis": "period_pool", "price": None, "pool": pool, "effective_from": STARTS}
    if service:
        terms["pool_service"] = world.service
    plan = world.adopt(**terms)
    return world, plan


def october() -> Period:
    return Period.objects.get(pk=202610)


def close_october() -> Period:
    close_period(period=202609, at=NOVEMBER)
    return close_period(period=202610, at=NOVEMBER)


def left_in(plan: RoyaltyPlan, period: int = 202610) -> int:
    return journal.balance(AccountKey("royalty_pool", plan.currency, f"plan:{plan.pk}:{period}"))


def no_violations() -> bool:
    return not [(r.name, r.rows) for r in check_all() if r.rows]


def test_a_pool_is_divided_among_the_month_s_generations_to_the_last_unit(at: datetime) -> None:
    world, plan = build()
    world.attribute(world.generate(9), weight_ppb=PPB)
    assert world.accrue_all() == 0
    assert not Accrual.objects.exists()
    close_october()
    grosses = sorted(Accrual.objects.values_list("gross", flat=True))
    assert len(grosses) == 9
    assert sum(grosses) == POOL
    assert grosses[-1] - grosses[0] == 1
    assert left_in(plan) == 0
    assert journal.balance(AccountKey("programme_cost", "USD")) == -POOL
    take = sum(gross // 5 for gross in grosses)
    assert journal.balance(AccountKey("platform_fee", "USD")) == take
    assert sum(world.balance("contributor_payable", i) for i in range(3)) == POOL - take
    assert {e.kind for e in Entry.objects.filter(n_docs__gt=0)} == {"accrue_pool"}
    pool = PeriodPool.objects.get()
    assert (pool.state, pool.n_generations, pool.carried) == ("approved", 9, 0)
    assert no_violations()


def test_the_parts_of_a_pool_can_be_redone_from_the_ids_alone(at: datetime) -> None:
    """The units that do not divide go to the first by sha256 of the pool's name and the generation's number."""
    import hashlib

    world, plan = build()
    world.attribute(world.generate(11))
    close_october()
    parts = dict(PoolPart.objects.values_list("generation_id", "gross"))
    subject = f"pool:{plan.pk}:202610:".encode()
    order = sorted(parts, key=lambda pk: hashlib.sha256(subject + pk.bytes).digest())
    whole, rest = divmod(POOL, 11)
    assert [parts[pk] for pk in order] == [whole + 1] * rest + [whole] * (11 - rest)


def test_a_service_can_be_billed_for_the_pool(at: datetime) -> None:
    world, _ = build(service=True)
    world.attribute(world.generate(2))
    close_october()
    assert journal.balance(AccountKey("service_unbilled", "USD", f"service:{world.service.pk}")) == -POOL
    assert no_violations()


def test_a_pool_for_the_month_is_approved_by_two_people_and_stands_in_place_of_the_plan_s(at: datetime) -> None:
    world, plan = build()
    pool = pools.propose_pool(plan=plan, period=october(), amount=500, by=world.staff[0], at=OCTOBER, note="gala")
    with pytest.raises(UnableToDecide, match="somebody else"):
        approve(pool, by=world.staff[0], at=OCTOBER)
    with pytest.raises(pools.UnableToProposePool, match="has a pool in 2026-10 already"):
        pools.propose_pool(plan=plan, period=october(), amount=7, by=world.staff[0], at=OCTOBER)
    world.attribute(world.generate(3))
    with pytest.raises(UnableToClose, match="waits for a second person"):
        close_october()
    assert october().state == "open"
    approve(pool, by=world.staff[1], at=OCTOBER)
    with pytest.raises(UnableToDecide, match="approved already"):
        approve(pool, by=world.staff[1], at=OCTOBER)
    assert left_in(plan) == 500
    close_october()
    assert sum(Accrual.objects.values_list("gross", flat=True)) == 500


def test_a_rejected_pool_makes_room_for_another(at: datetime) -> None:
    world, plan = build()
    pool = pools.propose_pool(plan=plan, period=october(), amount=500, by=world.staff[0], at=OCTOBER)
    reject(pool, by=world.staff[1], at=OCTOBER)
    pools.propose_pool(plan=plan, period=october(), amount=600, by=world.staff[0], at=OCTOBER)
    assert not Entry.objects.exists()


def test_a_month_does_not_close_while_a_pool_is_lacking(at: datetime) -> None:
    world, plan = build(pool=None)
    world.attribute(world.generate(1))
    close_period(period=202609, at=NOVEMBER)
    with pytest.raises(UnableToClose, match="propose one"):
        close_period(period=202610, at=NOVEMBER)
    pool = pools.propose_pool(plan=plan, period=october(), amount=0, by=world.staff[0], at=NOVEMBER)
    approve(pool, by=world.staff[1], at=NOVEMBER)
    assert close_period(period=202610, at=NOVEMBER).state == "closed"
    assert Refusal.objects.get().reason == "gross_too_small"
    assert no_violations()


def test_a_pool_proposed_while_a_close_begins_keeps_the_month_open(
    at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, plan = build()
    world.attribute(world.generate(3))
    close_period(period=202609, at=NOVEMBER)
    looked = pool_operations.declare_own_pools

    def and_somebody_proposes(period: Period, at: datetime) -> None:
        pools.propose_pool(plan=plan, period=october(), amount=500, by=world.staff[0], at=OCTOBER)
        looked(period, at)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(closing, "declare_own_pools", and_somebody_proposes)
        with pytest.raises(UnableToClose, match="waits for a second person"):
            close_period(period=202610, at=NOVEMBER)
    assert october().state == "open"
    approve(PeriodPool.objects.get(), by=world.staff[1], at=OCTOBER)
    assert close_period(period=202610, at=NOVEMBER).state == "closed"
    assert sum(Accrual.objects.values_list("gross", flat=True)) == 500
    assert no_violations()


@pytest.mark.parametrize(
    ("change", "named"),
    [({"amount": -1}, "zero or more"), ({"amount": 2**63}, "zero or more"), ({"period": 202609}, "no longer open")],
)
def test_a_pool_that_cannot_be_is_refused(at: datetime, change: dict[str, int], named: str) -> None:
    world = build_world(OCTOBER, plan=False)
    plan = world.adopt(basis="period_pool", price=None, pool=POOL)
    close_period(period=202609, at=NOVEMBER)
    period = Period.objects.get(pk=change.get("period", 202610))
    with pytest.raises(pools.UnableToProposePool, match=named):
        pools.propose_pool(plan=plan, period=period, amount=change.get("amount", 5), by=world.staff[0], at=at)
    assert not PeriodPool.objects.filter(state="proposed").exists()


def test_only_a_plan_with_that_basis_divides_a_pool(at: datetime) -> None:
    world = build_world(OCTOBER)
    assert world.plan is not None
    with pytest.raises(pools.UnableToProposePool, match="divides no pool"):
        pools.propose_pool(plan=world.plan, period=october(), amount=5, by=world.staff[0], at=OCTOBER)


def test_a_pool_without_generations_goes_into_the_next_one(at: datetime) -> None:
    world, plan = build()
    close_october()
    assert left_in(plan) == POOL
    assert PeriodPool.objects.get(period_id=202610).n_generations == 0
    world.at = NOVEMBER
    world.attribute(world.generate(4))
    close_period(period=202611, at=datetime(2026, 12, 2, tzinfo=UTC))
    pool = PeriodPool.objects.get(period_id=202611)
    assert (pool.amount, pool.carried) == (POOL, POOL)
    assert sum(Accrual.objects.values_list("gross", flat=True)) == 2 * POOL
    assert left_in(plan) == left_in(plan, 202611) == 0
    assert no_violations()


def test_what_is_attributed_after_the_division_is_refused_with_the_reason(at: datetime) -> None:
    world, _ = build()
    late = world.generate(1)
    world.attribute(world.generate(2))
    close_october()
    assert Unaccrued.objects.get().generation_id == late[0].pk
    world.attribute(late)
    world.accrue_all()
    assert Refusal.objects.get().reason == "pool_divided"
    assert Accrual.objects.count() == 2
    assert no_violations()


def test_a_reported_gross_takes_no_part_in_a_pool(at: datetime) -> None:
    world, _ = build()
    world.attribute(world.generate(1, gross=5))
    world.attribute(world.generate(2))
    close_october()
    assert Refusal.objects.get().reason == "gross_forbidden"
    assert PoolPart.objects.count() == 2


@pytest.mark.parametrize("batches_done", range(1, 6))
def test_a_division_that_died_anywhere_goes_on_and_gives_the_same(
    at: datetime, monkeypatch: pytest.MonkeyPatch, batches_done: int
) -> None:
    monkeypatch.setattr(pool_operations, "SWEEP_MAX", 3)
    world, plan = build(contributors=5)
    world.attribute(world.generate(13))
    post, posted = journal.post_accruals, 0

    def dying_post(**arguments: Any) -> journal.Posted:
        nonlocal posted
        posted += 1
        if posted == batches_done:
            raise ConnectionError("killed")
        return post(**arguments)

    monkeypatch.setattr(journal, "post_accruals", dying_post)
    with pytest.raises(ConnectionError):
        close_october()
    assert october().state == "closing"
    parts = dict(PoolPart.objects.values_list("generation_id", "gross"))
    # An attribution during an interrupted close does not change the parts.
    world.attribute(world.generate(2))
    close_october()
    assert dict(PoolPart.objects.values_list("generation_id", "gross")) == parts
    assert dict(Accrual.objects.values_list("generation_id", "gross")) == parts
    assert sum(parts.values()) == POOL
    assert left_in(plan) == 0
    assert no_violations()


def test_a_restated_generation_keeps_its_part(at: datetime) -> None:
    world, plan = build()
    generations = world.generate(3)
    world.attribute(generations, shares=[PPB, 0, 0])
    close_october()
    world.at = NOVEMBER
    world.attribute(generations[:1], shares=[0, PPB, 0], revision=2)
    world.accrue_all()
    first, second = (Accrual.objects.get(generation=generations[0], revision=r) for r in (1, 2))
    assert first.gross == second.gross
    entry = Entry.objects.get(kind="restate")
    assert (entry.period_id, entry.earned_period_id) == (202611, 202610)
    assert left_in(plan) == 0
    assert no_violations()


def test_the_estimate_of_an_open_month_is_what_its_close_then_pays(at: datetime) -> None:
    world, plan = build(pool=900_000_000)
    world.attribute(world.generate(4), shares=[500_000_000, 300_000_000, 0], weight_ppb=PPB)
    world.attribute(world.generate(5), shares=[0, 250_000_000, 750_000_000], weight_ppb=PPB // 2)
    assert pools.expected_part(plan, october()) == 100_000_000
    assert pools.estimate_pools(at=OCTOBER) == 3
    estimated = dict(PoolEstimate.objects.values_list("contributor_id", "amount"))
    assert pools.estimate_pools(at=OCTOBER) == 3
    assert not Entry.objects.exists()
    close_october()
    credited = {
        c.pk: sum(
            line.amount
            for line in Entry.objects.get(kind="accrue_pool").lines.filter(account__owner=f"contributor:{c.pk}")
        )
        for c in world.contributors
    }
    assert credited == estimated
    pools.estimate_pools(at=NOVEMBER)
    assert not PoolEstimate.objects.filter(period_id=202610).exists()


def test_the_part_of_a_pool_is_shown_while_the_cache_does_not_answer(at: datetime) -> None:
    world, _ = build(pool=900_000_000)
    (generation, *_) = world.generate(9)
    world.attribute([generation], weight_ppb=PPB)
    gone = {**settings.CACHES["default"], "LOCATION": "unix:///nowhere/at/all.sock"}
    with override_settings(CACHES={"default": gone}):
        assert pools.estimated_gross(generation=generation) == 900_000_000


def test_the_database_refuses_parts_that_do_not_sum_and_a_pool_declared_by_one_person(at: datetime) -> None:
    world, plan = build()
    generations = world.generate(2)
    world.attribute(generations)
    close_october()
    pool = PeriodPool.objects.get()
    late = world.generate(1)
    with pytest.raises(DatabaseError, match="written once"), transaction.atomic():
        PoolPart.objects.create(generation=late[0], pool=pool, gross=1)
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        PoolPart.objects.update(gross=1)
    with pytest.raises(DatabaseError, match="cannot go from"), transaction.atomic():
        PeriodPool.objects.update(state="proposed")
    mine = pools.propose_pool(plan=plan, period=Period.objects.get(pk=202611), amount=5, by=world.staff[0], at=NOVEMBER)
    with pytest.raises(DatabaseError, match="a_periodpool_is_approved_by_somebody_else"), transaction.atomic():
        PeriodPool.objects.filter(pk=mine.pk).update(
            state="approved", decided_by=world.staff[0], decided_at=at, entry=pool.entry
        )


def test_a_sweep_moves_its_mark_past_what_waits_for_a_pool(at: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    from ledger.models import SweepMark

    monkeypatch.setattr(accruals, "SWEEP_OVERLAP", 0)
    world, _ = build()
    rows = world.attribute(world.generate(3))
    world.accrue_all()
    assert SweepMark.objects.get(name="accrue").value == rows[-1].pk
