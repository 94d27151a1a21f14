"""I17: after a restatement everything is as if the last attribution had been the first."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution.models import Attribution, AttributionIndex, Generation
from contributors.models import PPB
from ledger.models import Accrual, Line, Period, Restatement, RoyaltyPlan
from ledger.operations import closing, corrections, payouts
from ledger.queries import receipt
from ledger.queries.invariants import check_all
from ledger.statements.build import build_statement
from ledger.tasks import continue_restatements
from people.operations.proposals import UnableToDecide, approve, withdraw
from tests.worlds.programme import AT, Programme
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import World, build_world

pytestmark = pytest.mark.django_db
DECEMBER = datetime(2026, 12, 5, tzinfo=UTC)


def from_scratch(world: World) -> dict[str, int]:
    """owner -> the credits of the last attributions, by the published rule and no stored document."""
    credited: dict[str, int] = defaultdict(int)
    for generation in Generation.objects.filter(service=world.service, void__isnull=True):
        last = Attribution.objects.filter(generation=generation).order_by("-revision").first()
        if last is None:
            continue
        plan = RoyaltyPlan.objects.get(currency=generation.currency, state="approved")
        assert plan.price is not None
        division = receipt.divide(last, plan, plan.price)
        by_holder = dict(zip(last.holder_ids, division.units, strict=True))
        for contributor, holder in zip(world.contributors, world.holders, strict=True):
            credited[f"contributor:{contributor.pk}"] += by_holder.get(holder.pk, 0)
    return dict(credited)


def posted(world: World) -> dict[str, int]:
    """owner -> the sum that documents brought to its account, over every entry that ever was."""
    sums: dict[str, int] = defaultdict(int)
    lines = Line.objects.filter(account__kind="contributor_accrued", entry__batch_id__isnull=False)
    for owner, amount in lines.values_list("account__owner", "amount"):
        sums[owner] += amount
    return {f"contributor:{c.pk}": sums[f"contributor:{c.pk}"] for c in world.contributors}


def vectors() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, PPB // 3), min_size=3, max_size=3)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    first=st.lists(vectors(), min_size=3, max_size=3),
    later=st.lists(st.tuples(st.integers(0, 2), vectors(), st.booleans()), max_size=4),
    voided=st.sets(st.integers(0, 2), max_size=1),
)
def test_whatever_was_restated_and_when_it_comes_to_the_same_as_from_scratch(
    first: list[list[int]], later: list[tuple[int, list[int], bool]], voided: set[int]
) -> None:
    """Over an open month, a closed one, and after a payout of everything: in any order, with one voided."""
    from django.db import transaction

    with transaction.atomic():
        world = build_world(OCTOBER)
        generations = world.generate(3)
        revisions = [1, 1, 1]
        for generation, shares in zip(generations, first, strict=True):
            world.attribute([generation], shares=shares, general=[0, 0, PPB])
        world.accrue_all()
        closed = False
        for place, shares, close_first in later:
            if close_first and not closed:
                for period in (202609, 202610):
                    closing.close_period(period=period, at=NOVEMBER)
                world.at, closed = NOVEMBER, True
                for c in world.contributors:
                    key = f"po_{c.pk}"
                    due = world.balance("contributor_payable", world.contributors.index(c)) // 10**7 * 10**7
                    if due:
                        payouts.reserve_payout(
                            contributor_id=c.pk,
                            currency="USD",
                            gross=due,
                            tax=0,
                            rail="stripe",
                            attempt_key=key,
                            at=NOVEMBER,
                        )
            revisions[place] += 1
            world.attribute([generations[place]], shares=shares, general=[0, 0, PPB], revision=revisions[place])
            world.accrue_all()
        for place in voided:
            corrections.void_generation(generation=generations[place], reason="test", at=world.at)
        assert posted(world) == from_scratch(world)
        closing.close_period(period=202609, at=DECEMBER)
        closing.close_period(period=202610, at=DECEMBER)
        closing.close_period(period=202611, at=DECEMBER)
        assert not [(r.name, r.rows) for r in check_all() if r.rows]
        transaction.set_rollback(True)


def test_a_statement_shows_both_dates_of_a_restatement_and_says_what_it_is(programme: Programme) -> None:
    made = programme.generate(1)
    programme.attribute(made, scores=[0.5, 0.3125, 0.1875])
    programme.close()
    programme.attribute(made, scores=[0.1875, 0.3125, 0.5], revision=2)
    programme.accrue()
    statement = build_statement(contributor=programme.contributors[0], period=Period.objects.get(pk=202611))
    (line,) = statement.pots[0].lines
    assert line.kind == "prior_restated"
    assert "prior-period adjustment" in line.label
    (_, posted_line), *_ = statement.journal
    assert (posted_line.effective, posted_line.earned_period) == ("2026-11-03", "2026-10")


def _take_over(programme: Programme) -> AttributionIndex:
    """Another index serves the first model version from now on."""
    old = programme.indexes[0]
    AttributionIndex.objects.filter(pk=old.pk).update(serving=False)
    fields = {f.attname: getattr(old, f.attname) for f in old._meta.fields if f.attname not in {"id", "public_id"}}
    return AttributionIndex.objects.create(**{**fields, "serving": True, "config_sha256": b"n" * 32})


def test_a_restatement_by_an_index_that_serves_no_more_is_not_confirmed(programme: Programme) -> None:
    maker, checker = programme.staff["finance_maker"], programme.staff["finance_checker"]
    since = datetime(2026, 10, 1, tzinfo=UTC)
    asked = corrections.propose_restatement(index=programme.indexes[0], since=since, reason="finer", by=maker, at=AT)
    _take_over(programme)
    with pytest.raises(UnableToDecide, match="serves no more"):
        approve(asked, by=checker, at=AT)
    assert withdraw(asked, by=maker, at=AT).state == "withdrawn"


def test_a_restatement_whose_index_is_replaced_ends_and_nothing_waits_behind_it(programme: Programme) -> None:
    maker, checker = programme.staff["finance_maker"], programme.staff["finance_checker"]
    since = datetime(2026, 10, 1, tzinfo=UTC)
    programme.attribute(programme.generate(2))
    middle = _take_over(programme)
    asked = corrections.propose_restatement(index=middle, since=since, reason="finer", by=maker, at=AT)
    approve(asked, by=checker, at=AT)
    AttributionIndex.objects.filter(pk=middle.pk).update(serving=False)
    assert continue_restatements() == 0
    asked.refresh_from_db()
    assert (asked.finished_at is not None, asked.n_attributed) == (True, 0)
    assert asked.n_kept == Generation.objects.filter(model_version_id=middle.model_version_id).count() > 0


def test_a_restatement_takes_two_people_a_served_index_and_a_reason(programme: Programme) -> None:
    index, staff = programme.indexes[0], programme.staff
    maker, checker = staff["finance_maker"], staff["finance_checker"]
    since = datetime(2026, 10, 1, tzinfo=UTC)
    with pytest.raises(corrections.UnableToRestate, match="Say why"):
        corrections.propose_restatement(index=index, since=since, reason=" ", by=maker, at=AT)
    with pytest.raises(corrections.UnableToRestate, match="future"):
        corrections.propose_restatement(index=index, since=DECEMBER, reason="why", by=maker, at=AT)
    asked = corrections.propose_restatement(index=index, since=since, reason="better", by=maker, at=AT)
    with pytest.raises(corrections.UnableToRestate, match="proposed or under way"):
        corrections.propose_restatement(index=index, since=since, reason="again", by=checker, at=AT)
    with pytest.raises(UnableToDecide, match="somebody else"):
        approve(asked, by=maker, at=AT)
    with pytest.raises(corrections.UnableToRestate, match="is proposed"):
        corrections.continue_restatement(restatement=asked, at=AT)
    running = approve(asked, by=checker, at=AT)
    # Nothing was attributed by another index.
    programme.attribute(programme.generate(2))
    assert corrections.continue_restatement(restatement=running, at=AT) == 0
    assert Restatement.objects.get().finished_at == AT
    index.refresh_from_db()
    type(index).objects.filter(pk=index.pk).update(serving=False)
    index.refresh_from_db()
    with pytest.raises(corrections.UnableToRestate, match="serves and passed"):
        corrections.propose_restatement(index=index, since=since, reason="again", by=maker, at=AT)
    assert not Accrual.objects.exists()
