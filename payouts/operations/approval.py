"""Four eyes: approving a frozen run, starting it, stopping it.

The database refuses an approver that built or edited the run; this module refuses first, with a sentence.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from ledger.money import asset
from payouts.attempts.content import content_hash
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import LeftOut, Notice, Payout, PayoutRun, Rail
from payouts.operations.conflicts import acts_for_payee
from payouts.operations.limits import require_within_limits
from payouts.operations.runs import clear_approvals, lock, payouts_back_to_ready, return_to_review, wait_for_turn
from payouts.rails.stripe import calls, client, errors
from people.actor import (
    ADMIN,
    CHECKER,
    COMPLIANCE,
    MAKER,
    NOBODY,
    Presence,
    UnableToActForOneself,
    audit,
    require_fresh_factor,
    require_role,
    require_settled_role,
)
from people.models import User
from people.operations.trial import second_half
from people.presentation import amounts

log = structlog.get_logger(__name__)

APPROVAL_LASTS = timedelta(hours=72)


class UnableToApprove(Exception):
    """The wrong person, a stale page, a wrong total, or a run that is not in review."""

    status = 409
    problem = "run-not-approved"


class UnableToReject(Exception):
    """The run is not in review, or no reason was given."""

    status = 409
    problem = "run-not-rejected"


class UnableToStart(Exception):
    """The run is not approved, the approval expired, the rows differ, or the money is not there."""

    status = 409
    problem = "run-not-started"


class UnableToPause(Exception):
    """The run is not executing."""

    status = 409
    problem = "run-not-paused"


class UnableToResume(Exception):
    """The run is not paused, or it takes somebody else to resume it."""

    status = 409
    problem = "run-not-resumed"


@transaction.atomic
def approve_run(
    *,
    run: PayoutRun,
    by: User,
    typed_total: int,
    content_hash: bytes,
    at: datetime,
    seen: Presence = NOBODY,
) -> PayoutRun:
    """Approve a run in review. Above the policy's limit the first approval is one of two.

    `content_hash` is the hash that the page showed, `typed_total` the total that the person typed (minor units). Raises
    UnableToApprove where either differs from the run, and after 72 hours in review.
    """
    require_role(by, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    wait_for_turn(run.currency)
    run = lock(run)
    by = second_half(by, (run.created_by_id, run.last_edited_by_id))
    _check_approver(run, by)
    require_within_limits(run, by, at)
    if bytes(run.content_hash or b"") != content_hash or _recomputed(run) != content_hash:
        raise UnableToApprove("The run changed since you opened it; look at it again.")
    if typed_total != run.total_minor:
        raise UnableToApprove("The total that you typed is not the total of the run.")
    if at >= (run.submitted_at or at) + APPROVAL_LASTS:
        raise UnableToApprove("The run has been in review for more than 72 hours; have it built again.")
    is_second = run.approved_by_id is not None
    if is_second:
        run.second_approved_by, run.second_approved_at = by, at
        run.save(update_fields=["second_approved_by", "second_approved_at"])
    else:
        run.approved_by, run.approved_at, run.approved_hash = by, at, content_hash
        run.approval_expires_at = at + APPROVAL_LASTS
        run.save(update_fields=["approved_by", "approved_at", "approved_hash", "approval_expires_at"])
    if is_second or not run.needs_second_approval:
        run.state = PayoutRun.State.APPROVED
        run.save(update_fields=["state"])
        run.payouts.filter(state=Payout.State.READY).update(state=Payout.State.APPROVED, approved_at=at)
    audit(
        by=by,
        action="approve_run",
        subject=f"run:{run.public_id}",
        at=at,
        seen=seen,
        after={"content_hash": run.hash_hex, "total_minor": run.total_minor, "second": is_second},
    )
    crashpoint(CrashPoint.APPROVAL_WRITTEN)
    return run


def _live_elsewhere(run: PayoutRun) -> QuerySet[Payout]:
    """List the payouts under way in other runs to payees of this run: on the other rail, which was chosen since."""
    under_way = Payout.objects.filter(currency=run.currency, state__in=Payout.LIVE).exclude(run=run)
    return under_way.filter(contributor_id__in=run.payouts.values("contributor_id")).order_by("pk")


def _recomputed(run: PayoutRun) -> bytes:
    return content_hash(run)


def _check_approver(run: PayoutRun, by: User) -> None:
    if run.state != PayoutRun.State.IN_REVIEW:
        raise UnableToApprove(f"The run is {run.get_state_display().lower()}, not in review.")
    if by.pk in (run.created_by_id, run.last_edited_by_id):
        raise UnableToApprove("The builder or editor of a run does not approve it.")
    if by.pk == run.approved_by_id:
        raise UnableToApprove("You approved it already; a second person must.")
    if refusal := acts_for_payee(by, run.payouts.all()):
        raise UnableToActForOneself(refusal)
    elsewhere = _live_elsewhere(run).select_related("contributor")[:5]
    if names := [str(payout.contributor) for payout in elsewhere]:
        raise UnableToApprove(
            f"Another run pays them already: {', '.join(names)}. Have them excluded, or the run cancelled."
        )


@transaction.atomic
def reject_run(*, run: PayoutRun, by: User, reason: str, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """Send a run back with a reason. It stays as it was judged; `rebuild_run` makes its successor.

    Raises UnableToReject for a run neither in review nor approved, and without a reason.
    """
    require_role(by, CHECKER, ADMIN)
    run = lock(run)
    if run.state not in (PayoutRun.State.IN_REVIEW, PayoutRun.State.APPROVED):
        raise UnableToReject(f"The run is {run.get_state_display().lower()}, not in review.")
    if not reason.strip():
        raise UnableToReject("Say why, so that the next version can be better.")
    payouts_back_to_ready(run)
    run.state, run.rejected_by, run.reject_reason = PayoutRun.State.REJECTED, by, reason.strip()[:500]
    run.save(update_fields=["state", "rejected_by", "reject_reason"])
    audit(
        by=by,
        action="reject_run",
        subject=f"run:{run.public_id}",
        at=at,
        seen=seen,
        after={"reason": run.reject_reason},
    )
    return run


@transaction.atomic
def expire_approvals(*, at: datetime) -> int:
    """Put runs with an expired approval back into review. Returns how many."""
    expired = PayoutRun.objects.select_for_update(no_key=True).filter(approval_expires_at__lte=at)
    runs = list(expired.filter(state__in=[PayoutRun.State.APPROVED, PayoutRun.State.IN_REVIEW]).order_by("pk"))
    for run in runs:
        return_to_review(run)
        clear_approvals(run)
        audit(by=None, action="approval_expired", subject=f"run:{run.public_id}", at=at)
    return len(runs)


def start_execution(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """Let the workers begin, after the rows are hashed again and Stripe's balance is seen to suffice.

    Raises UnableToStart while payouts are frozen, and for a run that is not approved. Raises it also for an expired
    approval, and for payouts that differ from the approved ones. Too large a first live run and too low or unreadable a
    balance raise it too.
    """
    require_role(by, MAKER, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    if settings.PAYOUTS_FROZEN:
        raise UnableToStart("Payouts are frozen for the whole installation (PAYOUTS_FROZEN).")
    if run.state != PayoutRun.State.APPROVED:
        raise UnableToStart(f"The run is {run.get_state_display().lower()}, not approved.")
    _check_first_live_run(run)
    if run.rail == Rail.STRIPE_TRANSFER:
        _check_balance(run)
    with transaction.atomic():
        run = lock(run)
        if run.state != PayoutRun.State.APPROVED:
            raise UnableToStart(f"The run is {run.get_state_display().lower()}, not approved.")
        if at >= (run.approval_expires_at or at):
            raise UnableToStart("The approval has expired; cancel the run and build it again.")
        if _recomputed(run) != bytes(run.approved_hash or b""):
            raise UnableToStart("The payouts differ from the approved ones. Nothing was sent.")
        run.state, run.started_by, run.started_at = PayoutRun.State.EXECUTING, by, at
        run.save(update_fields=["state", "started_by", "started_at"])
        audit(
            by=by,
            action="start_execution",
            subject=f"run:{run.public_id}",
            at=at,
            seen=seen,
            after={"content_hash": run.hash_hex, "total_minor": run.total_minor},
        )
        crashpoint(CrashPoint.START_WRITTEN)
        # A run by bank transfer waits for somebody to export its file.
        if run.rail == Rail.STRIPE_TRANSFER:
            hint_execution(run)
    return run


def _check_first_live_run(run: PayoutRun) -> None:
    """Refuse a large first run with real money: its lessons should cost little."""
    if not client.is_live() or run.rail != Rail.STRIPE_TRANSFER:
        return
    done = (PayoutRun.State.RECONCILED, PayoutRun.State.CLOSED)
    if PayoutRun.objects.filter(rail=Rail.STRIPE_TRANSFER, state__in=done).exists():
        return
    most, most_minor = settings.FIRST_LIVE_RUN_PAYOUTS_MAX, settings.FIRST_LIVE_RUN_MINOR_MAX
    if run.n_payouts > most or run.total_minor > most_minor:
        limit = amounts.text_of_minor(most_minor, asset(run.currency))
        raise UnableToStart(
            f"The first run with real money pays at most {most} people and {limit} "
            "(FIRST_LIVE_RUN_PAYOUTS_MAX, FIRST_LIVE_RUN_MINOR_MAX). Exclude some, and pay them once it is reconciled."
        )


def _check_balance(run: PayoutRun) -> None:
    try:
        available = calls.balance().available.get(run.currency, 0)
    except errors.UnableToUseStripe as error:
        raise UnableToStart(f"Stripe's balance could not be read: {error}") from error
    if available < run.total_minor:
        short = amounts.text_of_minor(run.total_minor - available, asset(run.currency))
        raise UnableToStart(f"The balance at Stripe is {short} short; top it up first.")


def hint_execution(run: PayoutRun) -> None:
    """Tell the workers once the transaction is committed. Only a hint: the sweep finds the work that a lost one
    left."""

    def send() -> None:
        with contextlib.suppress(Exception):
            current_app.send_task("payouts.tasks.execute_run", args=[run.pk], queue="payouts", retry=False)

    transaction.on_commit(send)


@transaction.atomic
def pause_run(*, run: PayoutRun, by: User, note: str, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """Send nothing more. Payouts under way are followed to their end by looking them up.

    Raises UnableToPause for a run that is not executing.
    """
    require_role(by, MAKER, CHECKER, COMPLIANCE, ADMIN)
    run = lock(run)
    if run.state != PayoutRun.State.EXECUTING:
        raise UnableToPause(f"The run is {run.get_state_display().lower()}, not executing.")
    _pause(run, PayoutRun.PauseCode.PERSON, note, at)
    audit(by=by, action="pause_run", subject=f"run:{run.public_id}", at=at, seen=seen, after={"note": note[:500]})
    return run


@transaction.atomic
def stop_run(*, run_id: int, code: PayoutRun.PauseCode, note: str, at: datetime) -> None:
    """The executor's own stop. A freeze outranks a pause, and the first freeze stays."""
    run = PayoutRun.objects.select_for_update(no_key=True).get(pk=run_id)
    if run.state not in (PayoutRun.State.EXECUTING, PayoutRun.State.PAUSED) or run.is_frozen:
        return
    if run.state == PayoutRun.State.PAUSED and code not in PayoutRun.FREEZES:
        return
    _pause(run, code, note, at)
    Notice.objects.get_or_create(
        kind="run_stopped",
        subject=f"run:{run.public_id}:{code}:{at.isoformat()}",
        defaults={"words": f"The {run} stopped: {run.get_pause_code_display()}. {note}"[:1000], "created_at": at},
    )
    audit(by=None, action="stop_run", subject=f"run:{run.public_id}", at=at, after={"code": code, "note": note[:500]})
    log.error("payout_run_stopped", run=str(run.public_id), code=str(code), note=note)


def _pause(run: PayoutRun, code: str, note: str, at: datetime) -> None:
    run.state, run.paused_at, run.pause_code, run.pause_note = PayoutRun.State.PAUSED, at, code, note[:500]
    run.save(update_fields=["state", "paused_at", "pause_code", "pause_note"])


@transaction.atomic
def resume_run(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """Go on. Payouts refused for a reason of the whole run are tried again, each as a new attempt. A payee that another
    run pays by now is held here instead.

    Raises UnableToResume while payouts are frozen, for a run that is not paused, and for changed payouts.
    """
    require_role(by, MAKER, CHECKER, COMPLIANCE, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    wait_for_turn(run.currency)
    run = lock(run)
    if run.state != PayoutRun.State.PAUSED:
        raise UnableToResume(f"The run is {run.get_state_display().lower()}, not paused.")
    if run.is_frozen:
        require_role(by, COMPLIANCE, ADMIN)
    if settings.PAYOUTS_FROZEN:
        raise UnableToResume("Payouts are frozen for the whole installation (PAYOUTS_FROZEN).")
    if _recomputed(run) != bytes(run.approved_hash or b""):
        raise UnableToResume("The payouts differ from the approved ones.")
    before, run.state = run.pause_code, PayoutRun.State.EXECUTING
    run.save(update_fields=["state"])
    refused = run.payouts.filter(state=Payout.State.REFUSED)
    refused.filter(contributor_id__in=_live_elsewhere(run).values("contributor_id")).update(
        state=Payout.State.HELD,
        reason=LeftOut.Reason.LIVE_ELSEWHERE,
        reason_note="Another run pays this person by now.",
    )
    refused.update(state=Payout.State.APPROVED, next_try_at=None)
    audit(by=by, action="resume_run", subject=f"run:{run.public_id}", at=at, seen=seen, before={"pause_code": before})
    hint_execution(run)
    return run
