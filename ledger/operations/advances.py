"""Advances: proposed by one person of finance under a contract, granted by another. What is granted becomes payable,
an ordinary payout pays it, and the closes that follow take it back from what the contributor earns."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from contributors.models import User
from contributors.operations import why_not_decide
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import AdvanceProposal, Contract, EntryKind
from ledger.money import ASSETS, UNITS_MAX, asset, format_amount, whole_minor
from ledger.operations.periods import dated
from ledger.operations.proposals import decide, reject, undecided

PROPOSERS = ("finance_maker", "finance_checker")
GRANTERS = ("finance_checker",)


class UnableToProposeAdvance(Exception):
    """The amount is none that can be paid, or the reason or the reference is missing."""

    status = 422
    problem = "advance-invalid"


class UnableToGrantAdvance(Exception):
    """It is decided already, or the person may not decide it."""

    status = 409
    problem = "advance-not-grantable"


def propose_advance(
    *, contract: Contract, amount: int, currency: str, reason: str, reference: str, by: User, at: datetime
) -> AdvanceProposal:
    """Write down an advance for somebody else to grant; `amount` in units of the currency.

    Raises UnableToProposeAdvance with the reason; no row is written.
    """
    reason, reference = reason.strip(), reference.strip()
    if not by.has_role(*PROPOSERS):
        raise UnableToProposeAdvance("Advances are proposed by finance staff.")
    if currency not in ASSETS:
        raise UnableToProposeAdvance(f"The ledger keeps no currency {currency!r}.")
    if amount <= 0:
        raise UnableToProposeAdvance("An advance is an amount above zero.")
    if amount > UNITS_MAX:
        raise UnableToProposeAdvance("The amount is beyond what the ledger can hold.")
    if whole_minor(amount, currency) != amount:
        least = format_amount(asset(currency).minor, currency, decimals=asset(currency).exponent)
        raise UnableToProposeAdvance(f"A payout pays the advance, in whole multiples of {currency} {least}.")
    if not reason or len(reason) > 300:
        raise UnableToProposeAdvance("Say in 1 to 300 characters why the advance is paid.")
    if not reference or len(reference) > 200:
        raise UnableToProposeAdvance("Name what it rests on, such as the clause of the contract or a letter.")
    return AdvanceProposal.objects.create(
        contract=contract, currency=currency, amount=amount, reason=reason, reference=reference, proposed_by=by,
        proposed_at=at,
    )  # fmt: skip


def grant_advance(*, advance: AdvanceProposal, by: User, at: datetime) -> AdvanceProposal:
    """Make payable what somebody else proposed. Raises UnableToGrantAdvance."""
    with transaction.atomic():
        fresh = undecided(advance, UnableToGrantAdvance)
        if fresh.proposed_by_id == by.pk:
            raise UnableToGrantAdvance("You proposed this advance, so somebody else has to grant it.")
        contract = Contract.objects.get(pk=fresh.contract_id)
        if refusal := why_not_decide(by=by, roles=GRANTERS, at=at, about=[contract.contributor_id]):
            raise UnableToGrantAdvance(refusal)
        owner = f"contributor:{contract.contributor_id}"
        posted = journal.post(
            kind=EntryKind.GRANT_ADVANCE,
            idem_key=f"advance:{fresh.pk}",
            effective=dated(at),
            lines=[
                (AccountKey("advance", fresh.currency, owner, contract.code), -fresh.amount),
                (AccountKey("contributor_payable", fresh.currency, owner), fresh.amount),
            ],
            reference=f"{fresh.reference}: {fresh.reason}"[:300],
        )
        return decide(
            fresh, AdvanceProposal.State.GRANTED, by=by, at=at, refusal=UnableToGrantAdvance, entry_id=posted.entry_id
        )


def reject_advance(*, advance: AdvanceProposal, by: User, at: datetime) -> AdvanceProposal:
    """Turn a proposal down; its proposer may take it back so."""
    return reject(advance, roles=PROPOSERS, by=by, at=at, refusal=UnableToGrantAdvance)
