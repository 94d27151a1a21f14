"""Advances: proposed by one person of finance under a contract, granted by another. A granted advance becomes payable,
an ordinary payout pays it, and the closes that follow recoup it from the contributor's earnings.

The part that is not earned back can be cancelled, by two people again. Before a payout took it, it is taken out of the
payable. Afterwards the money is the contributor's, and the open part of it is written off. The part that was earned
back stays.
"""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, connection, transaction
from django.db.models import Sum

from contributors.operations.deciding import why_not_decide
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import AdvanceCancellation, AdvanceProposal, Contract, EntryKind
from ledger.money import ASSETS, UNITS_MAX, asset, whole_minor
from ledger.operations.periods import dated
from ledger.operations.proposals import decide, propose, reject, undecided
from people.actor import lacks_role, logged
from people.models import User
from people.presentation import amounts

PROPOSERS = ("finance_maker", "finance_checker")
GRANTERS = ("finance_checker",)
Way = AdvanceCancellation.Way


class UnableToProposeAdvance(Exception):
    """The amount is none that can be paid, the reason or the reference is missing, or an equal proposal waits."""

    status = 422
    problem = "advance-invalid"


class UnableToGrantAdvance(Exception):
    """It is decided already, or the person may not decide it."""

    status = 409
    problem = "advance-not-grantable"


class UnableToCancelAdvance(Exception):
    """Nothing of it is open, or not in this way; it is decided already, or the person may not decide it."""

    status = 409
    problem = "advance-not-cancellable"


@logged("advance", "contract_id", "currency", "amount", "reason", "reference", "state")
def propose_advance(
    *, contract: Contract, amount: int, currency: str, reason: str, reference: str, by: User, at: datetime
) -> AdvanceProposal:
    """Write down an advance for somebody else to grant; `amount` in units of the currency.

    Raises UnableToProposeAdvance with the reason; no row is written.
    """
    reason, reference = reason.strip(), reference.strip()
    if refusal := lacks_role(by=by, roles=PROPOSERS):
        raise UnableToProposeAdvance(refusal)
    if currency not in ASSETS:
        raise UnableToProposeAdvance(f"The ledger keeps no currency {currency!r}.")
    if amount <= 0:
        raise UnableToProposeAdvance("An advance is an amount above zero.")
    if amount > UNITS_MAX:
        raise UnableToProposeAdvance("The amount is larger than the ledger can hold.")
    if whole_minor(amount, currency) != amount:
        least = amounts.text_of_minor(1, asset(currency))
        raise UnableToProposeAdvance(f"A payout pays the advance, in whole multiples of {least}.")
    if not reason or len(reason) > 300:
        raise UnableToProposeAdvance("Say in 1 to 300 characters why the advance is paid.")
    if not reference or len(reference) > 200:
        raise UnableToProposeAdvance("Name the evidence, such as the clause of the contract or a letter.")
    row = AdvanceProposal(
        contract=contract,
        currency=currency,
        amount=amount,
        reason=reason,
        reference=reference,
        proposed_by=by,
        proposed_at=at,
    )
    return propose(row, "an_equal_advance_is_proposed_once_at_a_time", UnableToProposeAdvance)


@logged("advance", "currency", "amount", "entry_id", "state", before="proposed")
def grant_advance(*, advance: AdvanceProposal, by: User, at: datetime) -> AdvanceProposal:
    """Make another person's proposed advance payable. Raises UnableToGrantAdvance."""
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


@logged("advance", "currency", "amount", "state", before="proposed")
def reject_advance(*, advance: AdvanceProposal, by: User, at: datetime) -> AdvanceProposal:
    """Turn a proposal down; its proposer may take it back so."""
    return reject(advance, roles=PROPOSERS, by=by, at=at, refusal=UnableToGrantAdvance)


# --- cancelled ----------------------------------------------------------------------------------------------------
def cancellable(advance: AdvanceProposal) -> tuple[int, Way | None]:
    """The amount of a granted advance that can still be cancelled, in units, and the way: the part neither earned back
    nor cancelled. It is reversed while no payout took it, written off after one did; None while that payout is under
    way.

    Advances under one contract in one currency are earned back together, the oldest first.
    """
    contract = advance.contract
    owner = f"contributor:{contract.contributor_id}"
    open_now = journal.owed(AccountKey("advance", advance.currency, owner, contract.code))
    gone = advance.cancellations.aggregate(sum=Sum("amount", default=0))["sum"]
    later = AdvanceProposal.objects.filter(
        contract=contract, currency=advance.currency, state=AdvanceProposal.State.GRANTED, entry__gt=advance.entry_id
    )
    of_later = sum(row.amount for row in later) - sum(
        row.amount or 0 for row in AdvanceCancellation.objects.filter(advance__in=later)
    )
    left = min(advance.amount - gone, max(0, open_now - of_later))
    (payable,) = journal.open_accounts([AccountKey("contributor_payable", advance.currency, owner)])
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT ledger_paid_since(%(entry)s, %(account)s, false), ledger_paid_since(%(entry)s, %(account)s, true)",
            {"entry": advance.entry_id, "account": payable},
        )
        taken, arrived = cursor.fetchone()
    if taken is None:
        return left, Way.TAKE_BACK
    return left, None if arrived is None else Way.WRITE_OFF


@logged("advance", "pk", "way", "reason", "state", key="advance_id")
def propose_cancellation(
    *, advance: AdvanceProposal, way: str, reason: str, by: User, at: datetime
) -> AdvanceCancellation:
    """Propose to cancel the open part of a granted advance; another person approves it. `way`: see `cancellable`.
    Raises UnableToCancelAdvance; no row is written.
    """
    reason = reason.strip()
    if refusal := lacks_role(by=by, roles=PROPOSERS):
        raise UnableToCancelAdvance(refusal)
    if not reason or len(reason) > 300:
        raise UnableToCancelAdvance("Say in 1 to 300 characters why it is cancelled.")
    if advance.state != AdvanceProposal.State.GRANTED:
        raise UnableToCancelAdvance(f"The advance is {advance.state}; only a granted one is cancelled.")
    _cancellable(advance, way)
    try:
        with transaction.atomic():
            return AdvanceCancellation.objects.create(
                advance=advance, way=way, reason=reason, proposed_by=by, proposed_at=at
            )
    except IntegrityError as error:
        raise UnableToCancelAdvance("Somebody proposed so already; decide on that first.") from error


def _cancellable(advance: AdvanceProposal, way: str) -> int:
    left, possible = cancellable(advance)
    if left == 0:
        raise UnableToCancelAdvance("Nothing of it is open: it is earned back or cancelled.")
    if possible is None:
        raise UnableToCancelAdvance("A payout that takes it is under way; wait for its end.")
    if way != possible:
        words = (
            "It was paid out, exchanged or handed to the state, so that it is not taken back any more; its open "
            "part can be written off."
            if possible == Way.WRITE_OFF
            else "It is not paid out yet, so that it is taken back and not written off."
        )
        raise UnableToCancelAdvance(words)
    return left


@logged("advance", "pk", "way", "amount", "entry_id", "state", key="advance_id", before="proposed")
def post_cancellation(*, cancellation: AdvanceCancellation, by: User, at: datetime) -> AdvanceCancellation:
    """Cancel the present open part of the advance, as another person proposed. Raises UnableToCancelAdvance, and
    UnableToPost (below-minimum) where the payable went elsewhere; then the proposal stands as it was.
    """
    with transaction.atomic():
        fresh = undecided(cancellation, UnableToCancelAdvance)
        if fresh.proposed_by_id == by.pk:
            raise UnableToCancelAdvance("You proposed this, so somebody else has to do it.")
        advance = AdvanceProposal.objects.select_related("contract").get(pk=fresh.advance_id)
        contract = advance.contract
        if refusal := why_not_decide(by=by, roles=GRANTERS, at=at, about=[contract.contributor_id]):
            raise UnableToCancelAdvance(refusal)
        day = dated(at)
        # No close recoups it and no payout takes it between here and the entry.
        journal.hold_still()
        amount = _cancellable(advance, fresh.way)
        owner = f"contributor:{contract.contributor_id}"
        payable = AccountKey("contributor_payable", advance.currency, owner)
        bears = payable if fresh.way == Way.TAKE_BACK else AccountKey("programme_cost", advance.currency)
        posted = journal.post(
            kind=EntryKind.CANCEL_ADVANCE,
            idem_key=f"cancel_advance:{fresh.pk}",
            effective=day,
            lines=[
                (bears, -amount),
                (AccountKey("advance", advance.currency, owner, contract.code), amount),
            ],
            reference=f"{advance.reference}: {fresh.reason}"[:300],
        )
        return decide(
            fresh,
            AdvanceCancellation.State.POSTED,
            by=by,
            at=at,
            refusal=UnableToCancelAdvance,
            entry_id=posted.entry_id,
            amount=amount,
        )


@logged("advance", "pk", "way", "state", key="advance_id", before="proposed")
def reject_cancellation(*, cancellation: AdvanceCancellation, by: User, at: datetime) -> AdvanceCancellation:
    """Turn a proposal down; its proposer may take it back so."""
    return reject(cancellation, roles=PROPOSERS, by=by, at=at, refusal=UnableToCancelAdvance)
