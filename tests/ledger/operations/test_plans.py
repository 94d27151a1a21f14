from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contributors.models import PPB
from ledger import operations
from ledger.models import RoyaltyPlan
from ledger.operations import closing
from ledger.operations.plans import (
    UnableToProposePlan,
    plan_at,
    propose_plan,
)
from people.operations.proposals import UnableToDecide, approve, reject
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import PRICE, TERMS, World, build_world

pytestmark = pytest.mark.django_db


def propose(
    world: World, *, currency: str = "USD", effective_from: datetime | None = None, **terms: Any
) -> RoyaltyPlan:
    return propose_plan(
        by=world.staff[0],
        currency=currency,
        effective_from=effective_from or world.at,
        at=world.at,
        terms={**TERMS, **terms},
    )


def test_versions_count_up_in_each_currency(at: datetime) -> None:
    world = build_world(at, plan=False)
    plans = [propose(world), propose(world, effective_from=at + timedelta(days=1)), propose(world, currency="EUR")]
    assert [(p.currency, p.version, p.state) for p in plans] == [
        ("USD", 1, "proposed"),
        ("USD", 2, "proposed"),
        ("EUR", 1, "proposed"),
    ]


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ({"price": None}, "Plan has what its basis needs"),
        ({"basis": "revenue_share"}, "Plan has what its basis needs"),
        ({"basis": "period_pool"}, "Plan has what its basis needs"),
        ({"basis": "period_pool", "price": None, "pool": 0}, "Pool is positive"),
        ({"price": 0}, "Price is positive"),
        ({"basis": "revenue_share", "price": None, "rate_ppb": PPB + 1}, "Rate is a part of the whole"),
        ({"take_ppb": PPB}, "Take is a part of the whole"),
        ({"floor_ppb": -1}, "Floor is a part of the whole"),
        ({"cap_ppb": 0}, "Cap is a part of the whole"),
        ({"basis": "barter"}, "not a valid choice"),
        ({"wallet": 1}, "has no wallet"),
    ],
)
def test_terms_that_contradict_each_other_are_refused(at: datetime, terms: dict[str, Any], named: str) -> None:
    with pytest.raises(UnableToProposePlan, match=named):
        propose(build_world(at, plan=False), **terms)


def test_a_currency_that_the_ledger_lacks_is_refused(at: datetime) -> None:
    with pytest.raises(UnableToProposePlan, match="no currency"):
        propose(build_world(at, plan=False), currency="XYZ")


def test_a_plan_is_approved_by_somebody_else(at: datetime) -> None:
    world = build_world(at, plan=False)
    plan = propose(world)
    with pytest.raises(UnableToDecide, match="somebody else"):
        approve(plan, by=world.staff[0], at=at)
    adopted = approve(plan, by=world.staff[1], at=at)
    assert (adopted.state, adopted.decided_by, adopted.decided_at) == ("approved", world.staff[1], at)
    with pytest.raises(UnableToDecide, match="approved already"):
        approve(plan, by=world.staff[1], at=at)


def test_a_generation_falls_under_the_plan_in_effect_when_it_occurred(at: datetime) -> None:
    world = build_world(at)
    later = world.adopt(effective_from=at, price=2 * PRICE)
    assert plan_at(currency="USD", at=at - timedelta(microseconds=1)) == world.plan
    assert plan_at(currency="USD", at=at) == later
    assert plan_at(currency="USD", at=at - timedelta(days=400)) is None
    assert plan_at(currency="EUR", at=at) is None


def test_old_periods_keep_their_plan(at: datetime) -> None:
    world = build_world(OCTOBER)
    closing.close_period(period=202609, at=NOVEMBER)
    closing.close_period(period=202610, at=NOVEMBER)
    with pytest.raises(UnableToDecide, match="old periods keep their plan"):
        world.adopt(effective_from=OCTOBER)


def test_a_plan_of_a_time_before_the_books_began_does_not_reach_over_closed_periods(at: datetime) -> None:
    world = build_world(OCTOBER, plan=False)
    world.attribute(world.generate())
    world.accrue_all()
    for month in (202609, 202610):
        closing.close_period(period=month, at=NOVEMBER)
    with pytest.raises(UnableToDecide, match="Period 2026-09 is closed; old periods keep their plan"):
        world.adopt(effective_from=datetime(2025, 1, 1, tzinfo=UTC))
    world.adopt(effective_from=datetime(2026, 11, 1, tzinfo=UTC))


def test_a_plan_does_not_reach_back_over_what_is_accrued_nor_before_a_later_one(at: datetime) -> None:
    world = build_world(at)
    world.attribute(world.generate(occurred_at=at - timedelta(hours=2)))
    world.accrue_all()
    with pytest.raises(UnableToDecide, match="accrued under another plan"):
        world.adopt(effective_from=at - timedelta(hours=3))
    world.adopt(effective_from=at)
    with pytest.raises(UnableToDecide, match="approved already"):
        world.adopt(effective_from=at - timedelta(hours=1))
    with pytest.raises(UnableToProposePlan, match="same moment"):
        world.adopt(effective_from=at)


def test_a_rejected_plan_stays_on_record_and_takes_no_effect(at: datetime) -> None:
    world = build_world(at, plan=False)
    plan = propose(world)
    rejected = reject(plan, by=world.staff[1], at=at)
    assert (rejected.state, rejected.decided_by) == ("rejected", world.staff[1])
    with pytest.raises(UnableToDecide, match="is rejected"):
        approve(plan, by=world.staff[1], at=at)
    with pytest.raises(UnableToDecide, match="rejected already"):
        reject(plan, by=world.staff[1], at=at)
    assert propose(world).version == 2


def test_no_term_of_a_plan_goes_unread(at: datetime) -> None:
    """An index's terms (noise floor, weight, method) are the index's; a plan that carried them would promise them."""
    fields = {field.name for field in RoyaltyPlan._meta.concrete_fields}
    assert set(operations.plans.TERMS) <= fields
    assert not fields & {"attributor", "noise_z", "weight_low", "weight_high"}
    with pytest.raises(UnableToProposePlan, match="has no noise_z"):
        propose(build_world(at, plan=False), noise_z=2.0)
