"""The second pair of eyes is somebody else's than the payee's, and its role is older than a day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from contributors.models import PPB
from contributors.operations.people import add_member, register_holder
from contributors.operations.splits import contest_share
from ledger.journal import AccountKey
from ledger.models import ManualEntry
from ledger.operations import advances, contests, contracts, plans, taxes, verbs
from ledger.operations.manual import propose_manual_entry
from people.models import User
from people.operations.proposals import UnableToDecide, approve
from people.operations.users import register_user
from tests.worlds.contracts import contract
from tests.worlds.manual import finance
from tests.worlds.world import CENT, TERMS, World, build_world


@pytest.fixture
def world(db: None, at: datetime) -> World:
    """An empty ledger has no cool-down, so that one entry is posted."""
    world = build_world(at, contributors=2)
    verbs.post_verb(verb="capital", reference="founding", amount=CENT, currency="USD", at=at)
    return world


def _advance(world: World) -> Callable[[User], Any]:
    asked = advances.propose_advance(
        contract=contract(world, "book"),
        amount=300 * CENT,
        currency="USD",
        reason="signing",
        reference="clause 4",
        by=finance(world.at)[0],
        at=world.at,
    )
    return lambda by: approve(asked, by=by, at=world.at)


def _manual(world: World) -> Callable[[User], Any]:
    owed = AccountKey("contributor_payable", "USD", f"contributor:{world.contributors[0].pk}")
    manual = propose_manual_entry(
        lines=[(AccountKey("programme_cost", "USD"), -CENT), (owed, CENT)],
        reason="a gift",
        reference="letter",
        by=finance(world.at)[0],
        at=world.at,
    )
    return lambda by: approve(manual, by=by, at=world.at)


def _terms(world: World) -> Callable[[User], Any]:
    terms = contracts.propose_terms(
        contract=contract(world, "book"),
        effective_from=date(2027, 1, 1),
        by=finance(world.at)[0],
        at=world.at,
        terms={"covers_rest": True},
    )
    return lambda by: approve(terms, by=by, at=world.at)


def _contest(world: World) -> Callable[[User], Any]:
    ben, ada = world.contributors
    duo = register_holder(
        contributor=ada, label="Duo", parts={ada: PPB // 2, ben: PPB // 2}, effective_from=world.at, at=world.at
    )
    dispute = contest_share(
        holder=duo, claimant=ada, against=ben, ppb=PPB // 4, reason="I wrote it", by=world.users[0], at=world.at
    )
    return lambda by: contests.decide_contest(dispute=dispute, upheld=False, answer="no", by=by, at=world.at)


ABOUT_SOMEBODY = [_advance, _manual, _terms, _contest]


@pytest.mark.parametrize("proposed", ABOUT_SOMEBODY)
def test_nobody_decides_about_a_contributor_that_they_act_for(
    world: World, proposed: Callable[[World], Callable[[User], Any]]
) -> None:
    decide, (_, second) = proposed(world), finance(world.at)
    add_member(contributor=world.contributors[0], user=second, role="viewer", at=world.at)
    with pytest.raises(Exception, match=f"You act for {world.contributors[0]}, so somebody else") as refused:
        decide(second)
    assert type(refused.value).__name__.startswith("UnableTo")
    third = register_user(
        email="third@example.org", password="two pairs of eyes", roles=["finance_checker"], at=world.at
    )
    assert decide(third).state != "proposed"


@pytest.mark.parametrize("proposed", ABOUT_SOMEBODY)
def test_a_role_that_was_just_given_decides_nothing_for_a_day(
    world: World, proposed: Callable[[World], Callable[[User], Any]]
) -> None:
    decide, (_, second) = proposed(world), finance(world.at)
    User.objects.filter(pk=second.pk).update(roles_changed_at=world.at - timedelta(hours=23))
    with pytest.raises(Exception, match="Your roles changed on") as refused:
        decide(second)
    assert type(refused.value).__name__.startswith("UnableTo")
    User.objects.filter(pk=second.pk).update(roles_changed_at=world.at - timedelta(hours=25))
    assert decide(second).state != "proposed"


def test_rules_too_are_decided_by_settled_roles_alone(world: World) -> None:
    first, second = finance(world.at)
    User.objects.filter(pk=second.pk).update(roles_changed_at=world.at)
    plan = plans.propose_plan(
        by=first,
        currency="EUR",
        effective_from=datetime(2027, 1, 1, tzinfo=UTC),
        at=world.at,
        terms=TERMS,
    )
    rate = taxes.propose_withholding_rate(
        jurisdiction="US", rate_ppb=0, effective_from=date(2027, 1, 1), by=first, at=world.at
    )
    with pytest.raises(UnableToDecide, match="Your roles changed"):
        approve(plan, by=second, at=world.at)
    with pytest.raises(UnableToDecide, match="Your roles changed"):
        approve(rate, by=second, at=world.at)
    assert not ManualEntry.objects.exists()
