"""A generation that cannot be attributed has a price, which the base pool gets, unless its plan leaves it free."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution.models import Attribution
from contributors.models import PPB
from ledger import division, journal
from ledger.division import Case
from ledger.journal import AccountKey
from ledger.models import Accrual, FloorDistribution, Period, PeriodPool, Refusal, RoyaltyPlan, Unaccrued
from ledger.operations import closing, corrections
from ledger.queries import books
from ledger.queries.invariants import check_all
from ledger.queries.receipt import divide, receipt_for_service
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import PRICE, World, build_world

pytestmark = pytest.mark.django_db
STARTS = datetime(2026, 10, 1, tzinfo=UTC)


def violations() -> list[Any]:
    return [(result.name, result.rows) for result in check_all() if result.rows]


def close(at: datetime = NOVEMBER) -> None:
    closing.close_period(period=202609, at=at)
    closing.close_period(period=202610, at=at)


def unbilled(world: World) -> int:
    return -journal.balance(AccountKey("service_unbilled", "USD", f"service:{world.service.pk}"))


def test_it_is_charged_and_its_price_less_the_take_goes_to_the_base_pool() -> None:
    world = build_world(OCTOBER)
    attributed, lost = world.generate(2)
    world.attribute([attributed])
    world.give_up([lost])
    assert world.accrue_all() == 2
    assert unbilled(world) == 2 * PRICE
    row = Accrual.objects.get(generation=lost)
    take = PRICE // 5
    assert sorted(row.amounts) == [take, PRICE - take]
    assert [(currency, n) for currency, n, _ in books.charged_to_the_base_pool(Period.objects.get(pk=202610))] == [
        ("USD", 1)
    ]
    found = receipt_for_service(lost.pk, world.service.pk)
    assert found is not None
    assert found.standing.state == "accrued"
    assert found.division is not None
    assert (found.division.direct, found.division.to_floor_pool, found.shares) == (0, PRICE - take, [])
    lost.refresh_from_db()
    assert (lost.state, lost.error) == ("unattributable", "The output is empty.")
    close()
    assert not Unaccrued.objects.exists()
    # Both count for the weights of the base pool, and all of it reaches the contributors.
    floor = FloorDistribution.objects.get(period=202610)
    assert (floor.n_generations, sum(floor.amounts) + floor.kept) == (2, floor.pool)
    assert violations() == []


def test_a_plan_may_leave_it_free() -> None:
    world = build_world(OCTOBER, plan=False)
    plan = world.adopt(unattributable="free", effective_from=STARTS)
    (lost,) = world.generate()
    world.give_up([lost])
    assert world.accrue_all() == 1
    assert not Accrual.objects.exists()
    refusal = Refusal.objects.get()
    assert (refusal.reason, refusal.detail) == (
        "not_charged",
        f"{plan} charges nothing for a generation that cannot be attributed.",
    )
    found = receipt_for_service(lost.pk, world.service.pk)
    assert found is not None
    assert found.standing.state == "unattributable"
    assert books.not_accrued(Period.objects.get(pk=202610)).unattributable == 1
    close()
    assert violations() == []


@pytest.mark.parametrize("choice", ["base_pool", "free"])
def test_a_pool_of_the_month_is_divided_with_it_or_without_it(choice: str) -> None:
    world = build_world(OCTOBER, plan=False)
    world.adopt(basis="period_pool", price=None, pool=900, effective_from=STARTS, unattributable=choice)
    made = world.generate(3)
    world.attribute(made[:2], weight_ppb=PPB)
    world.give_up(made[2:])
    world.accrue_all()
    close()
    grosses = {document.generation_id: document.gross for document in Accrual.objects.all()}
    pool = PeriodPool.objects.get(period=202610)
    if choice == "base_pool":
        assert (grosses, pool.n_generations) == (dict.fromkeys([row.pk for row in made], 300), 3)
    else:
        assert (grosses, pool.n_generations) == (dict.fromkeys([row.pk for row in made[:2]], 450), 2)
        world.at = NOVEMBER
        world.accrue_all()
        assert Refusal.objects.get().reason == "not_charged"
    assert violations() == []


def test_attributed_after_all_it_is_restated_and_voided_it_is_paid_back() -> None:
    world = build_world(OCTOBER)
    found_later, taken_back = world.generate(2)
    world.give_up([found_later, taken_back])
    world.accrue_all()
    world.attribute([found_later], revision=2, weight_ppb=PPB)
    type(found_later).objects.filter(pk=found_later.pk).update(state="attributed", error="")
    world.accrue_all()
    assert sum(world.balance("contributor_accrued", i) for i in range(3)) > 0
    corrections.void_generation(generation=taken_back, reason="refunded", at=OCTOBER)
    assert unbilled(world) == PRICE
    assert books.charged_to_the_base_pool(Period.objects.get(pk=202610)) == []
    close()
    assert violations() == []


def test_a_void_of_one_that_waits_takes_it_out_of_the_queue() -> None:
    world = build_world(OCTOBER)
    (waiting,) = world.generate()
    corrections.void_generation(generation=waiting, reason="test", detail="load test", at=OCTOBER)
    waiting.refresh_from_db()
    assert (waiting.state, waiting.error) == ("unattributable", "It was taken back before it was attributed.")
    found = receipt_for_service(waiting.pk, world.service.pk)
    assert found is not None
    assert found.standing.state == "voided"
    assert world.accrue_all() == 0
    assert books.not_accrued(Period.objects.get(pk=202610)).total == 0
    close()
    assert [row.reason for row in Unaccrued.objects.all()] == ["voided, test: load test"]
    assert violations() == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gross=st.integers(1, 2**62),
    take=st.integers(0, PPB - 1),
    floor=st.integers(0, PPB),
    general=st.sampled_from([0, 1, PPB // 3, PPB]),
    holders=st.integers(0, 5),
)
def test_every_unit_of_it_goes_to_the_platform_or_the_base_pool(
    of_nobody: Attribution, gross: int, take: int, floor: int, general: int, holders: int
) -> None:
    """By both ways of dividing: the one that posts, and the one of the receipt."""
    row = of_nobody
    row.holder_ids = list(range(1, holders + 1))
    row.shares_ppb = row.general_ppb = [0] * holders
    row.general_unattributed_ppb = PPB
    plan = RoyaltyPlan(pk=1, currency="USD", take_ppb=take, floor_ppb=floor, general_ppb=general)
    case = Case(
        1,
        row.generation_id,
        1,
        1,
        row.weight_ppb,
        row.holder_ids,
        row.shares_ppb,
        row.unattributed_ppb,
        row.general_ppb,
        row.general_unattributed_ppb,
        None,
        OCTOBER,
        None,
        "USD",
        1,
        None,
        True,
        1,
        gross=gross,
    )
    division.divide_all([case], {1: plan})
    assert (case.take + case.floor, case.direct, case.holders) == (gross, 0, {})
    second = divide(row, plan, gross)
    assert (second.take, second.to_floor_pool, sum(second.units)) == (case.take, case.floor, 0)


@pytest.fixture
def of_nobody() -> Attribution:
    world = build_world(OCTOBER)
    (row,) = world.give_up(world.generate())
    return row
