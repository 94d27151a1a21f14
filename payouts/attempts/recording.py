"""Writing down how an attempt ended: result, journal entry and notice in one transaction.

Any process that learns of a success records it, with or without the lease. It is recorded once. A refusal or an unknown
answer is recorded only by the worker that still holds the lease, for the attempt that is still current.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from ledger.money import asset, from_minor
from ledger.operations.payouts import Reserve, Success, refuse_payout, succeed_payouts
from payouts.attempts.pace import Pace, after
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import Difference, Hold, HoldReason, Notice, Payout, PayoutAttempt, PayoutRun
from payouts.operations.approval import stop_run
from payouts.operations.differences import is_explained, open_difference
from payouts.operations.holds import UnableToPlaceHold, place_hold
from payouts.queries.balances import LEDGER_RAILS
from payouts.queries.hold_reasons import RULES
from payouts.rails.stripe import errors, values
from payouts.rails.stripe.errors import Action, Outcome
from people.operations import webhooks
from people.presentation import amounts


@dataclass(frozen=True)
class Claim:
    """One payout in one worker's hands."""

    payout_id: int
    run_id: int
    attempt_id: int
    token: UUID
    claimed_at: datetime
    # By gateway.boot_clock: nothing is written to the socket after it.
    deadline: float
    is_recovery: bool


@dataclass(frozen=True)
class _Oddity:
    """Something that no rule explains: the run is frozen, and reconciliation has it on its list."""

    type: Difference.Type
    code: PayoutRun.PauseCode
    subject: str
    expected: str
    found: str
    words: str


class _Freeze(Exception):
    def __init__(self, oddity: _Oddity) -> None:
        super().__init__(oddity.words)
        self.oddity = oddity


def reserve_of(payout: Payout, attempt_key: str) -> Reserve:
    """Build the reserve that takes an attempt's money out of the payable balance, before anybody is told to pay."""
    terms = {"jurisdiction": payout.tax_jurisdiction} if payout.tax_jurisdiction else {}
    return Reserve(
        payout.contributor_id,
        payout.currency,
        from_minor(payout.gross_minor, payout.currency),
        from_minor(payout.tax_minor, payout.currency),
        LEDGER_RAILS[payout.rail],
        attempt_key,
        treaty=payout.tax_basis,
        **terms,
    )


def attempt_of(payout_id: int, transfer: values.Transfer) -> int | None:
    """The attempt that a transfer of this payout's group answers: the one that it names, or else the open one."""
    attempts = PayoutAttempt.objects.filter(payout_id=payout_id, kind=PayoutAttempt.Kind.PAY)
    number = transfer.metadata.get("attempt", "")
    named = attempts.filter(number=int(number)).first() if number.isdecimal() and len(number) < 6 else None
    chosen = named or attempts.order_by("-number").first()
    return chosen.pk if chosen else None


def record_transfer(*, attempt_id: int, transfer: values.Transfer, at: datetime) -> bool:
    """The money has moved. Returns whether this call wrote it down; False when somebody had, or when it is odd.

    A transfer that differs from the request, or a second one for an attempt, is never booked as the requested one. It
    becomes a difference, and the run is frozen.
    """
    try:
        with transaction.atomic():
            return bool(_record_transfers([(attempt_id, transfer)], at))
    except _Freeze as freeze:
        _put_on_the_list(attempt_id, freeze.oddity, at)
        return False


def record_transfers(*, results: Sequence[tuple[int, values.Transfer]], at: datetime) -> None:
    """Several answers, as (attempt, transfer), in one transaction; one by one where one of them is odd."""
    if len(dict(results)) == len(results):
        try:
            with transaction.atomic():
                _record_transfers(results, at)
            return
        except _Freeze:
            pass
    for attempt_id, transfer in results:
        record_transfer(attempt_id=attempt_id, transfer=transfer, at=at)


def _record_transfers(results: Sequence[tuple[int, values.Transfer]], at: datetime) -> int:
    """Returns how many were not written down before."""
    transfers = dict(results)
    # Payouts before attempts, each in the order of their numbers, as everywhere.
    of_these = Payout.objects.filter(attempts__in=list(transfers)).values("pk")
    payouts = Payout.objects.select_for_update(no_key=True).filter(pk__in=of_these).order_by("pk").in_bulk()
    attempts = [
        attempt
        for attempt in PayoutAttempt.objects.select_for_update(no_key=True)
        .filter(pk__in=list(transfers))
        .order_by("pk")
        if _is_news(attempt, payouts[attempt.payout_id], transfers[attempt.pk])
    ]
    if not attempts:
        return 0
    _mark_succeeded([(attempt.pk, transfers[attempt.pk]) for attempt in attempts], at)
    paid = [payouts[attempt.payout_id] for attempt in attempts]
    Payout.objects.filter(pk__in=[payout.pk for payout in paid]).update(
        state=Payout.State.TRANSFERRED,
        transferred_at=at,
        lease_until=None,
        lease_token=None,
        next_try_at=None,
        needs_person_since=None,
    )
    Notice.objects.bulk_create(
        Notice(
            contributor_id=payout.contributor_id,
            kind="payout_transferred",
            subject=f"payout:{payout.public_id}",
            title=f"{_money(payout)} is on its way",
            words=f"{_money(payout)} is on its way to your bank.",
            created_at=at,
        )
        for payout in paid
    )
    sent = {f"contributor:{payout.contributor_id}": _sent(payout) for payout in paid}
    webhooks.emit_each(event="payout.sent", of=sent, at=at)
    crashpoint(CrashPoint.RESULT_WRITTEN)
    succeed_payouts(
        successes=[
            Success(
                attempt.reserve_entry or 0,
                attempt.idempotency_key,
                payout.currency,
                from_minor(payout.amount_minor, payout.currency),
            )
            for attempt, payout in zip(attempts, paid, strict=True)
        ],
        at=at,
    )
    crashpoint(CrashPoint.RESULT_POSTED)
    return len(attempts)


def _sent(payout: Payout) -> dict[str, Any]:
    return {
        "payout": str(payout.public_id),
        "amount_minor": payout.amount_minor,
        "currency": payout.currency,
    }


def _mark_succeeded(answers: Sequence[tuple[int, values.Transfer]], at: datetime) -> None:
    # bulk_update would take as much processor time as everything else here.
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE payouts_payoutattempt AS a
            SET state = %s, finished_at = %s, provider_transfer_id = t.transfer,
                balance_transaction = t.movement, destination_payment = t.payment
            FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) AS t(id, transfer, movement, payment)
            WHERE a.id = t.id
            """,
            [
                PayoutAttempt.State.SUCCEEDED,
                at,
                [attempt_id for attempt_id, _ in answers],
                [transfer.id for _, transfer in answers],
                [transfer.balance_transaction for _, transfer in answers],
                [transfer.destination_payment for _, transfer in answers],
            ],
        )


def _is_news(attempt: PayoutAttempt, payout: Payout, transfer: values.Transfer) -> bool:
    """Tell whether the transfer is the answer that this locked attempt waits for. Raises _Freeze where it is odd."""
    if attempt.state == PayoutAttempt.State.SUCCEEDED:
        if attempt.provider_transfer_id == transfer.id:
            return False
        raise _Freeze(
            _Oddity(
                Difference.Type.DUPLICATE_GROUP,
                PayoutRun.PauseCode.PAID_TWICE,
                transfer.id,
                attempt.provider_transfer_id or "",
                transfer.id,
                "A payout has more than one transfer.",
            )
        )
    if attempt.state in (PayoutAttempt.State.REFUSED, PayoutAttempt.State.VOID):
        if transfer.came_back:
            # Nothing of it is out; it may be why a person gave the attempt up.
            return False
        raise _Freeze(
            _Oddity(
                Difference.Type.MISSING_LOCAL,
                PayoutRun.PauseCode.PAID_TWICE,
                transfer.id,
                attempt.state,
                transfer.id,
                "A transfer exists for an attempt that had been taken for dead.",
            )
        )
    _check_terms(payout, transfer)
    return True


def _check_terms(payout: Payout, transfer: values.Transfer) -> None:
    for type_, name, expected, found in (
        (Difference.Type.AMOUNT, "amount", payout.amount_minor, transfer.amount_minor),
        (Difference.Type.CURRENCY, "currency", payout.currency, transfer.currency),
        (Difference.Type.DESTINATION, "destination", payout.destination, transfer.destination),
        (Difference.Type.UNKNOWN_TYPE, "payout", payout.public_id.hex, transfer.metadata.get("payout", "")),
    ):
        if expected != found:
            raise _Freeze(
                _Oddity(
                    type_,
                    PayoutRun.PauseCode.PAID_TWICE,
                    transfer.id,
                    str(expected),
                    str(found),
                    f"The transfer's {name} is not the approved one.",
                )
            )


def _money(payout: Payout) -> str:
    return amounts.text_of_minor(payout.amount_minor, asset(payout.currency))


@transaction.atomic
def _put_on_the_list(attempt_id: int, oddity: _Oddity, at: datetime) -> None:
    payout = Payout.objects.select_related("run").get(attempts=attempt_id)
    if not is_explained(type_=oddity.type, currency=payout.currency, subject=oddity.subject, found=oddity.found):
        # The run's row is locked by stop_run, before the payout's.
        stop_run(run_id=payout.run_id, code=oddity.code, note=f"{oddity.words} ({oddity.found})", at=at)
    open_difference(
        type_=oddity.type,
        run=payout.run,
        payout=payout,
        currency=payout.currency,
        subject=oddity.subject,
        expected=oddity.expected,
        found=oddity.found,
        words=oddity.words,
        at=at,
    )
    if payout.state in (Payout.State.SENDING, Payout.State.UNKNOWN):
        Payout.objects.filter(pk=payout.pk, needs_person_since__isnull=True).update(needs_person_since=at)


# --- what did not succeed -----------------------------------------------------------------------------------------
def record_failure(*, claim: Claim, error: errors.UnableToUseStripe, at: datetime, pace: Pace) -> None:
    """Record any result but success; the gateway's error table gives its meaning."""
    code: PayoutRun.PauseCode | None = None
    if error.verdict.action == Action.PAUSE_RUN:
        code = PayoutRun.PauseCode.CONFIGURATION if error.http_status in (401, 403) else PayoutRun.PauseCode.BALANCE
    elif error.verdict.action == Action.FREEZE_RUN:
        is_ours = error.verdict.outcome == Outcome.DIFFERS
        code = PayoutRun.PauseCode.REQUEST_DIFFERS if is_ours else PayoutRun.PauseCode.RISK
    with transaction.atomic():
        # The run is locked before the payout, always; both stand or neither does.
        if code is not None:
            stop_run(run_id=claim.run_id, code=code, note=str(error), at=at)
        _write_failure(claim, error, at, pace)


def held_and_current(claim: Claim) -> tuple[Payout, PayoutAttempt] | None:
    """The claim's rows, locked, if the lease is still this worker's and the attempt still the open one."""
    payout = Payout.objects.select_for_update(no_key=True).get(pk=claim.payout_id)
    if payout.lease_token != claim.token or payout.state not in (Payout.State.SENDING, Payout.State.UNKNOWN):
        return None
    attempt = PayoutAttempt.objects.select_for_update(no_key=True).get(pk=claim.attempt_id)
    if attempt.state not in (PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN):
        return None
    return payout, attempt


def _write_failure(claim: Claim, error: errors.UnableToUseStripe, at: datetime, pace: Pace) -> None:
    rows = held_and_current(claim)
    if rows is None:
        return
    payout, attempt = rows
    verdict = error.verdict
    attempt.http_status, attempt.error_code = error.http_status, error.code[:100]
    attempt.error_message = str(error)[:500]
    # Every other time that it may have gone on the wire, Stripe said that it did nothing. Then this answer is the
    # attempt's whole story, and a refusal is final at once.
    is_whole_story = attempt.sends == attempt.sends_not_executed + 1
    match verdict.outcome:
        case Outcome.NOT_EXECUTED:
            attempt.sends_not_executed += 1
            wait = random.uniform(pace.same_key_min, pace.same_key_max)
        case Outcome.IN_FLIGHT:
            wait = random.uniform(pace.same_key_min, pace.same_key_max)
        case Outcome.REFUSED if is_whole_story:
            _refuse(payout, attempt, verdict, at)
            return
        case Outcome.REFUSED if error.http_status in (401, 403) and verdict.hold is None:
            # It says something about our key, and nothing about the effect of an earlier send.
            wait = pace.look_up_again
        case Outcome.REFUSED:
            _unknown(payout, attempt)
            attempt.failure_stored_at = attempt.failure_stored_at or at
            wait = pace.second_look_up
        case Outcome.DIFFERS:
            _unknown(payout, attempt)
            payout.needs_person_since = payout.needs_person_since or at
            wait = pace.look_up_again
        case Outcome.UNKNOWN:
            _unknown(payout, attempt)
            wait = pace.server_error_quiet if error.http_status else pace.no_answer_quiet
            if error.is_stored:
                attempt.failure_stored_at = attempt.failure_stored_at or at
                wait = pace.second_look_up
    attempt.save(
        update_fields=[
            "state",
            "http_status",
            "error_code",
            "error_message",
            "sends_not_executed",
            "failure_stored_at",
        ]
    )
    payout.next_try_at = after(at, wait)
    payout.lease_until = payout.lease_token = None
    payout.save(update_fields=["state", "next_try_at", "lease_until", "lease_token", "needs_person_since"])


def _unknown(payout: Payout, attempt: PayoutAttempt) -> None:
    payout.state, attempt.state = Payout.State.UNKNOWN, PayoutAttempt.State.UNKNOWN


def _refuse(payout: Payout, attempt: PayoutAttempt, verdict: errors.Verdict, at: datetime) -> None:
    """Stripe said no and means it: the money is payable again."""
    attempt.state, attempt.finished_at = PayoutAttempt.State.REFUSED, at
    attempt.save(update_fields=["state", "finished_at", "http_status", "error_code", "error_message"])
    payout.state = Payout.State.REFUSED
    payout.reason, payout.reason_note = attempt.error_code[:64] or "refused", attempt.error_message
    payout.lease_until = payout.lease_token = payout.next_try_at = None
    payout.save(update_fields=["state", "reason", "reason_note", "lease_until", "lease_token", "next_try_at"])
    if verdict.hold is not None:
        hold_payout(payout, verdict.hold, note=attempt.error_message, at=at)
    crashpoint(CrashPoint.RESULT_WRITTEN)
    give_back(attempt, at)
    crashpoint(CrashPoint.RESULT_POSTED)


def hold_payout(payout: Payout, reason: HoldReason, *, note: str, at: datetime) -> None:
    """Take a locked payout out of its run, with a hold on the person. The payable money waits for a later run."""
    payout.state, payout.reason, payout.reason_note = Payout.State.HELD, reason, note[:500]
    payout.lease_until = payout.lease_token = payout.next_try_at = None
    payout.save(update_fields=["state", "reason", "reason_note", "lease_until", "lease_token", "next_try_at"])
    # A balance that fell, and the payee's new account, are seen again when the next run is built; a hold would outlive
    # them.
    if reason not in (HoldReason.NEGATIVE_BALANCE, HoldReason.ACCOUNT_REPLACED):
        try:
            with transaction.atomic():
                place_hold(contributor=payout.contributor, reason=reason, note=note, payout=payout, at=at)
        except UnableToPlaceHold:
            # Held for this reason already, which was told.
            assert Hold.objects.filter(contributor=payout.contributor, reason=reason, released_at__isnull=True).exists()
    Notice.objects.get_or_create(
        kind="payout_held",
        subject=f"payout:{payout.public_id}",
        defaults={
            "contributor_id": payout.contributor_id,
            "created_at": at,
            "title": f"{_money(payout)} was not sent",
            "words": f"{_money(payout)} was not sent. {RULES[reason].words} {RULES[reason].remedy}",
        },
    )


def hold_unsent(*, payout: Payout, attempt: PayoutAttempt, reason: HoldReason, at: datetime) -> None:
    """Close a locked attempt of which nothing was executed, because of a hold. The payout is held for its reason, and
    the attempt's reserve is payable again."""
    note = "Held after it was claimed and before it was sent; nothing reached the rail."
    attempt.state, attempt.finished_at = PayoutAttempt.State.REFUSED, at
    attempt.error_code, attempt.error_message = "held", note
    attempt.save(update_fields=["state", "finished_at", "error_code", "error_message", "sends_not_executed"])
    # The arrows lead to a hold through a refusal; here it is ours.
    payout.state = Payout.State.REFUSED
    payout.save(update_fields=["state"])
    hold_payout(payout, reason, note=note, at=at)
    crashpoint(CrashPoint.RESULT_WRITTEN)
    give_back(attempt, at)
    crashpoint(CrashPoint.RESULT_POSTED)


def give_back(attempt: PayoutAttempt, at: datetime) -> None:
    """Reverse the reserve of an attempt that is over."""
    assert attempt.reserve_entry is not None
    refuse_payout(reserve_entry=attempt.reserve_entry, attempt_key=attempt.idempotency_key, at=at)


def void_attempt(*, payout: Payout, attempt: PayoutAttempt, at: datetime, pace: Pace) -> None:
    """Close a locked attempt that is proven dead. The payout may be tried again under a new key, but only after the end
    of every lease under which the old key could still be used."""
    attempt.state, attempt.finished_at = PayoutAttempt.State.VOID, at
    attempt.save(update_fields=["state", "finished_at"])
    payout.state = Payout.State.APPROVED
    payout.next_try_at = after(payout.lease_until or at, pace.after_lease)
    payout.lease_until = payout.lease_token = payout.needs_person_since = None
    payout.save(update_fields=["state", "next_try_at", "lease_until", "lease_token", "needs_person_since"])
    crashpoint(CrashPoint.VOID_WRITTEN)
    give_back(attempt, at)
