"""A proposed plan's effect on a month: both sides exact, nothing written but the preview itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from contributors.models import PPB
from ledger import division
from ledger.models import Entry, Period, PlanPreview, RoyaltyPlan
from ledger.operations import closing, plans, previews
from people.operations.proposals import approve
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import PRICE, TERMS, World, build_world

pytestmark = pytest.mark.django_db


def propose(world: World, **terms: Any) -> RoyaltyPlan:
    return plans.propose_plan(
        by=world.staff[0],
        currency="USD",
        effective_from=datetime(2026, 12, 1, tzinfo=UTC),
        at=NOVEMBER,
        terms={**TERMS, **terms},
    )


def preview(world: World, plan: RoyaltyPlan, period: int = 202610) -> PlanPreview:
    asked = previews.request_preview(plan=plan, period=Period.objects.get(pk=period), by=world.staff[0], at=NOVEMBER)
    return previews.compute_preview(preview=asked, at=NOVEMBER)


def october(**terms: Any) -> World:
    world = build_world(OCTOBER, plan=False)
    world.plan = world.adopt(**terms)
    world.attribute(world.generate(5), shares=[600_000_000, 300_000_000, 0], general=[0, 0, PPB])
    world.attribute(world.generate(2), shares=[0, 0, PPB], general=[PPB // 2, PPB // 2, 0], weight_ppb=PPB)
    closing.close_period(period=202609, at=NOVEMBER)
    closing.close_period(period=202610, at=NOVEMBER)
    return world


@pytest.mark.parametrize(
    "terms", [{}, {"cap_ppb": PPB // 3}, {"general_ppb": PPB // 4, "take_ppb": 123_456_789}, {"floor_ppb": PPB}]
)
def test_the_side_of_the_plan_in_effect_is_what_the_month_s_close_paid(at: datetime, terms: dict[str, Any]) -> None:
    world = october(**terms)
    found = preview(world, propose(world, price=2 * PRICE))
    paid = {c.pk: world.balance("contributor_payable", i) for i, c in enumerate(world.contributors)}
    assert dict(zip(found.contributor_ids, found.before, strict=True)) == {c: u for c, u in paid.items() if u}
    assert found.totals["gross"] == [7 * PRICE, 14 * PRICE]
    assert sum(found.before) == found.totals["contributors"][0]
    assert found.totals["take"][0] + sum(found.before) + found.totals["floor_kept"][0] == 7 * PRICE


def test_the_side_of_the_proposal_is_what_it_then_pays(at: datetime) -> None:
    """The same generations a month later, under the proposal in effect."""
    world = october()
    proposal = propose(world, take_ppb=PPB // 10, general_ppb=PPB // 2, cap_ppb=PPB // 2)
    found = preview(world, proposal)
    approve(proposal, by=world.staff[1], at=NOVEMBER)
    other = build_world(datetime(2026, 12, 20, tzinfo=UTC), plan=False)
    other.attribute(other.generate(5), shares=[600_000_000, 300_000_000, 0], general=[0, 0, PPB])
    other.attribute(other.generate(2), shares=[0, 0, PPB], general=[PPB // 2, PPB // 2, 0], weight_ppb=PPB)
    for period in (202611, 202612):
        closing.close_period(period=period, at=datetime(2027, 1, 2, tzinfo=UTC))
    after = dict(zip(found.contributor_ids, found.after, strict=True))
    for i, c in enumerate(world.contributors):
        # Remainders are broken by the number of the generation, which is another one: a unit each.
        assert abs(after[c.pk] - other.balance("contributor_payable", i)) <= 14


def test_a_preview_writes_nothing_but_itself_and_can_be_asked_for_again(at: datetime) -> None:
    world = october()
    proposal = propose(world, price=3 * PRICE)
    before = Entry.objects.count()
    first = preview(world, proposal)
    assert Entry.objects.count() == before
    assert previews.compute_preview(preview=first, at=at).computed_at == first.computed_at
    again = preview(world, proposal)
    assert (again.pk != first.pk, again.after) == (True, first.after)
    waiting = previews.request_preview(
        plan=proposal, period=Period.objects.get(pk=202610), by=world.staff[0], at=NOVEMBER
    )
    assert previews.request_preview(plan=proposal, period=waiting.period, by=world.staff[1], at=NOVEMBER) == waiting
    assert previews.compute_waiting_previews(at=NOVEMBER) == 1
    approve(proposal, by=world.staff[1], at=NOVEMBER)
    proposal.refresh_from_db()
    with pytest.raises(previews.UnableToPreview, match="only a proposal"):
        preview(world, proposal)


def test_a_month_is_read_a_page_at_a_time_and_comes_to_the_same(at: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    world = october()
    proposal = propose(world, basis="period_pool", price=None, pool=1_000_003)
    whole = preview(world, proposal)
    monkeypatch.setattr(division, "PAGE", 2)
    in_pages = preview(world, proposal)
    assert (whole.before, whole.after, whole.totals) == (in_pages.before, in_pages.after, in_pages.totals)
    assert whole.totals["gross"][1] == 1_000_003


def test_what_the_proposal_would_refuse_is_counted(at: datetime) -> None:
    world = october()
    found = preview(world, propose(world, basis="revenue_share", price=None, rate_ppb=PPB // 2))
    assert found.totals["refused"] == [0, 7]
    assert sum(found.after) == 0
