"""Plans of one service or one model: the most specific plan in force prices a generation, however it is read."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from attribution.models import Attribution, Generation, ModelService, ModelVersion
from contributors.models import PPB
from ledger import division
from ledger.models import Accrual, Period, Refusal, RoyaltyPlan
from ledger.operations import closing, previews
from ledger.operations.periods import open_periods
from ledger.operations.plans import UnableToProposePlan, plan_at, propose_plan
from ledger.queries import books
from ledger.queries.invariants import check_all
from ledger.queries.receipt import _plan_of
from people.operations.proposals import UnableToDecide, approve
from tests.worlds.world import CENT, TERMS, World, build_world

pytestmark = pytest.mark.django_db


def models_of(world: World, at: datetime) -> list[ModelVersion]:
    """Two services with two models each; the world's own model is the first."""
    other = ModelService.objects.create(name="Painter", created_at=at)
    first = world.index.model_version
    made = [first]
    for service, name in ((world.service, "m2"), (other, "p1"), (other, "p2")):
        made.append(
            ModelVersion.objects.create(
                service=service,
                name=name,
                adapter="causal_lm",
                factory="demo",
                purpose="train_generative",
                checkpoint_sha256=bytes(32),
                trained_at=at - timedelta(days=50),
                created_at=at,
            )
        )
    return made


def report(world: World, version: ModelVersion, occurred_at: datetime) -> Generation:
    (made,) = world.generate(occurred_at=occurred_at)
    row = Generation(**{f.attname: getattr(made, f.attname) for f in Generation._meta.concrete_fields})
    row.id, row.external_id = Generation._meta.get_field("id").get_default(), f"{made.external_id}x"
    row.service_id, row.model_version_id = version.service_id, version.pk
    row.save(force_insert=True)
    return row


def brute_force(plans: list[RoyaltyPlan], generation: Generation) -> RoyaltyPlan | None:
    """Read the rule as it is said: the model's plans in force, else the service's, else the general ones; the last."""
    of_model = [p for p in plans if p.model_version_id == generation.model_version_id]
    of_service = [p for p in plans if p.model_version_id is None and p.service_id == generation.service_id]
    general = [p for p in plans if p.model_version_id is None and p.service_id is None]
    for candidates in (of_model, of_service, general):
        in_force = [p for p in candidates if p.effective_from <= generation.occurred_at]
        if in_force:
            return sorted(in_force, key=lambda p: p.effective_from)[-1]
    return None


@pytest.mark.parametrize("seed", range(5))
def test_the_price_is_the_most_specific_plan_s_by_every_way_of_reading(at: datetime, seed: int) -> None:
    chance = random.Random(seed)
    world = build_world(at, plan=False)
    models = models_of(world, at)
    scopes: list[dict[str, Any]] = [{}, {"service": models[0].service}, {"service": models[2].service}]
    scopes += [{"service": m.service, "model_version": m} for m in models[:3]]
    moments = sorted(chance.sample(range(1, 300), 4))
    plans: list[RoyaltyPlan] = []
    for number, hours in enumerate(moments):
        for scope in chance.sample(scopes, chance.randint(1, 4)):
            price = (1 + len(plans)) * CENT
            since = at - timedelta(hours=300 - hours)
            plans.append(world.adopt(effective_from=since, price=price, note=f"step {number}", **scope))
    generations = [
        report(world, chance.choice(models), at - timedelta(hours=chance.randint(1, 310))) for _ in range(40)
    ]
    world.attribute(generations)
    wanted = {g.pk: brute_force(plans, g) for g in generations}
    for generation in generations:
        plan = wanted[generation.pk]
        assert plan == plan_at(
            currency="USD",
            at=generation.occurred_at,
            service_id=generation.service_id,
            model_version_id=generation.model_version_id,
        )
        assert plan == _plan_of(generation)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT g.id, p.id FROM attribution_generation g {division.PLAN_OF_GENERATION}")
        read = dict(cursor.fetchall())
    assert {pk: read[pk] for pk in wanted} == {pk: plan and plan.pk for pk, plan in wanted.items()}
    world.accrue_all()
    accrued = {a.generation_id: (a.plan_id, a.gross) for a in Accrual.objects.all()}
    assert accrued == {pk: (plan.pk, plan.price) for pk, plan in wanted.items() if plan is not None}
    refused = set(Refusal.objects.values_list("generation_id", flat=True))
    assert refused == {pk for pk, plan in wanted.items() if plan is None}
    assert [result for result in check_all() if result.rows] == []


def test_a_plan_that_would_make_the_price_ambiguous_is_refused_when_it_is_proposed(at: datetime) -> None:
    world = build_world(at, plan=False)
    first, _, painter, _ = models_of(world, at)
    scope: dict[str, Any] = {"service": first.service, "model_version": first}
    world.adopt(effective_from=at, **scope)

    def propose(**terms: Any) -> RoyaltyPlan:
        return propose_plan(
            by=world.staff[0], currency="USD", effective_from=at, at=at, terms={**TERMS, "price": CENT, **terms}
        )

    with pytest.raises(UnableToProposePlan, match="takes effect at the same moment for only m1"):
        propose(**scope)
    with pytest.raises(UnableToProposePlan, match="no model of"):
        propose(service=first.service, model_version=painter)
    with pytest.raises(UnableToProposePlan, match="names its service"):
        propose(model_version=painter)
    propose(service=first.service)
    propose()


def test_the_database_keeps_a_model_with_its_service_and_one_plan_at_a_moment(at: datetime) -> None:
    world = build_world(at, plan=False)
    first, _, painter, _ = models_of(world, at)
    plan = world.adopt(effective_from=at, service=first.service)
    row = {f.attname: getattr(plan, f.attname) for f in RoyaltyPlan._meta.concrete_fields if f.name != "id"}
    row |= {"version": 9, "state": "proposed", "decided_by_id": None, "decided_at": None}
    with pytest.raises(IntegrityError, match="is no model of service"), transaction.atomic():
        RoyaltyPlan.objects.create(**{**row, "model_version_id": painter.pk})
    twin = RoyaltyPlan.objects.create(**row)
    with pytest.raises(IntegrityError, match="one_plan_takes_effect_at_a_moment"), transaction.atomic():
        RoyaltyPlan.objects.filter(pk=twin.pk).update(state="approved", decided_by=world.staff[1], decided_at=at)


def test_a_more_specific_plan_does_not_reach_back_over_accruals_and_a_general_one_passes_them(at: datetime) -> None:
    world = build_world(at)
    first = world.index.model_version
    world.adopt(effective_from=at - timedelta(hours=6), service=first.service, price=2 * CENT)
    world.attribute(world.generate(occurred_at=at - timedelta(hours=2)))
    world.accrue_all()
    with pytest.raises(UnableToDecide, match="accrued under another plan"):
        world.adopt(effective_from=at - timedelta(hours=3), service=first.service, model_version=first)
    # The service's own plan priced the generation and goes on to; a new general plan changes nothing about it.
    world.adopt(effective_from=at - timedelta(hours=3), price=7 * CENT)
    assert [result for result in check_all() if result.rows] == []


def test_a_generation_refused_under_one_plan_is_tried_again_under_its_own_new_one(at: datetime) -> None:
    world = build_world(at, plan=False)
    first = world.index.model_version
    world.adopt(basis="revenue_share", price=None, rate_ppb=PPB // 10)
    (made,) = world.generate(occurred_at=at - timedelta(hours=2))
    world.attribute([made])
    world.accrue_all()
    assert Refusal.objects.get(generation=made).reason == "gross_missing"
    plan = world.adopt(effective_from=at - timedelta(hours=3), service=first.service, price=2 * CENT)
    world.accrue_all()
    assert Accrual.objects.get(generation=made).plan == plan
    assert [result for result in check_all() if result.rows] == []


def test_a_preview_of_a_limited_plan_leaves_other_services_as_they_are(at: datetime) -> None:
    world = build_world(at)
    assert world.plan is not None
    models = models_of(world, at)
    for version in (models[0], models[0], models[2]):
        world.attribute([report(world, version, at - timedelta(hours=5))])
    plan = propose_plan(
        by=world.staff[0],
        currency="USD",
        effective_from=at,
        at=at,
        terms={**TERMS, "price": 2 * CENT, "service": models[2].service},
    )
    asked = previews.request_preview(plan=plan, period=books.period(202611), by=world.staff[0], at=at)  # type: ignore[arg-type]
    done = previews.compute_preview(preview=asked, at=at)
    price = world.plan.price or 0
    n = Attribution.objects.count()
    assert done.totals["gross"] == [n * price, (n - 1) * price + 2 * CENT]
    with pytest.raises(UnableToDecide):
        approve(plan, by=world.staff[0], at=at)


@pytest.mark.parametrize("is_divided", [False, True])
def test_a_limited_plan_s_preview_leaves_the_whole_pool_to_the_others(at: datetime, is_divided: bool) -> None:
    """Each side sums up to its pool: six generations share it today, and four once two have a price of their own."""
    world = build_world(at, plan=False)
    since, pool = at - timedelta(hours=6), 1_000_003
    world.adopt(effective_from=since, basis="period_pool", price=None, pool=pool)
    models = models_of(world, at)
    for version in (models[0], models[1], models[0], models[1], models[2], models[3]):
        world.attribute([report(world, version, at - timedelta(hours=5))])
    month, then = books.period(202611), at
    assert month is not None
    if is_divided:
        then = at + timedelta(days=35)
        open_periods(at=then)
        for number in Period.objects.filter(pk__lte=month.pk).order_by("id").values_list("id", flat=True):
            closing.close_period(period=number, at=then)
    plan = propose_plan(
        by=world.staff[0],
        currency="USD",
        effective_from=then,
        at=then,
        terms={**TERMS, "price": 2 * CENT, "service": models[2].service},
    )
    asked = previews.request_preview(plan=plan, period=month, by=world.staff[0], at=then)
    done = previews.compute_preview(preview=asked, at=then)
    whole = pool if is_divided else pool // 6 * 6
    assert done.totals["gross"] == [whole, pool + 2 * 2 * CENT]
    assert done.totals["refused"] == [0, 0]
