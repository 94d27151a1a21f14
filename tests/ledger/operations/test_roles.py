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
from contributors.models import PPB, SplitDispute
from contributors.operations import people, splits
from ledger import operations
from ledger.journal import AccountKey
from ledger.models import (
    AdvanceProposal,
    Period,
    ReceiptDispute,
    RoyaltyPlan,
)
from ledger.operations import (
    advances,
    closing,
    contests,
    contracts,
    corrections,
    disputes,
    limits,
    plans,
    pools,
    previews,
    sealing,
    taxes,
    verb_proposals,
    voids,
)
from ledger.operations.manual import propose_manual_entry
from people.models import FINANCE_ROLES, STAFF_ROLES, AuditEvent, User
from people.operations import users
from people.operations.proposals import approve
from tests.worlds.contracts import contract
from tests.worlds.world import CENT, TERMS, World, build_world

MAKER, CHECKER, COMPLIANCE, AUDITOR, ADMIN = FINANCE_ROLES
FINANCE = {MAKER, CHECKER}
# The contributors' own acts: membership permits them, and no role of staff.
THEIRS = {"dispute_receipt"}
Act = Callable[[World, User], Any]
# The name of the act in the audit log, where it is not the operation's.
LINES_OF = {
    "propose_verb": "propose_transaction",
    "propose_withholding_rate": "propose_withholding",
    "propose_generation_restatement": "propose_restatement",
}


def plan(world: World, **changes: Any) -> RoyaltyPlan:
    begins = world.at + timedelta(days=20)
    return plans.propose_plan(
        by=world.staff[0], currency="EUR", effective_from=begins, at=world.at, terms={**TERMS, **changes}
    )


def pooled(world: World) -> RoyaltyPlan:
    terms = {"basis": "period_pool", "price": None}
    return world.adopt(currency="EUR", effective_from=world.at - timedelta(days=30), **terms)


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
    return approve(advance(world), by=world.staff[1], at=world.at)


def generation(world: World) -> Generation:
    (made,) = world.generate()
    world.attribute([made])
    made.refresh_from_db()
    return made


def serving(world: World) -> AttributionIndex:
    AttributionIndex.objects.filter(pk=world.index.pk).update(serving=True)
    world.index.refresh_from_db()
    return world.index


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
    "request_preview": (FINANCE, lambda w, by: previews.request_preview(
        plan=plan(w), period=Period.objects.get(pk=202611), by=by, at=w.at)),
    "propose_pool": (FINANCE, lambda w, by: pools.propose_pool(
        plan=pooled(w), period=Period.objects.get(pk=202611), amount=5, by=by, at=w.at)),
    "record_contract": (FINANCE, lambda w, by: contracts.record_contract(
        contributor=w.contributors[0], code="book", title="t", by=by, at=w.at)),
    "propose_terms": (FINANCE, lambda w, by: contracts.propose_terms(
        contract=contract(w, "book"), effective_from=date(2027, 1, 1), by=by, at=w.at, terms={})),
    "propose_advance": (FINANCE, lambda w, by: advances.propose_advance(
        contract=contract(w, "book"), amount=CENT, currency="USD", reason="r", reference="r", by=by, at=w.at)),
    "propose_cancellation": (FINANCE, lambda w, by: advances.propose_cancellation(
        advance=granted(w), way="take_back", reason="r", by=by, at=w.at)),
    "propose_manual_entry": (FINANCE, lambda w, by: propose_manual_entry(**LINES, by=by, at=w.at)),
    "propose_verb": (FINANCE, lambda w, by: verb_proposals.propose_verb(**VERB, by=by, at=w.at)),
    "propose_withholding_rate": (FINANCE | {COMPLIANCE}, lambda w, by: taxes.propose_withholding_rate(
        **RATE, by=by, at=w.at)),
    "propose_restatement": (FINANCE, lambda w, by: corrections.propose_restatement(
        index=serving(w), since=w.at, reason="r", by=by, at=w.at)),
    "propose_generation_restatement": (FINANCE, lambda w, by: corrections.propose_generation_restatement(
        generation=_attributed_before(w), reason="r", by=by, at=w.at)),
    "propose_void": (FINANCE, lambda w, by: voids.propose_void(
        generation=generation(w), reason="test", detail="d", by=by, at=w.at)),
    "void_generation": ({CHECKER}, lambda w, by: corrections.void_generation(
        generation=generation(w), reason="test", detail="d", by=by, at=w.at)),
    "decide_contest": ({CHECKER, COMPLIANCE}, lambda w, by: contests.decide_contest(
        dispute=contested(w), upheld=False, answer="no", by=by, at=w.at)),
    "close_period": ({CHECKER}, lambda w, by: closing.close_period(period=202610, by=by, at=w.at)),
    "seal_period": ({CHECKER}, lambda w, by: sealing.seal_period(period=closed(w), by=by, at=w.at)),
    "set_limit": ({MAKER, ADMIN}, lambda w, by: limits.set_limit(
        service=w.service, currency="USD", amount="5.00", by=by, at=w.at)),
    "remove_limit": ({MAKER, ADMIN}, lambda w, by: limits.remove_limit(
        limit=limits.set_limit(service=w.service, currency="USD", amount="5.00", at=w.at), by=by, at=w.at)),
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
    assert asked - THEIRS == set(ACTS)


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
    assert (line.action, line.actor, line.at) == (LINES_OF.get(name, name), by, world.at)
