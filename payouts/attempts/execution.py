"""Paying: claim and write down, commit, send, write down the result. And, after a crash, looking before leaping.

The row is the queue. The claimant of a payout holds a lease on it; a task that was lost or came twice changes nothing.
An idempotency key alone does not make this safe: a key is forgotten after a day, and a stored failure is repeated for
ever. So a new key exists only once the old one is proven dead (the index `one_open_attempt`). After any doubt the
transfers of the payout's own group are listed before anything is sent again.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import BooleanField, Count, Exists, ExpressionWrapper, F, OuterRef, Q

from ledger.journal import UnableToPost
from ledger.operations.payouts import reserve_payouts
from payouts.attempts.content import row_sha256
from payouts.attempts.pace import LIVE, Clock, Pace, after, database_clock
from payouts.attempts.recording import (
    Claim,
    attempt_of,
    held_and_current,
    hold_payout,
    hold_unsent,
    record_failure,
    record_transfer,
    reserve_of,
    void_attempt,
)
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import EndedAccount, Hold, HoldReason, Notice, Payout, PayoutAttempt, PayoutRun, Rail
from payouts.operations.approval import stop_run
from payouts.operations.holds import first_holds, open_holds_q
from payouts.rails.stripe import calls, client, values
from payouts.rails.stripe.errors import UnableToSend, UnableToUseStripe

log = structlog.get_logger(__name__)


class _Differs(Exception):
    """A payout differs from its approved content."""

    def __init__(self, run_id: int) -> None:
        super().__init__("A payout differs from the approved one.")
        self.run_id = run_id


def pay_next(*, run_id: int | None = None, clock: Clock = database_clock, pace: Pace = LIVE) -> bool:
    """Take one payout that is due and bring it as far as it goes now. False when none is due.

    Raises UnableToX only for a broken installation, and never for an answer of Stripe.
    """
    due = claim_due(run_id=run_id, clock=clock, pace=pace, limit=1)
    for claim in due.claims:
        if transfer := send_or_recover(claim, clock, pace):
            record_transfer(attempt_id=claim.attempt_id, transfer=transfer, at=clock())
        crashpoint(CrashPoint.RESULT_COMMITTED)
    return due.looked_at > 0


# --- Tx1 ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Due:
    """Counts of a round: the due payouts looked at, and those of them that are now in the caller's hands."""

    looked_at: int
    claims: list[Claim]


def claim_due(*, run_id: int | None, clock: Clock, pace: Pace, limit: int) -> Due:
    """Claim up to `limit` due payouts. For new work write down the intent: its attempt, with the exact bytes and the
    key, and the entry that reserves its money. Commits before it returns: nothing goes on the wire before that."""
    started = client.boot_clock()
    try:
        with transaction.atomic(durable=True):
            due = _claim(run_id, clock(), pace, started + pace.lease - pace.send_margin, limit)
    except _Differs as error:
        stop_run(run_id=error.run_id, code=PayoutRun.PauseCode.HASH_DIFFERS, note=str(error), at=clock())
        return Due(1, [])
    except IntegrityError as error:
        # The run was stopped, or an account ended, while its payouts were claimed. The trigger saw it first, and
        # nothing was written.
        if _rule_of(error) not in ("a_payout_moves_with_its_run", "an_ended_account_is_not_paid"):
            raise
        return Due(1, [])
    if due.claims:
        crashpoint(CrashPoint.CLAIM_COMMITTED)
    return due


def _rule_of(error: IntegrityError) -> str:
    return str(getattr(getattr(error.__cause__, "diag", None), "constraint_name", ""))


def _claim(run_id: int | None, now: datetime, pace: Pace, deadline: float, limit: int) -> Due:
    workable = Q(run__state=PayoutRun.State.EXECUTING)
    underway = Q(run__state=PayoutRun.State.PAUSED) & ~Q(state=Payout.State.APPROVED)
    if settings.PAYOUTS_FROZEN:
        workable &= ~Q(state=Payout.State.APPROVED)
    due = Payout.objects.filter(
        workable | underway,
        Q(lease_until__isnull=True) | Q(lease_until__lte=now),
        Q(next_try_at__isnull=True) | Q(next_try_at__lte=now),
        state__in=Payout.LIVE,
        needs_person_since__isnull=True,
        rail=Rail.STRIPE_TRANSFER,
    )
    if run_id is not None:
        due = due.filter(run_id=run_id)
    found = list(due.select_for_update(skip_locked=True, of=("self",), no_key=True).order_by("pk")[:limit])
    token, lease_until = uuid.uuid4(), after(now, pace.lease)
    begun = [payout for payout in found if payout.state == Payout.State.APPROVED]
    in_hand_before = [payout for payout in found if payout.state != Payout.State.APPROVED]
    claims = [
        Claim(payout_id, run_id_of, attempt_id, token, now, deadline, is_recovery=True)
        for payout_id, run_id_of, attempt_id in _take_over(in_hand_before, token, lease_until)
    ] + [
        Claim(attempt.payout_id, attempt.payout.run_id, attempt.pk, token, now, deadline, is_recovery=False)
        for attempt in _begin_attempts(begun, now=now, token=token, lease_until=lease_until)
    ]
    return Due(len(found), claims)


def _take_over(payouts: list[Payout], token: uuid.UUID, lease_until: datetime) -> list[tuple[int, int, int]]:
    """Lease payouts that somebody had in hand before: (payout, run, open attempt) of each."""
    ids = [payout.pk for payout in payouts]
    if not ids:
        return []
    Payout.objects.filter(pk__in=ids).update(lease_until=lease_until, lease_token=token)
    underway = PayoutAttempt.objects.filter(
        payout__in=ids,
        kind=PayoutAttempt.Kind.PAY,
        state__in=[PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN],
    )
    found = list(underway.order_by("payout_id").values_list("payout_id", "payout__run_id", "pk"))
    assert len(found) == len(ids), "a payout that is under way has one open attempt"
    return found


def _begin_attempts(
    payouts: list[Payout], *, now: datetime, token: uuid.UUID, lease_until: datetime
) -> list[PayoutAttempt]:
    """Write down the intents of locked payouts. A payout is skipped if its contributor is held or no longer has as
    much."""
    if not payouts:
        return []
    runs = _checked_runs(payouts)
    held = first_holds([payout.contributor_id for payout in payouts], at=now)
    ended = _ended(payouts)
    for payout in payouts:
        if payout.contributor_id in held:
            hold_payout(payout, held[payout.contributor_id], note="Held after the run was approved.", at=now)
        elif payout.pk in ended:
            note = f"The account {payout.destination} ended after the run was built; the payee has another one."
            hold_payout(payout, HoldReason.ACCOUNT_REPLACED, note=note, at=now)
    ids = [payout.pk for payout in payouts]
    numbers = dict(PayoutAttempt.objects.filter(payout__in=ids).values_list("payout_id").annotate(number=Count("pk")))
    attempts = [
        _attempt(payout, runs[payout.run_id], numbers.get(payout.pk, 0) + 1, now)
        for payout in payouts
        if payout.contributor_id not in held and payout.pk not in ended
    ]
    attempts = _reserve(attempts, now)
    Payout.objects.filter(pk__in=[attempt.payout_id for attempt in attempts]).update(
        state=Payout.State.SENDING, lease_until=lease_until, lease_token=token, next_try_at=None
    )
    PayoutAttempt.objects.bulk_create(attempts)
    crashpoint(CrashPoint.CLAIM_WRITTEN)
    return attempts


def _ended(payouts: list[Payout]) -> set[int]:
    """Return the payouts with a destination that ended. A trigger refuses to begin one."""
    names = EndedAccount.objects.filter(provider_account_id__in=[payout.destination for payout in payouts])
    gone = set(names.values_list("provider_account_id", flat=True))
    return {payout.pk for payout in payouts if payout.destination in gone}


def _checked_runs(payouts: list[Payout]) -> dict[int, PayoutRun]:
    """The runs of these payouts. Raises _Differs where one differs from its approved content."""
    runs = PayoutRun.objects.in_bulk({payout.run_id for payout in payouts})
    for payout in payouts:
        run = runs[payout.run_id]
        if bytes(run.approved_hash or b"") != bytes(run.content_hash or b"") or bytes(payout.row_sha256) != row_sha256(
            payout
        ):
            raise _Differs(run.pk)
    return runs


def _attempt(payout: Payout, run: PayoutRun, number: int, now: datetime) -> PayoutAttempt:
    request = calls.transfer_request(
        amount_minor=payout.amount_minor,
        currency=payout.currency,
        destination=payout.destination,
        transfer_group=payout.transfer_group,
        metadata={"payout": payout.public_id.hex, "run": run.public_id.hex, "attempt": str(number)},
    )
    return PayoutAttempt(
        payout=payout,
        number=number,
        provider=payout.rail,
        idempotency_key=f"{payout.transfer_group}_{number}",
        amount_minor=payout.amount_minor,
        request=request.body,
        request_sha256=request.sha256,
        first_sent_at=now,
    )


def _reserve(attempts: list[PayoutAttempt], now: datetime) -> list[PayoutAttempt]:
    """Reserve the money of each; a payout is held and skipped if its contributor no longer has as much."""
    reserves = [reserve_of(attempt.payout, attempt.idempotency_key) for attempt in attempts]
    try:
        with transaction.atomic():
            entries = reserve_payouts(reserves=reserves, at=now)
    except UnableToPost as error:
        if error.problem != "below-minimum":
            raise
        if len(attempts) > 1:
            return [kept for attempt in attempts for kept in _reserve([attempt], now)]
        # Restated, disputed or recovered since the run was calculated.
        hold_payout(
            attempts[0].payout,
            HoldReason.NEGATIVE_BALANCE,
            note="Less is payable than when the run was built.",
            at=now,
        )
        return []
    for attempt, entry in zip(attempts, entries, strict=True):
        attempt.reserve_entry = entry
    return attempts


# --- the wire -----------------------------------------------------------------------------------------------------
def send_or_recover(claim: Claim, clock: Clock, pace: Pace) -> values.Transfer | None:
    """Do the step that a claim asks for. Returns the transfer that answered, for the caller to record; any other
    result is recorded here."""
    if claim.is_recovery:
        return _recover(claim, clock, pace)
    return _send(claim, clock, pace)


class _Intent(NamedTuple):
    """The committed terms of a claim, and whether it may go on the wire, as of one moment."""

    body: str
    body_sha256: memoryview
    idempotency_key: str
    lease_token: uuid.UUID | None
    run_state: str
    is_held: bool


def _intent_of(claim: Claim) -> _Intent:
    """One query for all of it: it stands between every two calls to Stripe."""
    held = Hold.objects.filter(open_holds_q(claim.claimed_at), contributor_id=OuterRef("payout__contributor_id"))
    ended = EndedAccount.objects.filter(provider_account_id=OuterRef("payout__destination"))
    stopped = ExpressionWrapper(Q(Exists(held)) | Q(Exists(ended)), output_field=BooleanField())
    row = PayoutAttempt.objects.values_list(
        "request", "request_sha256", "idempotency_key", "payout__lease_token", "payout__run__state", stopped
    ).get(pk=claim.attempt_id)
    return _Intent(*row)


def _send(claim: Claim, clock: Clock, pace: Pace) -> values.Transfer | None:
    intent = _intent_of(claim)
    request = values.TransferRequest(intent.body)
    if request.sha256 != bytes(intent.body_sha256):
        stop_run(run_id=claim.run_id, code=PayoutRun.PauseCode.REQUEST_DIFFERS, note=intent.idempotency_key, at=clock())
        return None
    if intent.lease_token != claim.token:
        return None
    if intent.is_held and _hold_if_unsent(claim, clock):
        return None
    try:
        if intent.is_held or not _goes_on(intent.run_state):
            raise UnableToSend("It was stopped after it was claimed.")
        transfer = calls.create_transfer(request, idempotency_key=intent.idempotency_key, deadline=claim.deadline)
    except UnableToUseStripe as error:
        crashpoint(CrashPoint.ANSWER_READ)
        record_failure(claim=claim, error=error, at=clock(), pace=pace)
        return None
    crashpoint(CrashPoint.ANSWER_READ)
    return transfer


def _recover(claim: Claim, clock: Clock, pace: Pace) -> values.Transfer | None:
    """Somebody, perhaps we ourselves, may have sent this before. Look first."""
    group = Payout.objects.only("public_id").get(pk=claim.payout_id).transfer_group
    crashpoint(CrashPoint.LOOK_UP_SENT)
    try:
        found = calls.find_transfers(group)
    except UnableToUseStripe as error:
        log.warning("payout_look_up_failed", payout=group, error=str(error))
        _release(claim, after_seconds=pace.no_answer_quiet, clock=clock)
        return None
    crashpoint(CrashPoint.LOOK_UP_ANSWERED)
    # A transfer of an earlier attempt that was reversed in full is history.
    found = [
        transfer
        for transfer in found
        if not transfer.came_back or attempt_of(claim.payout_id, transfer) == claim.attempt_id
    ]
    # More than one is recorded one by one: the second finds the first, and freezes the run.
    for transfer in found:
        attempt_id = attempt_of(claim.payout_id, transfer)
        assert attempt_id is not None
        record_transfer(attempt_id=attempt_id, transfer=transfer, at=clock())
    if not found and _may_send_again(claim, clock, pace):
        return _send(claim, clock, pace)
    return None


def _hold_if_unsent(claim: Claim, clock: Clock) -> bool:
    """Handle a hold that came after the claim. Where nothing was sent before, the payout is taken out of its run at
    once, and its money is payable again. A request that may have gone on the wire is only looked for, however long that
    takes."""
    with transaction.atomic(durable=True):
        rows = held_and_current(claim)
        if rows is None:
            return False
        payout, attempt = rows
        now = clock()
        reason = _hold_on(payout, now)
        # This call is the attempt's latest send, counted when it was claimed, and it does not happen.
        if reason is None or attempt.sends != attempt.sends_not_executed + 1:
            return False
        attempt.sends_not_executed += 1
        hold_unsent(payout=payout, attempt=attempt, reason=reason, at=now)
        return True


def _hold_on(payout: Payout, at: datetime) -> HoldReason | None:
    """The reason of the first open hold on the payee; without one, whether the destination ended."""
    if reason := first_holds([payout.contributor_id], at=at).get(payout.contributor_id):
        return reason
    return HoldReason.ACCOUNT_REPLACED if _ended([payout]) else None


def _may_send_again(claim: Claim, clock: Clock, pace: Pace) -> bool:
    """After a look-up that found nothing: hold the payout, void the attempt, wait, hand it to a person, or send the
    same bytes again."""
    with transaction.atomic(durable=True):
        rows = held_and_current(claim)
        if rows is None:
            return False
        now = clock()
        payout, attempt = rows
        reason = _hold_on(payout, now)
        if reason is not None and attempt.sends == attempt.sends_not_executed:
            hold_unsent(payout=payout, attempt=attempt, reason=reason, at=now)
            return False
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
                kind="payout_needs_person",
                subject=f"payout:{payout.public_id}",
                defaults={
                    "words": f"Nobody knows whether {attempt} was paid; a person must decide.",
                    "created_at": now,
                },
            )
            wait = pace.look_up_again
        elif reason is not None or not _goes_on(payout.run.state):
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


def _goes_on(run_state: str) -> bool:
    """Kill switch and pause stop the sending, never the looking; so does a hold."""
    return not settings.PAYOUTS_FROZEN and run_state == PayoutRun.State.EXECUTING


def _release(claim: Claim, *, after_seconds: float, clock: Clock) -> None:
    now = clock()
    Payout.objects.filter(pk=claim.payout_id, lease_token=claim.token).update(
        lease_until=None, lease_token=None, next_try_at=after(now, after_seconds)
    )
