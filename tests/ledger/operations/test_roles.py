"""The roles that an act of staff takes, on any page or command: every operation that names its actor."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from attribution.models import AttributionIndex, Generation
from contributors.models import PPB, Contributor, ContributorLink, SplitDispute
from contributors.operations import links, people, splits
from ledger import operations
from ledger.journal import AccountKey
from ledger.models import (
    AdvanceCancellation,
    AdvanceProposal,
    ContractTerms,
    ManualEntry,
    Period,
    PeriodPool,
    ReceiptDispute,
    Restatement,
    RoyaltyPlan,
    VerbProposal,
    VoidProposal,
    WithholdingRate,
)
from ledger.operations import (
    advances,
    closing,
    contests,
    contracts,
    corrections,
    disputes,
    plans,
    pools,
    previews,
    sealing,
    taxes,
    verb_proposals,
    voids,
)
from ledger.operations.manual import post_manual_entry, propose_manual_entry, reject_manual_entry
from people.models import FINANCE_ROLES, STAFF_ROLES, AuditEvent, User
from people.operations import users
from tests.worlds.contracts import contract
from tests.worlds.world import CENT, TERMS, World, build_world

MAKER, CHECKER, COMPLIANCE, AUDITOR, ADMIN = FINANCE_ROLES
FINANCE = {MAKER, CHECKER}
# The contributors' own acts: membership permits them, and no role of staff.
THEIRS = {"dispute_receipt"}
# The mechanism below every proposal: each act hands it its own roles.
BELOW = {"decide", "reject"}
Act = Callable[[World, User], Any]


def plan(world: World, **changes: Any) -> RoyaltyPlan:
    begins = world.at + timedelta(days=20)
    return plans.propose_plan(
        by=world.staff[0], currency="EUR", effective_from=begins, at=world.at, terms={**TERMS, **changes}
    )


def pooled(world: World) -> RoyaltyPlan:
    terms = {"basis": "period_pool", "price": None}
    return world.adopt(currency="EUR", effective_from=world.at - timedelta(days=30), **terms)


def pool(world: World) -> PeriodPool:
    month = Period.objects.get(pk=202611)
    return pools.propose_pool(plan=pooled(world), period=month, amount=5, by=world.staff[0], at=world.at)


def terms(world: World) -> ContractTerms:
    return contracts.propose_terms(
        contract=contract(world, "book"),
        effective_from=date(2027, 1, 1),
        by=world.staff[0],
        at=world.at,
        terms={"covers_rest": True},
    )


def advance(world: World) -> AdvanceProposal:
    return advances.propose_advance(
        contract=contract(world, "book"),
        amount=CENT,
        currency="USD",
        reason="r",
        reference="r",
        by=world.staff[0],
        at=world.at,
    )


def granted(world: World) -> AdvanceProposal:
    return advances.grant_advance(advance=advance(world), by=world.staff[1], at=world.at)


def cancellation(world: World) -> AdvanceCancellation:
    return advances.propose_cancellation(
        advance=granted(world), way="take_back", reason="r", by=world.staff[0], at=world.at
    )


def manual(world: World) -> ManualEntry:
    return propose_manual_entry(**LINES, by=world.staff[0], at=world.at)


def transaction(world: World) -> VerbProposal:
    return verb_proposals.propose_verb(**VERB, by=world.staff[0], at=world.at)


def rate(world: World) -> WithholdingRate:
    return taxes.propose_withholding_rate(**RATE, by=world.staff[0], at=world.at)


def generation(world: World) -> Generation:
    (made,) = world.generate()
    world.attribute([made])
    made.refresh_from_db()
    return made


def serving(world: World) -> AttributionIndex:
    AttributionIndex.objects.filter(pk=world.index.pk).update(serving=True)
    world.index.refresh_from_db()
    return world.index


def restatement(world: World) -> Restatement:
    return corrections.propose_restatement(
        index=serving(world), since=world.at, reason="r", by=world.staff[0], at=world.at
    )


def void(world: World) -> VoidProposal:
    return voids.propose_void(generation=generation(world), reason="test", detail="d", by=world.staff[0], at=world.at)


def contested(world: World) -> SplitDispute:
    ben, ada = world.contributors
    duo = people.register_holder(
        contributor=ada, label="Duo", parts={ada: PPB // 2, ben: PPB // 2}, effective_from=world.at, at=world.at
    )
    return splits.contest_share(
        holder=duo, claimant=ada, against=ben, ppb=PPB // 4, reason="mine", by=world.users[0], at=world.at
    )


def disputed(world: World) -> ReceiptDispute:
    return ReceiptDispute.objects.create(
        contributor=world.contributors[0],
        generation=generation(world),
        revision=1,
        words="w",
        raised_by=world.users[0],
        raised_at=world.at,
    )


def closed(world: World) -> Period:
    return closing.close_period(period=202610, at=world.at)


LINES: dict[str, Any] = {
    "lines": [(AccountKey("bank", "USD"), -CENT), (AccountKey("fees", "USD"), CENT)],
    "reason": "r",
    "reference": "r",
}
VERB: dict[str, Any] = {"verb": "capital", "reference": "r", "currency": "USD", "amount": CENT}
RATE: dict[str, Any] = {"jurisdiction": "US", "rate_ppb": 0, "effective_from": date(2027, 1, 1)}

# operation -> (permitted roles, the act on rows that fit)
ACTS: dict[str, tuple[set[str], Act]] = {
    "propose_plan": (FINANCE, lambda w, by: plans.propose_plan(
        by=by, currency="EUR", effective_from=w.at, at=w.at, terms=TERMS)),
    "adopt_plan": ({CHECKER}, lambda w, by: plans.adopt_plan(plan=plan(w), by=by, at=w.at)),
    "reject_plan": (FINANCE, lambda w, by: plans.reject_plan(plan=plan(w), by=by, at=w.at)),
    "request_preview": (FINANCE, lambda w, by: previews.request_preview(
        plan=plan(w), period=Period.objects.get(pk=202611), by=by, at=w.at)),
    "propose_pool": (FINANCE, lambda w, by: pools.propose_pool(
        plan=pooled(w), period=Period.objects.get(pk=202611), amount=5, by=by, at=w.at)),
    "declare_pool": ({CHECKER}, lambda w, by: pools.declare_pool(pool=pool(w), by=by, at=w.at)),
    "reject_pool": (FINANCE, lambda w, by: pools.reject_pool(pool=pool(w), by=by, at=w.at)),
    "record_contract": (FINANCE, lambda w, by: contracts.record_contract(
        contributor=w.contributors[0], code="book", title="t", by=by, at=w.at)),
    "propose_terms": (FINANCE, lambda w, by: contracts.propose_terms(
        contract=contract(w, "book"), effective_from=date(2027, 1, 1), by=by, at=w.at, terms={})),
    "adopt_terms": ({CHECKER}, lambda w, by: contracts.adopt_terms(terms=terms(w), by=by, at=w.at)),
    "reject_terms": (FINANCE, lambda w, by: contracts.reject_terms(terms=terms(w), by=by, at=w.at)),
    "propose_advance": (FINANCE, lambda w, by: advances.propose_advance(
        contract=contract(w, "book"), amount=CENT, currency="USD", reason="r", reference="r", by=by, at=w.at)),
    "grant_advance": ({CHECKER}, lambda w, by: advances.grant_advance(advance=advance(w), by=by, at=w.at)),
    "reject_advance": (FINANCE, lambda w, by: advances.reject_advance(advance=advance(w), by=by, at=w.at)),
    "propose_cancellation": (FINANCE, lambda w, by: advances.propose_cancellation(
        advance=granted(w), way="take_back", reason="r", by=by, at=w.at)),
    "post_cancellation": ({CHECKER}, lambda w, by: advances.post_cancellation(
        cancellation=cancellation(w), by=by, at=w.at)),
    "reject_cancellation": (FINANCE, lambda w, by: advances.reject_cancellation(
        cancellation=cancellation(w), by=by, at=w.at)),
    "propose_manual_entry": (FINANCE, lambda w, by: propose_manual_entry(**LINES, by=by, at=w.at)),
    "post_manual_entry": ({CHECKER}, lambda w, by: post_manual_entry(manual=manual(w), by=by, at=w.at)),
    "reject_manual_entry": (FINANCE, lambda w, by: reject_manual_entry(manual=manual(w), by=by, at=w.at)),
    "propose_verb": (FINANCE, lambda w, by: verb_proposals.propose_verb(**VERB, by=by, at=w.at)),
    "approve_verb": ({CHECKER}, lambda w, by: verb_proposals.approve_verb(proposal=transaction(w), by=by, at=w.at)),
    "reject_verb": (FINANCE, lambda w, by: verb_proposals.reject_verb(proposal=transaction(w), by=by, at=w.at)),
    "propose_withholding_rate": (FINANCE | {COMPLIANCE}, lambda w, by: taxes.propose_withholding_rate(
        **RATE, by=by, at=w.at)),
    "adopt_withholding_rate": ({CHECKER, COMPLIANCE}, lambda w, by: taxes.adopt_withholding_rate(
        rate=rate(w), by=by, at=w.at)),
    "reject_withholding_rate": (FINANCE | {COMPLIANCE}, lambda w, by: taxes.reject_withholding_rate(
        rate=rate(w), by=by, at=w.at)),
    "propose_restatement": (FINANCE, lambda w, by: corrections.propose_restatement(
        index=serving(w), since=w.at, reason="r", by=by, at=w.at)),
    "propose_generation_restatement": (FINANCE, lambda w, by: corrections.propose_generation_restatement(
        generation=_attributed_before(w), reason="r", by=by, at=w.at)),
    "confirm_restatement": ({CHECKER}, lambda w, by: corrections.confirm_restatement(
        restatement=restatement(w), by=by, at=w.at)),
    "reject_restatement": (FINANCE, lambda w, by: corrections.reject_restatement(
        restatement=restatement(w), by=by, at=w.at)),
    "propose_void": (FINANCE, lambda w, by: voids.propose_void(
        generation=generation(w), reason="test", detail="d", by=by, at=w.at)),
    "confirm_void": ({CHECKER}, lambda w, by: voids.confirm_void(proposal=void(w), by=by, at=w.at)),
    "reject_void": (FINANCE, lambda w, by: voids.reject_void(proposal=void(w), by=by, at=w.at)),
    "void_generation": ({CHECKER}, lambda w, by: corrections.void_generation(
        generation=generation(w), reason="test", detail="d", by=by, at=w.at)),
    "decide_contest": ({CHECKER, COMPLIANCE}, lambda w, by: contests.decide_contest(
        dispute=contested(w), upheld=False, answer="no", by=by, at=w.at)),
    "close_period": ({CHECKER}, lambda w, by: closing.close_period(period=202610, by=by, at=w.at)),
    "seal_period": ({CHECKER}, lambda w, by: sealing.seal_period(period=closed(w), by=by, at=w.at)),
    "answer_dispute": ({CHECKER, COMPLIANCE}, lambda w, by: disputes.answer_dispute(
        dispute=disputed(w), upheld=False, words="no", by=by, at=w.at)),
}  # fmt: skip


def _attributed_before(world: World) -> Generation:
    """A generation that another index than the serving one attributed."""
    made = generation(world)
    fields = {f.attname: getattr(world.index, f.attname) for f in world.index._meta.fields}
    del fields["id"], fields["public_id"]
    AttributionIndex.objects.create(**{**fields, "serving": True, "config_sha256": b"n" * 32})
    return made


def by_role(world: World, *roles: str) -> User:
    name = "-".join(roles) or "nobody"
    return users.register_user(email=f"{name}@example.org", password="a long enough phrase", roles=roles, at=world.at)


@pytest.fixture
def world(db: None, at: Any) -> World:
    return build_world(at, contributors=2)


def _operations() -> dict[str, Any]:
    """Every public function that a module of the package defines."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(operations.__path__, operations.__name__ + "."):
        loaded = importlib.import_module(module.name)
        found |= {
            name: value
            for name, value in inspect.getmembers(loaded, inspect.isfunction)
            if value.__module__ == module.name and not name.startswith("_")
        }
    return found


def test_every_operation_that_names_who_acts_says_which_roles_may() -> None:
    asked = {name for name, act in _operations().items() if "by" in inspect.signature(act).parameters}
    assert asked - THEIRS - BELOW == set(ACTS)


@pytest.mark.parametrize("name", ACTS)
def test_an_act_is_refused_to_who_lacks_the_role(world: World, name: str) -> None:
    may, act = ACTS[name]
    with pytest.raises(Exception, match="takes the role") as refused:
        act(world, by_role(world, *sorted(set(STAFF_ROLES) - may)))
    assert type(refused.value).__name__.startswith("UnableTo")


# A void by staff also takes the proposal of somebody else, or the database refuses it at commit.
@pytest.mark.parametrize("name", sorted(ACTS.keys() - {"void_generation"}))
def test_an_act_is_open_to_each_role_that_may_and_logged(world: World, name: str) -> None:
    may, act = ACTS[name]
    by = by_role(world, sorted(may)[0])
    assert act(world, by) is not None
    line = AuditEvent.objects.latest("sequence")
    assert (line.action, line.actor, line.at) == (name, by, world.at)


# --- links --------------------------------------------------------------------------------------------------------
def test_accounts_are_linked_and_unlinked_by_compliance_alone(world: World) -> None:
    anybody = by_role(world, MAKER, CHECKER, AUDITOR)
    finder, other = by_role(world, COMPLIANCE), by_role(world, ADMIN)
    words: dict[str, Any] = {"reason": "One bank account.", "at": world.at}
    accounts: list[Contributor] = world.contributors
    for act in (links.propose_link, links.dismiss_suspicion):
        with pytest.raises(links.UnableToLink, match="takes the role compliance or admin"):
            act(contributors=accounts, by=anybody, **words)
    link: ContributorLink = links.propose_link(contributors=accounts, by=finder, **words)
    for agree in (True, False):
        with pytest.raises(links.UnableToDecideLink, match="takes the role compliance or admin"):
            links.decide_link(link=link, agree=agree, by=anybody, at=world.at)
    links.decide_link(link=link, agree=True, by=other, at=world.at)
    with pytest.raises(links.UnableToLink, match="takes the role compliance or admin"):
        links.propose_end_of_link(link=link, by=anybody, **words)
