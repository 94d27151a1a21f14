"""What people do around a run: fund the balance it is paid from, decide what no machine may, close it, sign off."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from contributors.models import User, uuid7
from ledger import operations as ledger
from ledger.money import from_minor
from payouts import gateway
from payouts.models import Difference, Payout, PayoutAttempt, PayoutRun, TopUp
from payouts.operations.audit import (
    ADMIN,
    CHECKER,
    COMPLIANCE,
    MAKER,
    NOBODY,
    Presence,
    audit,
    require_fresh_factor,
    require_role,
    require_settled_role,
    require_stranger,
)
from payouts.operations.pace import LIVE, Pace
from payouts.operations.recording import attempt_of, record_transfer, void_attempt
from payouts.operations.runs import lock


class UnableToFund(Exception):
    """Stripe did not take the top-up."""

    status = 422
    problem = "top-up-not-made"


class UnableToDecide(Exception):
    """The payout does not wait for a person, or Stripe says otherwise."""

    status = 409
    problem = "payout-not-decided"


class UnableToClose(Exception):
    """The run is not reconciled."""

    status = 409
    problem = "run-not-closed"


class UnableToSignOff(Exception):
    """The difference has ended, lacks a note, or is of a run that this person created."""

    status = 409
    problem = "difference-not-signed-off"


def fund_platform(
    *,
    currency: str,
    amount_minor: int,
    by: User,
    at: datetime,
    public_id: UUID | None = None,
    seen: Presence = NOBODY,
) -> TopUp:
    """Move money from the programme's bank to its Stripe balance, and book it once Stripe has it.

    `public_id`: the number that the page gave the top-up, so that a form sent twice asks for one.
    """
    require_role(by, MAKER, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    if amount_minor <= 0:
        raise UnableToFund("A top-up must be positive.")
    with transaction.atomic(durable=True):
        topup, made = TopUp.objects.get_or_create(
            public_id=public_id or uuid7(),
            defaults={"currency": currency, "amount_minor": amount_minor, "requested_by": by, "requested_at": at},
        )
        if (topup.currency, topup.amount_minor, topup.requested_by_id) != (currency, amount_minor, by.pk):
            raise UnableToFund("This top-up was asked for with another amount; open the page anew.")
        if made:
            audit(
                by=by, action="fund_platform", subject=f"top_up:{topup.public_id}", at=at, seen=seen,
                after={"currency": currency, "amount_minor": amount_minor},
            )  # fmt: skip
    if topup.state == TopUp.State.FAILED:
        raise UnableToFund(f"This top-up failed: {topup.error_message} Open the page anew for another.")
    if topup.state == TopUp.State.SUCCEEDED:
        return topup
    return finish_top_up(topup=topup, at=at)


def finish_top_up(*, topup: TopUp, at: datetime) -> TopUp:
    """Ask Stripe for a top-up that was written down, under its one key, and book the answer. Repeatable."""
    try:
        made = gateway.create_topup(
            amount_minor=topup.amount_minor, currency=topup.currency, description="Royalty payouts",
            idempotency_key=f"topup_{topup.public_id.hex}",
        )  # fmt: skip
    except gateway.UnableToUseStripe as error:
        if error.verdict.outcome == gateway.Outcome.REFUSED:
            TopUp.objects.filter(pk=topup.pk, state=TopUp.State.REQUESTED).update(
                state=TopUp.State.FAILED, error_message=str(error)[:500]
            )
        raise UnableToFund(f"Stripe did not take the top-up: {error}") from error
    return apply_top_up(topup=topup, made=made, at=at)


@transaction.atomic
def apply_top_up(*, topup: TopUp, made: gateway.ToppedUp, at: datetime) -> TopUp:
    """Book a top-up as Stripe reports it: once it succeeded, and once only."""
    topup = TopUp.objects.select_for_update(no_key=True).get(pk=topup.pk)
    if topup.state != TopUp.State.REQUESTED:
        return topup
    topup.provider_topup_id = made.id
    if made.state in ("failed", "canceled", "reversed"):
        topup.state = TopUp.State.FAILED
        topup.error_message = f"Stripe reports it as {made.state}."
    elif made.state == "succeeded":
        topup.entry = ledger.top_up_stripe(
            amount=from_minor(topup.amount_minor, topup.currency), currency=topup.currency, reference=made.id, at=at
        ).entry_id
        topup.state = TopUp.State.SUCCEEDED
    topup.save(update_fields=["state", "provider_topup_id", "entry", "error_message"])
    return topup


def decide_unknown(
    *,
    payout: Payout,
    paid_transfer_id: str | None,
    by: User,
    note: str,
    at: datetime,
    seen: Presence = NOBODY,
    pace: Pace = LIVE,
) -> Payout:
    """A person says what became of a payout whose answer is missing after the safe window: this transfer, or nothing.

    "Nothing" is believed only when Stripe lists no transfer of the payout at this moment either.
    """
    require_role(by, CHECKER, COMPLIANCE, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    require_stranger(by, payout.contributor_id)
    if payout.needs_person_since is None or not note.strip():
        raise UnableToDecide("The payout does not wait for a person, or the note is missing.")
    try:
        found = gateway.find_transfers(payout.transfer_group)
    except gateway.UnableToUseStripe as error:
        raise UnableToDecide(f"Stripe could not be asked: {error}") from error
    named = next((transfer for transfer in found if transfer.id == paid_transfer_id), None)
    if paid_transfer_id is not None and named is None:
        raise UnableToDecide(f"Stripe lists no transfer {paid_transfer_id} of this payout.")
    if paid_transfer_id is None and found:
        raise UnableToDecide(f"Stripe lists {found[0].id} for this payout: it was paid.")
    with transaction.atomic():
        locked = Payout.objects.select_for_update(no_key=True).get(pk=payout.pk)
        attempt = locked.attempts.select_for_update(no_key=True).get(
            kind=PayoutAttempt.Kind.PAY,
            state__in=[PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN, PayoutAttempt.State.SUCCEEDED],
        )
        audit(
            by=by, action="decide_unknown", subject=f"payout:{payout.public_id}", at=at, seen=seen,
            after={"transfer": paid_transfer_id or "none", "note": note.strip()[:500]},
        )  # fmt: skip
        if named is not None:
            chosen = attempt_of(locked.pk, named)
            assert chosen is not None
            record_transfer(attempt_id=chosen, transfer=named, at=at)
        elif attempt.state != PayoutAttempt.State.SUCCEEDED:
            if attempt.state == PayoutAttempt.State.SENT:
                attempt.state, locked.state = PayoutAttempt.State.UNKNOWN, Payout.State.UNKNOWN
                attempt.save(update_fields=["state"])
                locked.save(update_fields=["state"])
            void_attempt(payout=locked, attempt=attempt, at=at, pace=pace)
    payout.refresh_from_db()
    return payout


@transaction.atomic
def close_run(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """File a reconciled run: nothing about it changes any more."""
    require_role(by, MAKER, CHECKER, ADMIN)
    run = lock(run)
    if run.state != PayoutRun.State.RECONCILED:
        raise UnableToClose(f"The run is {run.get_state_display().lower()}, not reconciled.")
    run.state, run.closed_by, run.closed_at = PayoutRun.State.CLOSED, by, at
    run.save(update_fields=["state", "closed_by", "closed_at"])
    audit(by=by, action="close_run", subject=f"run:{run.public_id}", at=at, seen=seen)
    return run


@transaction.atomic
def sign_off(*, difference: Difference, by: User, note: str, at: datetime, seen: Presence = NOBODY) -> Difference:
    """Accept a difference with an explanation: by somebody other than the run's creator."""
    require_role(by, CHECKER, COMPLIANCE, ADMIN)
    require_fresh_factor(seen)
    difference = (
        Difference.objects.select_for_update(of=("self",), no_key=True).select_related("run").get(pk=difference.pk)
    )
    if difference.state != Difference.State.OPEN:
        raise UnableToSignOff("The difference has ended already.")
    if not note.strip():
        raise UnableToSignOff("Say what explains it.")
    if difference.run is not None and difference.run.created_by_id == by.pk:
        raise UnableToSignOff("Whoever created a run does not sign off its differences.")
    difference.state, difference.signed_off_by = Difference.State.SIGNED_OFF, by
    difference.note, difference.ended_at = note.strip()[:1000], at
    difference.save(update_fields=["state", "signed_off_by", "note", "ended_at"])
    audit(
        by=by, action="sign_off", subject=f"difference:{difference.public_id}", at=at, seen=seen,
        after={"note": difference.note},
    )  # fmt: skip
    return difference
