"""The steps of people around a run: decide a payout that no machine may decide, close the run, sign off."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from contributors.operations.deciding import require_stranger
from payouts.attempts.pace import LIVE, Pace
from payouts.attempts.recording import attempt_of, record_transfer, void_attempt
from payouts.models import Difference, Payout, PayoutAttempt, PayoutRun
from payouts.operations.reversals import record_reversal, transfer_id_of, void_reversal
from payouts.operations.runs import lock
from payouts.rails.stripe import calls, errors
from people.actor import (
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
)
from people.models import User
from people.operations.trial import second_half


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
    """Record a person's decision on a payout without an answer after the safe window: this transfer, or nothing.

    "Nothing" is believed only when Stripe lists no transfer of the payout at this moment either, but for one that was
    taken back whole. Where it is a reversal that has no answer, Stripe's list of the transfer's reversals decides.
    Raises UnableToDecide also for a transfer that differs from the approved one: it is reversed at Stripe first.
    """
    require_role(by, CHECKER, COMPLIANCE, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    require_stranger(by, payout.contributor_id)
    if payout.needs_person_since is None or not note.strip():
        raise UnableToDecide("The payout does not wait for a person, or the note is missing.")
    if payout.state in Payout.PAID:
        return _decide_reversal(payout, by=by, note=note, at=at, seen=seen)
    try:
        found = calls.find_transfers(payout.transfer_group)
    except errors.UnableToUseStripe as error:
        raise UnableToDecide(f"Stripe could not be asked: {error}") from error
    named = next((transfer for transfer in found if transfer.id == paid_transfer_id), None)
    if paid_transfer_id is not None and named is None:
        raise UnableToDecide(f"Stripe lists no transfer {paid_transfer_id} of this payout.")
    if paid_transfer_id is None and (kept := [transfer for transfer in found if not transfer.came_back]):
        raise UnableToDecide(f"Stripe lists {kept[0].id} for this payout: it was paid.")
    with transaction.atomic():
        # An odd transfer stops the run, and runs are locked before payouts.
        lock(payout.run)
        locked = Payout.objects.select_for_update(no_key=True).get(pk=payout.pk)
        attempt = _without_answer(locked, PayoutAttempt.Kind.PAY)
        if locked.needs_person_since is None or attempt is None:
            raise UnableToDecide("The payout no longer waits for a person; look at it again.")
        is_decided = True
        if named is not None:
            chosen = attempt_of(locked.pk, named)
            assert chosen is not None
            is_decided = record_transfer(attempt_id=chosen, transfer=named, at=at)
        else:
            if attempt.state == PayoutAttempt.State.SENT:
                attempt.state, locked.state = PayoutAttempt.State.UNKNOWN, Payout.State.UNKNOWN
                attempt.save(update_fields=["state"])
                locked.save(update_fields=["state"])
            void_attempt(payout=locked, attempt=attempt, at=at, pace=pace)
        if is_decided:
            audit(
                by=by,
                action="decide_unknown",
                subject=f"payout:{payout.public_id}",
                at=at,
                seen=seen,
                after={"transfer": paid_transfer_id or "none", "note": note.strip()[:500]},
            )
    if not is_decided:
        raise UnableToDecide(
            f"{paid_transfer_id} differs from the approval, and is not booked. Take it back at Stripe, whole; then say "
            "that there is none."
        )
    payout.refresh_from_db()
    return payout


def _without_answer(payout: Payout, kind: PayoutAttempt.Kind) -> PayoutAttempt | None:
    underway = [PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN]
    return payout.attempts.select_for_update(no_key=True).filter(kind=kind, state__in=underway).first()


def _decide_reversal(payout: Payout, *, by: User, note: str, at: datetime, seen: Presence) -> Payout:
    """Book the reversals that Stripe lists; where ours is not among them, it took nothing back."""
    try:
        found = calls.list_reversals(transfer_id_of(payout))
    except errors.UnableToUseStripe as error:
        raise UnableToDecide(f"Stripe could not be asked: {error}") from error
    for reversal in found:
        record_reversal(payout_id=payout.pk, reversal=reversal, at=at)
    with transaction.atomic():
        locked = Payout.objects.select_for_update(no_key=True).get(pk=payout.pk)
        if (attempt := _without_answer(locked, PayoutAttempt.Kind.REVERSAL)) is not None:
            void_reversal(attempt, at=at)
        locked.needs_person_since = locked.next_try_at = None
        locked.save(update_fields=["needs_person_since", "next_try_at"])
        audit(
            by=by,
            action="decide_unknown",
            subject=f"payout:{payout.public_id}",
            at=at,
            seen=seen,
            after={"reversal": "found" if attempt is None else "none", "note": note.strip()[:500]},
        )
    payout.refresh_from_db()
    return payout


@transaction.atomic
def close_run(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """File a reconciled run: nothing about it changes any more. Raises UnableToClose for a run in another state."""
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
    """Accept a difference with an explanation, by somebody other than the run's creator.

    Raises UnableToSignOff for a difference that has ended, without an explanation, and for the run's creator.
    """
    require_role(by, CHECKER, COMPLIANCE, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    difference = (
        Difference.objects.select_for_update(of=("self",), no_key=True)
        .select_related("run", "payout")
        .get(pk=difference.pk)
    )
    if difference.state != Difference.State.OPEN:
        raise UnableToSignOff("The difference has ended already.")
    if not note.strip():
        raise UnableToSignOff("Give the explanation.")
    if difference.run is not None:
        by = second_half(by, (difference.run.created_by_id,))
    if difference.run is not None and difference.run.created_by_id == by.pk:
        raise UnableToSignOff("The creator of a run does not sign off its differences.")
    if difference.payout is not None:
        require_stranger(by, difference.payout.contributor_id)
    difference.state, difference.signed_off_by = Difference.State.SIGNED_OFF, by
    difference.note, difference.ended_at = note.strip()[:1000], at
    difference.save(update_fields=["state", "signed_off_by", "note", "ended_at"])
    audit(
        by=by,
        action="sign_off",
        subject=f"difference:{difference.public_id}",
        at=at,
        seen=seen,
        after={"note": difference.note},
    )
    return difference
