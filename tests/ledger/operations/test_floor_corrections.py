"""The base pools of closed months after restatements and voids: as if the close had known, to the last unit."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution.models import Attribution, ManifestWork, TrainingManifest
from contributors.models import PPB, Split
from contributors.operations.consents import grant_consent
from contributors.operations.works import NewWork, register_dataset, register_works
from ledger import journal
from ledger.models import Accrual, Entry, FloorCorrection, FloorDistribution, Line, Period, Void
from ledger.money import apportion, tie_key, whole_minor
from ledger.operations import closing, corrections, payouts
from ledger.operations.floor_corrections import correct_floors
from ledger.queries import receipt
from ledger.queries.invariants import check_all
from ledger.statements.build import build_statement
from tests.worlds.pages import text_of
from tests.worlds.programme import Programme
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import PRICE, World, build_world

pytestmark = pytest.mark.django_db
POOL = PRICE * 4 // 5
DECEMBER = datetime(2026, 12, 2, tzinfo=UTC)
JANUARY = datetime(2027, 1, 2, tzinfo=UTC)


def close(*months: int, at: datetime) -> None:
    for month in months:
        closing.close_period(period=month, at=at)


def october(world: World, n: int = 4, **attributed: Any) -> list[Any]:
    """Make `n` generations with the base pool as their whole pool, all of it the first contributor's; October
    closed."""
    made = world.generate(n)
    world.attribute(made, general=[PPB, 0, 0], weight_ppb=0, **attributed)
    close(202609, 202610, at=NOVEMBER)
    world.at = NOVEMBER
    return made


def restate(world: World, generations: list[Any], **attributed: Any) -> None:
    world.attribute(generations, **{"weight_ppb": 0, "revision": 2, **attributed})
    assert world.accrue_all() == len(generations)


def of_floor(world: World) -> list[int]:
    """Return each contributor's part of all base pools together, corrections included."""
    kinds = ("distribute_floor", "restate_floor")
    return [
        sum(
            Line.objects.filter(entry__kind__in=kinds, account__owner=f"contributor:{c.pk}").values_list(
                "amount", flat=True
            )
        )
        for c in world.contributors
    ]


def no_violations() -> bool:
    return not [(r.name, r.rows) for r in check_all() if r.rows]


def test_a_restated_generation_takes_its_part_of_the_closed_month_s_floor_pool_with_it() -> None:
    world = build_world(OCTOBER)
    made = october(world)
    assert of_floor(world) == [4 * POOL, 0, 0]
    restate(world, made[:1], general=[0, 0, PPB])
    close(202611, at=DECEMBER)
    assert of_floor(world) == [3 * POOL, 0, POOL]
    entry = Entry.objects.get(kind="restate_floor")
    assert (entry.period_id, entry.earned_period_id, f"{entry.effective}") == (202611, 202610, "2026-11-30")
    found = FloorCorrection.objects.get()
    assert (found.pool, found.n_generations, found.entry) == (4 * POOL, 4, entry)
    assert found.credits == {world.contributors[0].pk: -POOL, world.contributors[2].pk: POOL}
    assert [world.balance("contributor_payable", i) for i in range(3)] == [3 * POOL, 0, POOL]
    assert journal.balance(world.floor) == 0
    # The month that carried the difference had no pool of its own.
    assert list(FloorDistribution.objects.values_list("period_id", flat=True)) == [202610]
    assert no_violations()


def test_the_open_month_s_own_pool_goes_by_its_own_generations_alone() -> None:
    world = build_world(OCTOBER)
    made = october(world)
    restate(world, made[:1], general=[0, 0, PPB])
    world.attribute(world.generate(2), general=[0, PPB, 0], weight_ppb=0)
    close(202611, at=DECEMBER)
    assert of_floor(world) == [3 * POOL, 2 * POOL, POOL]
    own = FloorDistribution.objects.get(period_id=202611)
    assert (own.n_generations, own.credits) == (2, {world.contributors[1].pk: 2 * POOL})


def test_a_voided_generation_gives_its_part_of_the_closed_month_s_floor_pool_back() -> None:
    world = build_world(OCTOBER)
    made = october(world)
    corrections.void_generation(generation=made[0], reason="refunded", at=NOVEMBER)
    world.attribute(world.generate(1), general=[0, PPB, 0], weight_ppb=0)
    close(202611, at=DECEMBER)
    # Not at the cost of the contributors that share in November's pool.
    assert of_floor(world) == [3 * POOL, POOL, 0]
    assert journal.balance(world.floor) == 0
    assert (FloorCorrection.objects.get().pool, FloorCorrection.objects.get().n_generations) == (3 * POOL, 3)
    assert no_violations()


def test_what_was_paid_out_of_the_floor_pool_is_owed_back_after_a_restatement() -> None:
    world = build_world(OCTOBER)
    made = october(world)
    due = whole_minor(world.balance("contributor_payable"), "USD")
    payouts.reserve_payout(
        contributor_id=world.contributors[0].pk,
        currency="USD",
        gross=due,
        tax=0,
        rail="stripe",
        attempt_key="p",
        at=NOVEMBER,
    )
    restate(world, made, general=[0, PPB, 0])
    close(202611, at=DECEMBER)
    assert of_floor(world) == [0, 4 * POOL, 0]
    assert world.balance("contributor_receivable") == -due
    assert world.balance("contributor_payable", 1) == 4 * POOL
    assert no_violations()


def test_an_index_that_passes_its_audit_later_takes_the_direct_part_out_of_the_floor_pool() -> None:
    world = build_world(OCTOBER)
    made = october(world, shares=[0, PPB, 0])
    restate(world, made[:2], shares=[0, PPB, 0], general=[PPB, 0, 0], weight_ppb=PPB)
    close(202611, at=DECEMBER)
    # Of two generations only the plan's base part, a fifth, is left to the base pool.
    assert of_floor(world) == [2 * POOL + 2 * (POOL // 5), 0, 0]
    assert world.balance("contributor_payable", 1) == 2 * (POOL - POOL // 5)
    assert journal.balance(world.floor) == 0
    assert no_violations()


def test_a_month_without_a_floor_pool_gets_one_by_a_restatement() -> None:
    world = build_world(OCTOBER, plan=False)
    world.plan = world.adopt(floor_ppb=0)
    made = world.generate(1)
    world.attribute(made, shares=[PPB, 0, 0], general=[PPB, 0, 0], weight_ppb=PPB)
    close(202609, 202610, at=NOVEMBER)
    assert not FloorDistribution.objects.exists()
    world.at = NOVEMBER
    restate(world, made, shares=[PPB, 0, 0], general=[0, PPB, 0])
    close(202611, at=DECEMBER)
    assert of_floor(world) == [0, POOL, 0]
    assert no_violations()


def test_what_a_cap_keeps_goes_into_the_pool_of_the_month_that_closes() -> None:
    world = build_world(OCTOBER, plan=False)
    world.plan = world.adopt(cap_ppb=PPB // 4)
    made = october(world)
    assert of_floor(world) == [POOL, 0, 0]
    assert journal.balance(world.floor) == 3 * POOL
    restate(world, made[:2], general=[0, 0, PPB])
    close(202611, at=DECEMBER)
    # A quarter each, and half of it kept: a quarter less than before is in the next pool.
    assert of_floor(world) == [POOL, 0, POOL]
    assert journal.balance(world.floor) == 2 * POOL
    assert FloorDistribution.objects.get(period_id=202611).pool == 2 * POOL
    assert no_violations()


def test_under_the_equal_rule_a_restatement_changes_the_pool_and_not_the_parts() -> None:
    world = build_world(OCTOBER, plan=False, contributors=3)
    world.plan = world.adopt(currency="EUR", basis="revenue_share", price=None, rate_ppb=PPB, floor_rule="equal")
    _train_on_a_work_each(world)
    made = world.generate(3, currency="EUR", gross=5 * 10**9)
    world.attribute(made, general=[PPB, 0, 0], weight_ppb=0)
    close(202609, 202610, at=NOVEMBER)
    world.at = NOVEMBER
    before = of_floor(world)
    assert len({*before}) <= 2
    assert sum(before) == 12 * 10**9
    restate(world, made[:1], general=[0, 0, PPB])
    close(202611, at=DECEMBER)
    assert of_floor(world) == before
    assert FloorCorrection.objects.get().entry is None
    world.at = DECEMBER
    corrections.void_generation(generation=made[0], reason="test", at=DECEMBER)
    close(202612, at=JANUARY)
    assert sum(of_floor(world)) == 8 * 10**9
    # Parts of a billion: three of them differ by one, which is eight units of this pool.
    assert max(of_floor(world)) - min(of_floor(world)) == 8
    assert no_violations()


def _train_on_a_work_each(world: World) -> None:
    long_before = world.at - timedelta(days=50)
    manifest = TrainingManifest.objects.create(
        model_version=world.index.model_version, sha256=bytes(32), n_items=3, n_works=3, created_at=world.at
    )
    for n, contributor in enumerate(world.contributors):
        dataset = register_dataset(contributor=contributor, name="d", description="", licence="CC0", at=long_before)
        consent = grant_consent(
            contributor=contributor,
            scope="train_generative",
            valid_from=long_before,
            by=world.users[0],
            source="portal",
            at=long_before,
        )
        new = NewWork(title=f"w{n}", modality="text", content=f"{n} and its own ".encode() * 200, published_on=None)
        (work,) = register_works(dataset=dataset, works=[new], at=long_before)
        ManifestWork.objects.create(manifest=manifest, work=work, consent=consent)


def test_a_close_that_corrected_does_so_once_and_later_ones_only_what_is_new() -> None:
    world = build_world(OCTOBER)
    made = october(world)
    restate(world, made[:1], general=[0, 0, PPB])
    close(202611, at=DECEMBER)
    november = Period.objects.get(pk=202611)
    before = Entry.objects.count()
    assert len(correct_floors(november)) == 1
    world.at = DECEMBER
    restate(world, made[1:2], general=[0, PPB, 0])
    restate(world, made[:1], general=[PPB, 0, 0], revision=3)
    close(202612, at=JANUARY)
    assert of_floor(world) == [3 * POOL, POOL, 0]
    assert FloorCorrection.objects.count() == 2
    assert Entry.objects.filter(kind="restate_floor").count() == 2
    assert Entry.objects.count() > before
    assert no_violations()


# --- any history --------------------------------------------------------------------------------------------------
def from_scratch(world: World) -> dict[int, int]:
    """contributor -> its part of the base pools, had every close known the present facts: divided here by hand."""
    plan = world.plan
    assert plan is not None
    holder_of = dict(Split.objects.values_list("holder_id", "contributor_id"))
    void = set(Void.objects.values_list("generation_id", flat=True))
    months: dict[int, list[Any]] = defaultdict(list)
    for generation in world.generations:
        home = Entry.objects.get(
            batch_id=Accrual.objects.get(generation=generation, revision=1).batch_id, kind="accrue"
        ).period_id
        if generation.pk not in void:
            months[home].append(generation)
    due: dict[int, int] = defaultdict(int)
    for month, generations in months.items():
        pool, weights = 0, dict.fromkeys([c.pk for c in world.contributors], 0)
        for generation in generations:
            last = Attribution.objects.filter(generation=generation).order_by("-revision")[0]
            division = receipt.divide(last, plan, PRICE)
            pool += division.to_floor_pool
            for holder, ppb in zip(last.holder_ids, last.general_ppb, strict=True):
                weights[holder_of[holder]] += ppb * PPB
        numbers = sorted(c for c, weight in weights.items() if weight)
        keys = [tie_key(f"floor-shares:{month}:{plan.pk}".encode(), c) for c in numbers]
        parts = apportion(PPB, [weights[c] for c in numbers], keys)
        keys = [tie_key(f"floor:{month}:{plan.pk}".encode(), c) for c in (*numbers, 0)]
        for contributor, units in zip(numbers, apportion(pool, [*parts, 0], keys), strict=False):
            due[contributor] += units
    return {c.pk: due[c.pk] for c in world.contributors}


vector = (
    st.tuples(st.integers(0, PPB), st.integers(0, PPB))
    .map(lambda ab: [*sorted(ab), PPB])
    .map(lambda cut: [cut[0], cut[1] - cut[0], cut[2] - cut[1]])
)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    first=st.lists(vector, min_size=4, max_size=4),
    later=st.lists(
        st.tuples(st.integers(0, 3), vector, st.sampled_from([0, PPB // 3, PPB]), st.booleans()), min_size=1, max_size=6
    ),
    voided=st.sets(st.integers(0, 3), max_size=3),
)
def test_whatever_was_restated_or_voided_the_floor_pools_come_to_the_same_as_from_scratch(
    first: list[list[int]], later: list[tuple[int, list[int], int, bool]], voided: set[int]
) -> None:
    """Two generations of October, two of November; corrections in each month; nothing is left in the pool."""
    with transaction.atomic():
        world = build_world(OCTOBER)
        revisions = [1] * 4
        for n in (0, 1):
            world.attribute(world.generate(1), general=first[n], weight_ppb=0)
        close(202609, 202610, at=NOVEMBER)
        world.at = NOVEMBER
        for n in (2, 3):
            world.attribute(world.generate(1), general=first[n], weight_ppb=PPB // 2)
        world.accrue_all()
        now_closed = False
        for place, general, weight, close_first in later:
            if close_first and not now_closed:
                close(202611, at=DECEMBER)
                world.at, now_closed = DECEMBER, True
            revisions[place] += 1
            restate(world, [world.generations[place]], general=general, weight_ppb=weight, revision=revisions[place])
        for place in sorted(voided):
            corrections.void_generation(generation=world.generations[place], reason="test", at=world.at)
        close(202611, 202612, at=JANUARY)
        assert dict(zip([c.pk for c in world.contributors], of_floor(world), strict=True)) == from_scratch(world)
        assert journal.balance(world.floor) == 0
        assert no_violations()
        transaction.set_rollback(True)


# --- pages --------------------------------------------------------------------------------------------------------
def test_statement_and_period_page_say_that_a_floor_pool_was_shared_out_anew(programme: Programme) -> None:
    programme.attribute(programme.generate(2), scores=[0.5, 0.3125, 0.1875], weight_ppb=0)
    programme.close()
    corrections.void_generation(generation=programme.generations[0], reason="test", at=NOVEMBER)
    close(202611, at=DECEMBER)
    page = text_of(programme.staff_client("auditor").get("/console/periods/2026-11/").content)
    assert "Base pools of earlier months, shared out anew" in page
    made = build_statement(contributor=programme.contributors[0], period=Period.objects.get(pk=202611))
    line = next(line for line in made.pots[0].lines if line.kind == "floor_restated")
    assert line.amount < 0
    assert line.label.startswith("Base pools of earlier periods, shared out anew")
