"""Reversing a transfer, and booking the returned money, also of reversals made by others.

The same order as paying: the attempt is written down and committed before anything is sent. After any doubt Stripe's
list of the transfer's reversals is read before anything is sent again.
"""

from __future__ import annotations

import uuid
from datetime import datetime

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from contributors.operations.deciding import require_stranger
from ledger.money import asset, from_minor
from ledger.operations import payouts
from payouts.attempts.pace import LIVE, Clock, Pace, after, database_clock
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import Difference, Notice, Payout, PayoutAttempt, Rail, Reversal
from payouts.operations.differences import open_difference
from payouts.rails.stripe import calls, client, errors, values
from payouts.rails.stripe.errors import Outcome
from people.actor import (
    ADMIN,
    CHECKER,
    NOBODY,
    Presence,
    audit,
    require_fresh_factor,
    require_role,
    require_settled_role,
)
from people.models import User
from people.presentation import amounts

log = structlog.get_logger(__name__)

REVERSIBLE = (
    Payout.State.TRANSFERRED,
    Payout.State.SETTLED,
    Payout.State.BANK_FAILED,
    Payout.State.PARTIALLY_REVERSED,
)


class UnableToReverse(Exception):
    """The payout was not paid, the amount is more than is left, or a reversal is under way."""

    status = 409
    problem = "payout-not-reversed"


def reverse_payout(
    *,
    payout: Payout,
    amount_minor: int,
    by: User,
    reason: str,
    at: datetime,
    known_left: int | None = None,
    seen: Presence = NOBODY,
) -> PayoutAttempt:
    """Take `amount_minor` (minor units) of a paid payout back. Returns the attempt; the sweep finishes an attempt
    without an answer.

    `known_left`: the remainder that the page showed; where some came back since, nothing is done. A form that is sent
    twice then takes a part back once.

    Raises UnableToReverse while payouts are frozen, without a reason, and for a bank transfer. Raises it also for an
    unpaid payout, a changed remainder, more than the remainder, and a reversal under way.
    """
    require_role(by, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    require_stranger(by, payout.contributor_id)
    if settings.PAYOUTS_FROZEN:
        raise UnableToReverse("Payouts are frozen for the whole installation (PAYOUTS_FROZEN).")
    if not reason.strip():
        raise UnableToReverse("Say why; the contributor reads it.")
    with transaction.atomic(durable=True):
        payout = Payout.objects.select_for_update(no_key=True).get(pk=payout.pk)
        left = payout.amount_minor - payout.reversed_minor
        if payout.rail != Rail.STRIPE_TRANSFER:
            raise UnableToReverse("A bank transfer cannot be reversed; record the bank's return if it comes back.")
        if payout.state not in REVERSIBLE:
            raise UnableToReverse(f"The payout is {payout.get_state_display().lower()}; there is nothing to take back.")
        if known_left is not None and known_left != left:
            raise UnableToReverse("Some of it came back since you opened the page; look at it again.")
        if not 0 < amount_minor <= left:
            raise UnableToReverse("More than is left of the transfer cannot be reversed.")
        underway = [PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN]
        if payout.attempts.filter(kind=PayoutAttempt.Kind.REVERSAL, state__in=underway).exists():
            raise UnableToReverse("A reversal of this payout is under way.")
        number = payout.attempts.count() + 1
        key = f"{payout.transfer_group}_{number}_reversal"
        request = calls.reversal_request(
            amount_minor=amount_minor, metadata={"payout": payout.public_id.hex, "attempt": str(number)}
        )
        attempt = PayoutAttempt.objects.create(
            payout=payout,
            number=number,
            kind=PayoutAttempt.Kind.REVERSAL,
            provider=payout.rail,
            idempotency_key=key,
            amount_minor=amount_minor,
            request=request.body,
            request_sha256=request.sha256,
            first_sent_at=at,
            requested_by=by,
        )
        payout.lease_until, payout.lease_token = after(at, LIVE.lease), uuid.uuid4()
        payout.save(update_fields=["lease_until", "lease_token"])
        audit(
            by=by,
            action="reverse_payout",
            subject=f"payout:{payout.public_id}",
            at=at,
            seen=seen,
            after={"amount_minor": amount_minor, "reason": reason.strip()[:500], "attempt": key},
        )
    crashpoint(CrashPoint.REVERSAL_COMMITTED)
    _send(attempt, at=at, pace=LIVE)
    attempt.refresh_from_db()
    return attempt


def transfer_id_of(payout: Payout) -> str:
    """Return Stripe's id of the transfer of a paid payout."""
    paid = payout.attempts.get(kind=PayoutAttempt.Kind.PAY, state=PayoutAttempt.State.SUCCEEDED)
    assert paid.provider_transfer_id is not None
    return paid.provider_transfer_id


def _send(attempt: PayoutAttempt, *, at: datetime, pace: Pace) -> None:
    payout = attempt.payout
    try:
        reversal = calls.reverse_transfer(
            transfer_id_of(payout),
            values.TransferRequest(attempt.request),
            idempotency_key=attempt.idempotency_key,
            deadline=client.boot_clock() + pace.lease - pace.send_margin,
        )
    except errors.UnableToUseStripe as error:
        crashpoint(CrashPoint.REVERSAL_ANSWERED)
        _record_failure(attempt, error, at=at, pace=pace)
    else:
        crashpoint(CrashPoint.REVERSAL_ANSWERED)
        record_reversal(payout_id=payout.pk, reversal=reversal, at=at)


@transaction.atomic
def _record_failure(attempt: PayoutAttempt, error: errors.UnableToUseStripe, *, at: datetime, pace: Pace) -> None:
    payout = Payout.objects.select_for_update(no_key=True).get(pk=attempt.payout_id)
    attempt = PayoutAttempt.objects.select_for_update(no_key=True).get(pk=attempt.pk)
    if attempt.state not in (PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN):
        return
    # Every other time that it may have gone on the wire, Stripe said that it did nothing, and nothing is unknown.
    is_whole_story = attempt.state == PayoutAttempt.State.SENT and attempt.sends == attempt.sends_not_executed + 1
    attempt.http_status, attempt.error_code = error.http_status, error.code[:100]
    attempt.error_message = str(error)[:500]
    wait = pace.no_answer_quiet
    match error.verdict.outcome:
        case Outcome.NOT_EXECUTED:
            attempt.sends_not_executed += 1
        case Outcome.IN_FLIGHT:
            pass
        case Outcome.REFUSED if is_whole_story:
            attempt.state, attempt.finished_at = PayoutAttempt.State.REFUSED, at
        case Outcome.REFUSED if error.http_status in (401, 403):
            # It says something about our key, and nothing about the effect of an earlier send.
            wait = pace.look_up_again
        case outcome:
            attempt.state = PayoutAttempt.State.UNKNOWN
            if error.is_stored or outcome == Outcome.REFUSED:
                attempt.failure_stored_at = attempt.failure_stored_at or at
                wait = pace.second_look_up
            elif error.http_status:
                wait = pace.server_error_quiet
    attempt.save()
    payout.lease_until = payout.lease_token = None
    payout.next_try_at = after(at, wait)
    payout.save(update_fields=["lease_until", "lease_token", "next_try_at"])


def recover_reversals(*, clock: Clock = database_clock, pace: Pace = LIVE, limit: int = 100) -> int:
    """Finish the reversals that lack an answer. Returns how many were looked at."""
    underway = [PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN]
    handled = 0
    while handled < limit:
        with transaction.atomic(durable=True):
            now = clock()
            attempt = (
                PayoutAttempt.objects.filter(
                    Q(payout__lease_until__isnull=True) | Q(payout__lease_until__lte=now),
                    Q(payout__next_try_at__isnull=True) | Q(payout__next_try_at__lte=now),
                    kind=PayoutAttempt.Kind.REVERSAL,
                    state__in=underway,
                    payout__needs_person_since__isnull=True,
                )
                .select_for_update(skip_locked=True, of=("self", "payout"), no_key=True)
                .select_related("payout")
                .order_by("pk")
                .first()
            )
            if attempt is None:
                return handled
            payout = attempt.payout
            payout.lease_until, payout.lease_token = after(now, pace.lease), uuid.uuid4()
            payout.save(update_fields=["lease_until", "lease_token"])
        handled += 1
        _recover(attempt, clock=clock, pace=pace)
    return handled


def _recover(attempt: PayoutAttempt, *, clock: Clock, pace: Pace) -> None:
    try:
        found = calls.list_reversals(transfer_id_of(attempt.payout))
    except errors.UnableToUseStripe as error:
        # It says nothing about the effect of the send.
        log.warning("reversal_look_up_failed", attempt=attempt.idempotency_key, error=str(error))
        Payout.objects.filter(pk=attempt.payout_id, lease_token=attempt.payout.lease_token).update(
            lease_until=None, lease_token=None, next_try_at=after(clock(), pace.no_answer_quiet)
        )
        return
    for reversal in found:
        record_reversal(payout_id=attempt.payout_id, reversal=reversal, at=clock())
    with transaction.atomic(durable=True):
        payout = Payout.objects.select_for_update(no_key=True).get(pk=attempt.payout_id)
        attempt = PayoutAttempt.objects.select_for_update(no_key=True).get(pk=attempt.pk)
        if attempt.state not in (PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN):
            return
        now = clock()
        is_dead = (
            attempt.failure_stored_at is not None
            and attempt.empty_look_up_at is not None
            and (now - max(attempt.failure_stored_at, attempt.empty_look_up_at)).total_seconds() >= pace.second_look_up
        )
        attempt.empty_look_up_at = attempt.empty_look_up_at or now
        send = False
        if is_dead:
            # Its key will only ever repeat a failure, and two look-ups found nothing: nothing was taken back.
            void_reversal(attempt, at=now)
        elif attempt.failure_stored_at is None and (now - attempt.first_sent_at).total_seconds() < pace.safe_replay:
            send = not settings.PAYOUTS_FROZEN
        elif attempt.failure_stored_at is None:
            payout.needs_person_since = now
        if send:
            attempt.sends = F("sends") + 1
        else:
            payout.lease_until = payout.lease_token = None
            payout.next_try_at = None if is_dead else after(now, pace.second_look_up)
        attempt.save(update_fields=["empty_look_up_at", "sends"])
        payout.save(update_fields=["lease_until", "lease_token", "next_try_at", "needs_person_since"])
    if send:
        attempt.refresh_from_db()
        _send(attempt, at=now, pace=pace)


def void_reversal(attempt: PayoutAttempt, *, at: datetime) -> None:
    """Close a locked attempt of which nothing was executed."""
    # The arrows lead there through the missing answer.
    attempt.state, attempt.finished_at = PayoutAttempt.State.UNKNOWN, at
    attempt.save(update_fields=["state"])
    attempt.state = PayoutAttempt.State.VOID
    attempt.save(update_fields=["state", "finished_at"])


@transaction.atomic
def record_reversal(*, payout_id: int, reversal: values.TransferReversal, at: datetime) -> bool:
    """Money came back. Once for each reversal id; ours or somebody else's at Stripe, which becomes a difference.

    Only money that came back of the transfer that paid the payout is owed again. Another transfer of its group was
    never booked, so neither is its reversal: that is a difference only.
    """
    payout = Payout.objects.select_for_update(of=("self",), no_key=True).select_related("run").get(pk=payout_id)
    if Reversal.objects.filter(provider_reversal_id=reversal.id).exists():
        return False
    if not payout.attempts.filter(
        kind=PayoutAttempt.Kind.PAY, state=PayoutAttempt.State.SUCCEEDED, provider_transfer_id=reversal.transfer
    ).exists():
        _unexpected(payout, reversal, "A transfer that did not pay this payout was reversed; nothing is booked.", at)
        return False
    attempt = _attempt_of(payout, reversal)
    before, payout.reversed_minor = payout.reversed_minor, payout.reversed_minor + reversal.amount_minor
    is_whole = payout.reversed_minor == payout.amount_minor
    payout.state = Payout.State.REVERSED if is_whole else Payout.State.PARTIALLY_REVERSED
    payout.lease_until = payout.lease_token = payout.next_try_at = None
    if attempt is not None:
        payout.needs_person_since = None
    payout.save(
        update_fields=["state", "reversed_minor", "lease_until", "lease_token", "next_try_at", "needs_person_since"]
    )
    if attempt is not None:
        attempt.state, attempt.finished_at = PayoutAttempt.State.SUCCEEDED, at
        attempt.provider_reversal_id, attempt.balance_transaction = reversal.id, reversal.balance_transaction
        attempt.save(update_fields=["state", "finished_at", "provider_reversal_id", "balance_transaction"])
    else:
        _unexpected(payout, reversal, "A transfer was reversed, and nobody here asked for it.", at)
    returned = amounts.text_of_minor(reversal.amount_minor, asset(payout.currency))
    Notice.objects.create(
        contributor_id=payout.contributor_id,
        kind="payout_reversed",
        subject=f"reversal:{reversal.id}",
        title=f"{returned} of a payment was reversed",
        words=f"{returned} of a payment to you was reversed. Your account shows your balance.",
        created_at=at,
    )
    # The tax that belongs to the returned amount: the tax on all reversals together, less the tax that was given back
    # before.
    tax = payout.tax_minor * payout.reversed_minor // payout.amount_minor
    tax -= payout.tax_minor * before // payout.amount_minor
    entry = payouts.record_transfer_reversal(
        contributor_id=payout.contributor_id,
        currency=payout.currency,
        amount=from_minor(reversal.amount_minor, payout.currency),
        reversal_id=reversal.id,
        at=at,
    )
    if tax:
        payouts.reverse_withholding(
            contributor_id=payout.contributor_id,
            currency=payout.currency,
            amount=from_minor(tax, payout.currency),
            reversal_id=reversal.id,
            at=at,
            jurisdiction=payout.tax_jurisdiction,
        )
    Reversal.objects.create(
        payout=payout,
        attempt=attempt,
        provider_reversal_id=reversal.id,
        amount_minor=reversal.amount_minor,
        balance_transaction=reversal.balance_transaction,
        entry=entry,
        created_at=at,
    )
    return True


def _unexpected(payout: Payout, reversal: values.TransferReversal, words: str, at: datetime) -> None:
    open_difference(
        type_=Difference.Type.UNEXPECTED_REVERSAL,
        run=payout.run,
        payout=payout,
        currency=payout.currency,
        subject=reversal.id,
        found=str(reversal.amount_minor),
        words=words,
        at=at,
    )


def _attempt_of(payout: Payout, reversal: values.TransferReversal) -> PayoutAttempt | None:
    number = reversal.metadata.get("attempt", "")
    if reversal.metadata.get("payout") != payout.public_id.hex or not number.isdecimal():
        return None
    return (
        payout.attempts.select_for_update(no_key=True)
        .filter(
            kind=PayoutAttempt.Kind.REVERSAL,
            number=int(number),
            state__in=[PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN],
        )
        .first()
    )
