"""Contracts for the ledger's tests: proposed by one, approved by another."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from contributors.models import PPB
from ledger.journal import AccountKey
from ledger.models import AdvanceProposal, Contract, ContractTerms
from ledger.operations import advances, contracts
from people.operations.proposals import approve
from tests.worlds.manual import finance
from tests.worlds.world import World

HALVES: dict[str, Any] = {"release_months": [3, 6], "release_ppb": [PPB // 2, PPB // 2]}


def contract(world: World, code: str, *, place: int = 0) -> Contract:
    return contracts.record_contract(
        contributor=world.contributors[place], code=code, title=f"Contract {code}", by=world.staff[0], at=world.at
    )


def terms(
    world: World,
    code: str,
    *,
    begins: date = date(2026, 10, 1),
    place: int = 0,
    at: datetime | None = None,
    **terms: Any,
) -> ContractTerms:
    """Terms in force from a month on; the contract is recorded when it is first named."""
    found = Contract.objects.filter(contributor=world.contributors[place], code=code).first()
    proposed = contracts.propose_terms(
        contract=found or contract(world, code, place=place),
        effective_from=begins,
        by=world.staff[0],
        at=at or world.at,
        terms=terms,
    )
    return approve(proposed, by=world.staff[1], at=at or world.at)


def advance(
    world: World, code: str, amount: int, *, place: int = 0, currency: str = "USD", at: datetime | None = None
) -> AccountKey:
    """An advance under a contract, proposed by one and approved by another; the contract is recorded when it is first
    named. Returns the account on which it is open."""
    at = at or world.at
    who = world.contributors[place]
    found = Contract.objects.filter(contributor=who, code=code).first() or contract(world, code, place=place)
    first, second = finance(at)
    proposed = advances.propose_advance(
        contract=found,
        amount=amount,
        currency=currency,
        reason="agreed",
        reference=f"clause 4 of {code}",
        by=first,
        at=at,
    )
    approve(proposed, by=second, at=at)
    return AccountKey("advance", currency, f"contributor:{who.pk}", code)


def cancel(account: AccountKey, world: World, *, way: str = "take_back", at: datetime | None = None) -> int:
    """Cancel the open part of the last advance on this account, by two people; returns the cancelled amount."""
    at = at or world.at
    first, second = finance(at)
    granted = AdvanceProposal.objects.filter(
        contract__code=account.contract, contract__contributor_id=int(account.owner.partition(":")[2]), state="approved"
    ).latest("id")
    proposed = advances.propose_cancellation(advance=granted, way=way, reason="fell through", by=first, at=at)
    posted = approve(proposed, by=second, at=at)
    assert posted.amount is not None
    return posted.amount
