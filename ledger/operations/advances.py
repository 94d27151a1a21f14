"""Advances: proposed by one person of finance under a contract, approved by another. An approved advance becomes
payable, an ordinary payout pays it, and the closes that follow recoup it from the contributor's earnings.

The part that is not earned back can be cancelled, by two people again. Before a payout took it, it is taken out of the
payable. Afterwards the money is the contributor's, and the open part of it is written off. The part that was earned
back stays.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Sum
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from contributors.operations.deciding import acts_for
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import AdvanceCancellation, AdvanceProposal, Contract, EntryKind
from ledger.money import ASSETS, UNITS_MAX, asset, whole_minor
from ledger.operations.periods import dated
from ledger.queries.account_words import entry_link
from ledger.queries.contract_words import terms_in_words
from ledger.queries.contracts import versions_in_force
from people.models import User
from people.operations.proposals import propose
from people.presentation import amounts
from people.queries.proposals import Facts, ProposalKind

Way = AdvanceCancellation.Way


class UnableToProposeAdvance(Exception):
    """The amount is none that can be paid, the reason or the reference is missing, or an equal proposal waits."""

    status = 422
    problem = "advance-invalid"


class UnableToCancelAdvance(Exception):
    """Nothing of it is open, or not in this way; it is decided already, or the person may not decide it."""

    status = 409
    problem = "advance-not-cancellable"


def propose_advance(
    *, contract: Contract, amount: int, currency: str, reason: str, reference: str, by: User, at: datetime
) -> AdvanceProposal:
    """Propose an advance for somebody else to approve; `amount` in units of the currency.

    Raises UnableToProposeAdvance with the reason; no row is written.
    """
    reason, reference = reason.strip(), reference.strip()
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
    return propose(KIND, row)


def _grant(advance: AdvanceProposal, by: User, at: datetime) -> dict[str, Any]:
    """Make the advance payable."""
    contract = advance.contract
    owner = f"contributor:{contract.contributor_id}"
    posted = journal.post(
        kind=EntryKind.GRANT_ADVANCE,
        idem_key=f"advance:{advance.pk}",
        effective=dated(at),
        lines=[
            (AccountKey("advance", advance.currency, owner, contract.code), -advance.amount),
            (AccountKey("contributor_payable", advance.currency, owner), advance.amount),
        ],
        reference=f"{advance.reference}: {advance.reason}"[:300],
    )
    return {"entry_id": posted.entry_id}


def _facts(advance: AdvanceProposal) -> Facts:
    """List the proposed facts, the contributor's balances, and the earnings that will repay the advance."""
    contract, currency = advance.contract, asset(advance.currency)
    owner = f"contributor:{contract.contributor_id}"
    open_before = AccountKey("advance", advance.currency, owner, contract.code)
    payable = AccountKey("contributor_payable", advance.currency, owner)
    balances = journal.balances([open_before, payable])
    waiting = contract.advance_proposals.filter(state="proposed", currency=advance.currency).exclude(pk=advance.pk)
    others = waiting.aggregate(sum=Sum("amount", default=0))["sum"]
    today = timezone.now().date()
    in_force = versions_in_force(today.year * 100 + today.month, [contract.contributor_id])
    terms = next((row for row in in_force if row.contract_id == contract.pk), None)
    is_granted = advance.state == AdvanceProposal.State.APPROVED
    open_words = "Open under this contract" if is_granted else "Open before it"
    contract_url = reverse("ledger:contract", args=[contract.pk])
    return [
        ("Contract", format_html('<a href="{}">{}</a>', contract_url, contract.title)),
        ("Evidence", advance.reference),
        (open_words, amounts.html(-balances[open_before], currency)),
        ("Also proposed", f"{amounts.text(others, currency)}, under this contract, undecided" if others else ""),
        ("Payable now", amounts.html(balances[payable], currency)),
        (
            "Earned back",
            dict(terms_in_words(terms))["Advances"]
            if terms
            else "The contract has no terms in force: from all of the contributor's earnings.",
        ),
        ("Entry", entry_link(advance.entry_id)),
    ]


def _title(advance: AdvanceProposal) -> str:
    return f"Advance of {amounts.text(advance.amount, asset(advance.currency))} to {advance.contract.contributor}"


KIND = ProposalKind(
    key="advance",
    model=AdvanceProposal,
    name="advance",
    heading="Advances",
    mail="An advance waits for a second person",
    apply=_grant,
    conflict=lambda row, by: acts_for(by=by, contributors=[row.contract.contributor_id]),
    refusal=UnableToProposeAdvance,
    unique="an_equal_advance_is_proposed_once_at_a_time",
    title=_title,
    summary=lambda row: row.reason,
    facts=_facts,
    effect="It is payable at once, and the next payout run pays it. The contributor's later earnings repay it. Two "
    "people can reverse its open part until a payout takes it. Afterwards they can only write that part off.",
    approved=lambda row: f"Approved, and payable by entry {row.entry_id}. The next payout run pays it.",
    page=lambda row: reverse("ledger:advance", args=[row.pk]),
    parent=("Advances", "ledger:advances"),
    subject=lambda row: f"advance:{row.pk}",
    fields=("contract_id", "currency", "amount", "reason", "reference", "entry_id"),
    related=("contract__contributor",),
)


# --- cancelled ----------------------------------------------------------------------------------------------------
def cancellable(advance: AdvanceProposal) -> tuple[int, Way | None]:
    """Return the amount of an approved advance that can still be cancelled, in units, and the way.

    It is the part neither earned back nor cancelled. It is reversed while no payout took it, written off after one did;
    the way is None while that payout is under way.

    Advances under one contract in one currency are earned back together, the oldest first.
    """
    contract = advance.contract
    owner = f"contributor:{contract.contributor_id}"
    open_now = journal.owed(AccountKey("advance", advance.currency, owner, contract.code))
    gone = advance.cancellations.aggregate(sum=Sum("amount", default=0))["sum"]
    later = AdvanceProposal.objects.filter(
        contract=contract, currency=advance.currency, state=AdvanceProposal.State.APPROVED, entry__gt=advance.entry_id
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


def propose_cancellation(
    *, advance: AdvanceProposal, way: str, reason: str, by: User, at: datetime
) -> AdvanceCancellation:
    """Propose to cancel the open part of an approved advance; another person approves it. `way`: see `cancellable`.
    Raises UnableToCancelAdvance; no row is written.
    """
    reason = reason.strip()
    if not reason or len(reason) > 300:
        raise UnableToCancelAdvance("Say in 1 to 300 characters why it is cancelled.")
    if advance.state != AdvanceProposal.State.APPROVED:
        raise UnableToCancelAdvance(f"The advance is {advance.state}; only an approved one is cancelled.")
    _cancellable(advance, way)
    row = AdvanceCancellation(advance=advance, way=way, reason=reason, proposed_by=by, proposed_at=at)
    return propose(CANCELLATION_KIND, row)


def _cancellable(advance: AdvanceProposal, way: str) -> int:
    left, possible = cancellable(advance)
    if left == 0:
        raise UnableToCancelAdvance("Nothing of it is open: it is earned back or cancelled.")
    if possible is None:
        raise UnableToCancelAdvance("A payout that takes it is under way; wait for its end.")
    if way != possible:
        words = (
            "It was paid out, exchanged or handed to the state, so that it is not reversed any more; its open "
            "part can be written off."
            if possible == Way.WRITE_OFF
            else "It is not paid out yet, so that it is reversed and not written off."
        )
        raise UnableToCancelAdvance(words)
    return left


def _cancel(cancellation: AdvanceCancellation, by: User, at: datetime) -> dict[str, Any]:
    """Cancel the present open part. Raises UnableToCancelAdvance, and UnableToPost (below-minimum) where the payable
    went elsewhere.
    """
    advance = AdvanceProposal.objects.select_related("contract").get(pk=cancellation.advance_id)
    contract, day = advance.contract, dated(at)
    # No close recoups it and no payout takes it between here and the entry.
    journal.hold_still()
    amount = _cancellable(advance, cancellation.way)
    owner = f"contributor:{contract.contributor_id}"
    payable = AccountKey("contributor_payable", advance.currency, owner)
    bears = payable if cancellation.way == Way.TAKE_BACK else AccountKey("programme_cost", advance.currency)
    posted = journal.post(
        kind=EntryKind.CANCEL_ADVANCE,
        idem_key=f"cancel_advance:{cancellation.pk}",
        effective=day,
        lines=[
            (bears, -amount),
            (AccountKey("advance", advance.currency, owner, contract.code), amount),
        ],
        reference=f"{advance.reference}: {cancellation.reason}"[:300],
    )
    return {"entry_id": posted.entry_id, "amount": amount}


def _cancellation_facts(row: AdvanceCancellation) -> Facts:
    currency = asset(row.advance.currency)
    is_open = row.state == AdvanceCancellation.State.PROPOSED
    amount = cancellable(row.advance)[0] if is_open else row.amount
    return [
        ("Advance", _title(row.advance)),
        ("The open part is", str(row.get_way_display())),
        ("Open part now" if is_open else "Amount", "" if amount is None else amounts.html(amount, currency)),
        ("Entry", entry_link(row.entry_id)),
    ]


CANCELLATION_KIND = ProposalKind(
    key="cancellation",
    model=AdvanceCancellation,
    name="cancellation",
    heading="Cancelled advances",
    mail="The cancellation of an advance waits for a second person",
    apply=_cancel,
    conflict=lambda row, by: acts_for(by=by, contributors=[row.advance.contract.contributor_id]),
    refusal=UnableToCancelAdvance,
    unique="a_cancellation_is_proposed_once_at_a_time",
    equal=lambda row: "Somebody proposed so already; decide on that first.",
    title=lambda row: f"Cancellation of the {_title(row.advance)[0].lower()}{_title(row.advance)[1:]}",
    summary=lambda row: row.reason,
    facts=_cancellation_facts,
    effect="The open part is cancelled. The part that was earned back stays so.",
    approved=lambda row: f"Approved, and cancelled by entry {row.entry_id}.",
    page=lambda row: reverse("ledger:advance", args=[row.advance_id]),
    parent=("Advances", "ledger:advances"),
    subject=lambda row: f"advance:{row.advance_id}",
    fields=("pk", "way", "reason", "amount", "entry_id"),
    related=("advance__contract__contributor",),
)
