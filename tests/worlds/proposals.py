"""One proposal of each registered kind, proposed by a given person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from attribution.models import AttributionIndex, ModelVersion
from attribution.operations import base_pool as base_pool_operations
from contributors.models import PPB
from contributors.operations import links
from ledger.journal import AccountKey
from ledger.models import Contract, Period
from ledger.operations import advances, contracts, corrections, manual, plans, pools, taxes, verb_proposals, voids
from payouts.models import PayoutAccount
from payouts.operations import details as changing
from payouts.operations import policies
from payouts.queries.policies import terms_in_force
from people.models import User
from people.operations import resets, staff
from people.operations.proposals import approve
from people.operations.users import enrol_totp, register_user
from tests.worlds.world import CENT, SEEN, TERMS, World

ROLES = ("finance_checker", "compliance", "admin")


def person(world: World, name: str, *roles: str) -> User:
    """Register a member of staff; by default one that may propose and approve every kind."""
    return register_user(
        email=f"{name}@example.org", password="two pairs of eyes", name=name, roles=roles or ROLES, at=world.at
    )


def _contract(world: World) -> Contract:
    found = Contract.objects.filter(contributor=world.contributors[0]).first()
    return found or contracts.record_contract(
        contributor=world.contributors[0], code="book", title="Essays", by=world.staff[0], at=world.at
    )


def _month(world: World) -> Period:
    return Period.objects.get(starts__lte=world.at.date(), ends__gt=world.at.date())


def plan(world: World, by: User) -> Any:
    return plans.propose_plan(
        by=by, currency="EUR", effective_from=world.at + timedelta(days=3), at=world.at, terms=TERMS
    )


def pool(world: World, by: User) -> Any:
    pooled = world.adopt(currency="CHF", basis="period_pool", price=None)
    return pools.propose_pool(plan=pooled, period=_month(world), amount=5, by=by, at=world.at)


def terms(world: World, by: User) -> Any:
    return contracts.propose_terms(
        contract=_contract(world), effective_from=_month(world).ends, by=by, at=world.at, terms={"covers_rest": True}
    )


def advance(world: World, by: User) -> Any:
    return advances.propose_advance(
        contract=_contract(world),
        amount=CENT,
        currency="USD",
        reason="signing",
        reference="clause 4",
        by=by,
        at=world.at,
    )


def cancellation(world: World, by: User) -> Any:
    granted = advances.propose_advance(
        contract=_contract(world),
        amount=2 * CENT,
        currency="USD",
        reason="signing",
        reference="clause 5",
        by=world.staff[0],
        at=world.at,
    )
    approve(granted, by=world.staff[1], at=world.at)
    granted.refresh_from_db()
    return advances.propose_cancellation(advance=granted, way="take_back", reason="fell through", by=by, at=world.at)


def manual_entry(world: World, by: User) -> Any:
    lines = [(AccountKey("programme_cost", "USD"), -CENT), (world.key("contributor_payable"), CENT)]
    return manual.propose_manual_entry(lines=lines, reason="a gift", reference="letter 1", by=by, at=world.at)


def transaction(world: World, by: User) -> Any:
    return verb_proposals.propose_verb(
        verb="capital", reference="founding", currency="USD", amount=CENT, by=by, at=world.at
    )


def claim_transaction(world: World, by: User) -> Any:
    world.credit(world.contributors[0], 1000)
    number = world.contributors[0].pk
    return verb_proposals.propose_verb(
        verb="mark_dormant", reference="2026", currency="USD", contributor_id=number, by=by, at=world.at
    )


def void(world: World, by: User) -> Any:
    return voids.propose_void(generation=world.generate(1)[0], reason="test", detail="a load test", by=by, at=world.at)


def restatement(world: World, by: User) -> Any:
    AttributionIndex.objects.filter(pk=world.index.pk).update(serving=True)
    world.index.refresh_from_db()
    return corrections.propose_restatement(
        index=world.index, since=world.at - timedelta(days=1), reason="finer", by=by, at=world.at
    )


def base_pool(world: World, by: User) -> Any:
    version = ModelVersion.objects.create(
        service=world.service,
        name="m2",
        adapter="causal_lm",
        factory="demo",
        purpose="train_generative",
        checkpoint_sha256=bytes(32),
        trained_at=world.at - timedelta(days=50),
        created_at=world.at,
    )
    index = AttributionIndex.objects.create(
        model_version=version,
        config_sha256=b"b" * 32,
        sha256=b"s" * 32,
        state="built",
        serving=True,
        created_at=world.at,
    )
    return base_pool_operations.propose_base_pool(index=index, reason="A trial month.", by=by, at=world.at)


def withholding(world: World, by: User) -> Any:
    return taxes.propose_withholding_rate(
        jurisdiction="US", rate_ppb=PPB // 10, effective_from=world.at.date(), by=by, at=world.at
    )


def policy(world: World, by: User) -> Any:
    figures = {**terms_in_force("USD").figures, "minimum_minor": 2500}
    return policies.propose_policy(currency="USD", figures=figures, reason="fewer fees", by=by, at=world.at)


def link(world: World, by: User) -> Any:
    return links.propose_link(contributors=world.contributors[:2], reason="The same passport.", by=by, at=world.at)


def link_end(world: World, by: User) -> Any:
    first, second = person(world, "first", "compliance"), person(world, "second", "compliance")
    pair = [world.contributors[0], world.contributors[2]]
    made = links.propose_link(contributors=pair, reason="The same bank.", by=first, at=world.at)
    approved = approve(made, by=second, at=world.at, seen=SEEN)
    return links.propose_end_of_link(link=approved, reason="Twins.", by=by, at=world.at)


def details(world: World, by: User) -> Any:
    of = world.contributors[0]
    if not PayoutAccount.objects.filter(contributor=of).exists():
        PayoutAccount.objects.create(contributor=of, country=of.country, created_at=world.at)
    return changing.change_details(
        contributor=of, given={"legal_name": "Maria Sklodowska"}, reason="She married.", by=by, at=world.at
    )


def roles(world: World, by: User) -> Any:
    return staff.propose_roles(
        user=world.users[1], roles=["auditor"], by=by, reason="A new colleague.", at=world.at, seen=SEEN
    )


def factor_reset(world: World, by: User) -> Any:
    enrol_totp(user=world.users[1], secret="JBSWY3DPEHPK3PXP")
    return resets.propose_reset(user=world.users[1], reason="A video call.", by=by, at=world.at, seen=SEEN)


MAKE: dict[str, Callable[[World, User], Any]] = {
    function.__name__: function
    for function in (
        plan,
        pool,
        terms,
        advance,
        cancellation,
        manual_entry,
        transaction,
        claim_transaction,
        void,
        restatement,
        base_pool,
        withholding,
        policy,
        link,
        link_end,
        details,
        roles,
        factor_reset,
    )
}
# The kinds that are about contributors[0], so that its members do not decide.
ABOUT_A_CONTRIBUTOR = {
    "terms",
    "advance",
    "cancellation",
    "manual_entry",
    "claim_transaction",
    "link",
    "link_end",
    "details",
}
