"""Paying: claim and write down, commit, send, write down what came of it. And, after a crash, looking before leaping.

The row is the queue. Whoever claims a payout holds a lease on it; a task that was lost or came twice changes nothing.
An idempotency key alone does not make this safe: a key is forgotten after a day, and a stored failure is repeated for
ever. So a new key exists only once the old one is proven dead (the index `one_open_attempt`), and after any doubt the
transfers of the payout's own group are listed before anything is sent again.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.conf import settings
from django.db import connections, transaction
from django.db.models import F, Q

from ledger import operations as ledger
from ledger.journal import UnableToPost
from ledger.money import from_minor
from payouts import gateway
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.gateway import UnableToUseStripe
from payouts.models import Hold, HoldReason, Notice, Payout, PayoutAttempt, PayoutRun, Rail
from payouts.operations.approval import stop_run
from payouts.operations.holds import open_holds_q
from payouts.operations.pace import LIVE, Clock, Pace, after, database_clock
from payouts.operations.recording import (
    Claim,
    attempt_of,
    held_and_current,
    hold_payout,
    record_failure,
    record_transfer,
    void_attempt,
)
from payouts.operations.runs import row_sha256
from payouts.queries import LEDGER_RAILS

log = structlog.get_logger(__name__)

THREADS_DEFAULT = 16


class _Differs(Exception):
    """A payout is not what was approved."""

    def __init__(self, run_id: int) -> None:
        super().__init__("A payout differs from what was approved.")
        self.run_id = run_id


def pay_next(*, run_id: int | None = None, clock: Clock = database_clock, pace: Pace = LIVE) -> bool:
    """Take one payout that is due and bring it as far as it goes now. False when none is due.

    Never raises for what Stripe answers; raises UnableToX only for a broken installation.
    """
    started = gateway.boot_clock()
    try:
        taken = _claim(run_id, clock, pace, started)
    except _Differs as error:
        stop_run(run_id=error.run_id, code=PayoutRun.PauseCode.HASH_DIFFERS, note=str(error), at=clock())
        return True
    if taken is None:
        return False
    if isinstance(taken, Claim):
        crashpoint(CrashPoint.CLAIM_COMMITTED)
        if taken.is_recovery:
            _recover(taken, clock, pace)
        else:
            _send(taken, clock, pace)
        crashpoint(CrashPoint.RESULT_COMMITTED)
    return True


# --- Tx1 ----------------------------------------------------------------------------------------------------------
def _claim(run_id: int | None, clock: Clock, pace: Pace, started: float) -> Claim | bool | None:
    """A claim, True when the payout was dealt with in place, None when nothing is due. Commits before it returns:
    nothing goes on the wire before that."""
    with transaction.atomic(durable=True):
        now = clock()
        workable = Q(run__state=PayoutRun.State.EXECUTING)
        underway = Q(run__state=PayoutRun.State.PAUSED) & ~Q(state=Payout.State.APPROVED)
        if settings.PAYOUTS_FROZEN:
            workable &= ~Q(state=Payout.State.APPROVED)
        due = Payout.objects.filter(
            workable | underway,
            Q(lease_until__isnull=True) | Q(lease_until__lte=now),
            Q(next_try_at__isnull=True) | Q(next_try_at__lte=now),
            state__in=Payout.LIVE, needs_person_since__isnull=True, rail=Rail.STRIPE_TRANSFER,
        )  # fmt: skip
        if run_id is not None:
            due = due.filter(run_id=run_id)
        payout = (
            due.select_for_update(skip_locked=True, of=("self",), no_key=True)
            .select_related("run")
            .order_by("pk")
            .first()
        )
        if payout is None:
            return None
        token, deadline = uuid.uuid4(), started + pace.lease - pace.send_margin
        payout.lease_until, payout.lease_token = after(now, pace.lease), token
        if payout.state != Payout.State.APPROVED:
            payout.save(update_fields=["lease_until", "lease_token"])
            attempt_id = payout.attempts.get(
                kind=PayoutAttempt.Kind.PAY, state__in=[PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN]
            ).pk
            return Claim(payout.pk, payout.run_id, attempt_id, token, deadline, is_recovery=True)
        return _begin_attempt(payout, clock=lambda: now, token=token, deadline=deadline)


def _begin_attempt(payout: Payout, *, clock: Clock, token: uuid.UUID, deadline: float) -> Claim | bool:
    """Write down the intent: the attempt with its exact bytes and key, and the entry that reserves the money."""
    now, run = clock(), payout.run
    if bytes(run.approved_hash or b"") != bytes(run.content_hash or b"") or bytes(payout.row_sha256) != row_sha256(
        payout
    ):
        raise _Differs(run.pk)
    hold = Hold.objects.filter(open_holds_q(now), contributor_id=payout.contributor_id).order_by("placed_at").first()
    if hold is not None:
        hold_payout(payout, HoldReason(hold.reason), note="Held after the run was approved.", at=now)
        return True
    number = payout.attempts.count() + 1
    key = f"{payout.transfer_group}_{number}"
    request = gateway.transfer_request(
        amount_minor=payout.amount_minor, currency=payout.currency, destination=payout.destination,
        transfer_group=payout.transfer_group,
        metadata={"payout": payout.public_id.hex, "run": run.public_id.hex, "attempt": str(number)},
    )  # fmt: skip
    try:
        with transaction.atomic():
            entry = ledger.reserve_payout(
                contributor_id=payout.contributor_id, currency=payout.currency,
                gross=from_minor(payout.gross_minor, payout.currency),
                tax=from_minor(payout.tax_minor, payout.currency), rail=LEDGER_RAILS[payout.rail], attempt_key=key,
                at=now, **({"jurisdiction": payout.tax_jurisdiction} if payout.tax_jurisdiction else {}),
            )  # fmt: skip
    except UnableToPost as error:
        if error.problem != "below-minimum":
            raise
        # Restated, disputed or recovered since the run was calculated: the contributor no longer has this much.
        hold_payout(payout, HoldReason.NEGATIVE_BALANCE, note="Less is payable than when the run was built.", at=now)
        return True
    payout.state = Payout.State.SENDING
    payout.next_try_at = None
    payout.save(update_fields=["state", "lease_until", "lease_token", "next_try_at"])
    attempt = PayoutAttempt.objects.create(
        payout=payout, number=number, provider=payout.rail, idempotency_key=key, amount_minor=payout.amount_minor,
        request=request.body, request_sha256=request.sha256, first_sent_at=now, reserve_entry=entry,
    )  # fmt: skip
    crashpoint(CrashPoint.CLAIM_WRITTEN)
    return Claim(payout.pk, run.pk, attempt.pk, token, deadline, is_recovery=False)


# --- the wire -----------------------------------------------------------------------------------------------------
def _send(claim: Claim, clock: Clock, pace: Pace) -> None:
    attempt = PayoutAttempt.objects.get(pk=claim.attempt_id)
    request = gateway.TransferRequest(attempt.request)
    if request.sha256 != bytes(attempt.request_sha256):
        stop_run(run_id=claim.run_id, code=PayoutRun.PauseCode.REQUEST_DIFFERS, note=str(attempt), at=clock())
        return
    try:
        transfer = gateway.create_transfer(request, idempotency_key=attempt.idempotency_key, deadline=claim.deadline)
    except UnableToUseStripe as error:
        crashpoint(CrashPoint.ANSWER_READ)
        record_failure(claim=claim, error=error, at=clock(), pace=pace)
    else:
        crashpoint(CrashPoint.ANSWER_READ)
        record_transfer(attempt_id=claim.attempt_id, transfer=transfer, at=clock())


def _recover(claim: Claim, clock: Clock, pace: Pace) -> None:
    """Somebody, perhaps we ourselves, may have sent this before. Look first."""
    group = Payout.objects.only("public_id").get(pk=claim.payout_id).transfer_group
    crashpoint(CrashPoint.LOOK_UP_SENT)
    try:
        found = gateway.find_transfers(group)
    except UnableToUseStripe as error:
        log.warning("payout_look_up_failed", payout=group, error=str(error))
        _release(claim, after_seconds=pace.no_answer_quiet, clock=clock)
        return
    crashpoint(CrashPoint.LOOK_UP_ANSWERED)
    # More than one is recorded one by one: the second finds the first, and freezes the run.
    for transfer in found:
        attempt_id = attempt_of(claim.payout_id, transfer)
        assert attempt_id is not None
        record_transfer(attempt_id=attempt_id, transfer=transfer, at=clock())
    if not found and _may_send_again(claim, clock, pace):
        _send(claim, clock, pace)


def _may_send_again(claim: Claim, clock: Clock, pace: Pace) -> bool:
    """After a look-up that found nothing: void the attempt, wait, hand it to a person, or send the same bytes again."""
    with transaction.atomic(durable=True):
        rows = held_and_current(claim)
        if rows is None:
            return False
        now = clock()
        payout, attempt = rows
        age = (now - attempt.first_sent_at).total_seconds()
        if attempt.failure_stored_at is not None:
            since = max(attempt.failure_stored_at, attempt.empty_look_up_at or now)
            if (now - since).total_seconds() >= pace.second_look_up:
                void_attempt(payout=payout, attempt=attempt, at=now, pace=pace)
                return False
            wait = pace.second_look_up - (now - since).total_seconds()
        elif age >= pace.safe_replay:
            payout.needs_person_since = now
            payout.save(update_fields=["needs_person_since"])
            Notice.objects.get_or_create(
                kind="payout_needs_person", subject=f"payout:{payout.public_id}",
                defaults={"words": f"Nobody knows whether {attempt} was paid; a person must decide.",
                          "created_at": now},
            )  # fmt: skip
            wait = pace.look_up_again
        elif not _may_send(payout, now):
            wait = pace.look_up_again
        else:
            if attempt.empty_look_up_at is None:
                attempt.empty_look_up_at = now
            attempt.sends = F("sends") + 1
            attempt.save(update_fields=["sends", "empty_look_up_at"])
            return True
        if attempt.empty_look_up_at is None:
            attempt.empty_look_up_at = now
            attempt.save(update_fields=["empty_look_up_at"])
        payout.next_try_at = after(now, wait)
        payout.lease_until = payout.lease_token = None
        payout.save(update_fields=["next_try_at", "lease_until", "lease_token"])
        return False


def _may_send(payout: Payout, now: datetime) -> bool:
    """Kill switch, pause and holds stop the sending, never the looking."""
    if settings.PAYOUTS_FROZEN:
        return False
    if PayoutRun.objects.get(pk=payout.run_id).state != PayoutRun.State.EXECUTING:
        return False
    return not Hold.objects.filter(open_holds_q(now), contributor_id=payout.contributor_id).exists()


def _release(claim: Claim, *, after_seconds: float, clock: Clock) -> None:
    now = clock()
    Payout.objects.filter(pk=claim.payout_id, lease_token=claim.token).update(
        lease_until=None, lease_token=None, next_try_at=after(now, after_seconds)
    )


# --- many ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Progress:
    """How many claims a call worked off, and how many payouts are left that are not at their end."""

    handled: int
    live: int


def execute_run(
    *,
    run_id: int | None,
    threads: int = THREADS_DEFAULT,
    seconds_max: float = 600.0,
    clock: Clock = database_clock,
    pace: Pace = LIVE,
    pay: Callable[..., bool] = pay_next,
) -> Progress:
    """Work off everything that is due now, with several threads; stop when nothing is, or the time is up.

    What becomes due later (an answer to look up, a rate to wait for) is found by the sweep.
    """
    stop_at = time.monotonic() + seconds_max
    counts = [0] * max(threads, 1)
    errors: list[BaseException] = []

    def work(place: int) -> None:
        try:
            while time.monotonic() < stop_at and not errors and pay(run_id=run_id, clock=clock, pace=pace):
                counts[place] += 1
        except BaseException as error:
            errors.append(error)
        finally:
            if threads > 1:
                connections.close_all()

    if threads <= 1:
        work(0)
    else:
        pool = [threading.Thread(target=work, args=(place,), name=f"pay-{place}") for place in range(threads)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
    if errors:
        raise errors[0]
    live = Payout.objects.filter(state__in=Payout.LIVE)
    return Progress(sum(counts), (live.filter(run_id=run_id) if run_id is not None else live).count())
