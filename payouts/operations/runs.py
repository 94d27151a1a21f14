"""A run before its approval: submitted, split, taken up, cancelled, and taken back into review."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import IntegrityError, connection, transaction
from django.db.models import Q, Sum

from ledger.money import asset
from payouts.attempts.content import content_hash, row_sha256
from payouts.models import LeftOut, Payout, PayoutRun
from people.actor import ADMIN, MAKER, NOBODY, Presence, audit, require_role
from people.models import User

A_DAY = timedelta(days=1)


class UnableToSubmitRun(Exception):
    """The run is no draft, pays nobody, or a destination changed since it was built."""

    status = 409
    problem = "run-not-submitted"


class UnableToChangeRun(Exception):
    """The run is in no state in which this may be done."""

    status = 409
    problem = "run-not-changed"


class UnableToExclude(Exception):
    """Somebody named is not in the run, or nobody would be left in it."""

    status = 422
    problem = "nothing-to-exclude"


def lock(run: PayoutRun) -> PayoutRun:
    """The run as it is now, locked until commit. Runs are locked before payouts, payouts before attempts."""
    return PayoutRun.objects.select_for_update(no_key=True).get(pk=run.pk)


def wait_for_turn(currency: str) -> None:
    """Let one run of a currency be submitted, approved or resumed at a time, until commit. The limit for a second
    approver looks at the runs of every rail. So does the rule that a person is paid by one run at a time. Two runs at
    once would not see each other. Taken before any run is locked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"payouts turn {currency}"])


def move(run: PayoutRun, state: str, *fields: str) -> None:
    run.state = state
    run.save(update_fields=["state", *fields])


def count(run: PayoutRun) -> None:
    run.n_payouts = run.payouts.count()
    run.total_minor = run.payouts.aggregate(total=Sum("amount_minor"))["total"] or 0


@transaction.atomic
def submit_run(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """Freeze a draft and hand it to an approver: from here on its payouts, amounts and destinations are fixed.

    Raises UnableToSubmitRun for a run that is no draft, an empty run, and a destination changed since it was built.
    """
    require_role(by, MAKER, ADMIN)
    wait_for_turn(run.currency)
    run = lock(run)
    if run.state != PayoutRun.State.DRAFT:
        raise UnableToSubmitRun(f"The run is {run.get_state_display().lower()}, not a draft.")
    move(run, PayoutRun.State.CALCULATING)
    moved = [
        str(payout.contributor)
        for payout in run.payouts.select_related("account", "contributor")
        if (payout.rail, payout.destination) != (payout.account.rail, payout.account.destination)
        or bytes(payout.row_sha256) != row_sha256(payout)
    ]
    if moved:
        raise UnableToSubmitRun(f"The destination changed since the run was built: {', '.join(moved[:5])}.")
    count(run)
    if not run.n_payouts:
        raise UnableToSubmitRun("The run pays nobody.")
    limit = run.configuration.get("second_approval_minor")
    run.needs_second_approval = limit is not None and run.total_minor + _alone(run, at) > int(limit)
    run.submitted_at = at
    run.content_hash = content_hash(run)
    move(
        run,
        PayoutRun.State.IN_REVIEW,
        "n_payouts",
        "total_minor",
        "needs_second_approval",
        "submitted_at",
        "content_hash",
    )
    audit(
        by=by,
        action="submit_run",
        subject=f"run:{run.public_id}",
        at=at,
        seen=seen,
        after={"content_hash": run.hash_hex, "total_minor": run.total_minor, "payouts": run.n_payouts},
    )
    return run


def _alone(run: PayoutRun, at: datetime) -> int:
    """Sum the amounts that the limit for a second approver counts beside the run itself. They are the other parts of
    the split run, and runs of the currency that went to one approver within a day. Many small runs need the same
    approvals as one large run."""
    dead = (PayoutRun.State.CANCELLED, PayoutRun.State.REJECTED)
    first = run
    while first.split_from is not None:
        first = first.split_from
    family, generation = {first.pk}, {first.pk}
    while generation:
        generation = set(PayoutRun.objects.filter(split_from__in=generation).values_list("pk", flat=True))
        family |= generation
    lately = Q(currency=run.currency, submitted_at__gt=at - A_DAY, needs_second_approval=False)
    counted = PayoutRun.objects.filter(Q(pk__in=family) | lately).exclude(state__in=dead).exclude(pk=run.pk)
    return int(counted.aggregate(total=Sum("total_minor"))["total"] or 0)


@transaction.atomic
def exclude(
    *, run: PayoutRun, contributors: Collection[int], by: User, at: datetime, seen: Presence = NOBODY
) -> tuple[PayoutRun, PayoutRun]:
    """Split a run in two: the named contributors wait in a run of their own. Both parts are submitted and reviewed
    anew.

    Returns (the remaining run, as a draft; the run set aside). Raises UnableToChangeRun for a run in another state than
    draft, in review or approved. Raises UnableToExclude for a contributor that is not in the run, and where nobody
    would be left.
    """
    require_role(by, MAKER, ADMIN)
    run = lock(run)
    if run.state not in (PayoutRun.State.DRAFT, PayoutRun.State.IN_REVIEW, PayoutRun.State.APPROVED):
        raise UnableToChangeRun(f"A run that is {run.get_state_display().lower()} cannot be split.")
    return_to_review(run)
    if run.state == PayoutRun.State.IN_REVIEW:
        _return_to_draft(run)
    leaving = list(run.payouts.filter(contributor_id__in=contributors).select_for_update(no_key=True))
    if len(leaving) != len(set(contributors)) or not leaving:
        raise UnableToExclude("Somebody named is not in this run.")
    if len(leaving) == run.payouts.count():
        raise UnableToExclude("Nobody would be left in the run; cancel it instead.")
    other = PayoutRun.objects.create(
        currency=run.currency,
        rail=run.rail,
        cut_off=run.cut_off,
        matured_before=run.matured_before,
        state=PayoutRun.State.SET_ASIDE,
        configuration=run.configuration,
        split_from=run,
        created_by=by,
        created_at=at,
        last_edited_by=by,
        last_edited_at=at,
    )
    run.payouts.filter(pk__in=[payout.pk for payout in leaving]).delete()
    for payout in leaving:
        payout.pk, payout.run, payout.created_at = None, other, at
        payout._state.adding = True
        payout.public_id = Payout._meta.get_field("public_id").get_default()
        payout.row_sha256 = row_sha256(payout)
    Payout.objects.bulk_create(leaving, batch_size=2000)
    LeftOut.objects.bulk_create(
        LeftOut(
            run=run,
            contributor_id=payout.contributor_id,
            currency=run.currency,
            amount=payout.gross_minor * asset(run.currency).minor,
            reason=LeftOut.Reason.EXCLUDED,
            words="Your payout was taken out of this run to be looked at once more.",
            remedy="Nothing to do: it is reviewed on its own.",
            created_at=at,
        )
        for payout in leaving
    )
    for part in (run, other):
        part.last_edited_by, part.last_edited_at = by, at
        count(part)
        part.save(update_fields=["last_edited_by", "last_edited_at", "n_payouts", "total_minor"])
    audit(
        by=by,
        action="exclude",
        subject=f"run:{run.public_id}",
        at=at,
        seen=seen,
        after={"set_aside": str(other.public_id), "contributors": sorted(contributors)},
    )
    return run, other


@transaction.atomic
def take_up_run(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """Make a draft of a run that was set aside, once no other run of the currency is open.

    Raises UnableToChangeRun for a run that was not set aside, and while another run is open.
    """
    require_role(by, MAKER, ADMIN)
    run = lock(run)
    if run.state != PayoutRun.State.SET_ASIDE:
        raise UnableToChangeRun("The run was not set aside.")
    run.last_edited_by, run.last_edited_at = by, at
    try:
        with transaction.atomic():
            move(run, PayoutRun.State.DRAFT, "last_edited_by", "last_edited_at")
    except IntegrityError as error:
        raise UnableToChangeRun(f"Another {run.currency} run is open; finish it first.") from error
    audit(by=by, action="take_up_run", subject=f"run:{run.public_id}", at=at, seen=seen)
    return run


@transaction.atomic
def cancel_run(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """End a run before anything is sent; everything stays payable. Raises UnableToChangeRun for a run that was started
    or has ended."""
    require_role(by, MAKER, ADMIN)
    run = lock(run)
    allowed = (
        PayoutRun.State.DRAFT,
        PayoutRun.State.SET_ASIDE,
        PayoutRun.State.IN_REVIEW,
        PayoutRun.State.APPROVED,
    )
    if run.state not in allowed:
        raise UnableToChangeRun(f"A run that is {run.get_state_display().lower()} cannot be cancelled.")
    before = run.state
    payouts_back_to_ready(run)
    move(run, PayoutRun.State.CANCELLED)
    audit(by=by, action="cancel_run", subject=f"run:{run.public_id}", at=at, seen=seen, before={"state": before})
    return run


def return_to_review(run: PayoutRun) -> None:
    """Take an approval back, in the caller's transaction: approved -> in_review, its payouts -> ready."""
    if run.state != PayoutRun.State.APPROVED:
        return
    payouts_back_to_ready(run)
    move(run, PayoutRun.State.IN_REVIEW)
    clear_approvals(run)


def payouts_back_to_ready(run: PayoutRun) -> None:
    run.payouts.filter(state=Payout.State.APPROVED).update(state=Payout.State.READY, approved_at=None)


def clear_approvals(run: PayoutRun) -> None:
    run.approved_by = run.second_approved_by = None
    run.approved_at = run.second_approved_at = run.approval_expires_at = None
    run.approved_hash = None
    run.save(
        update_fields=[
            "approved_by",
            "approved_at",
            "approved_hash",
            "approval_expires_at",
            "second_approved_by",
            "second_approved_at",
        ]
    )


def _return_to_draft(run: PayoutRun) -> None:
    clear_approvals(run)
    run.submitted_at, run.content_hash, run.needs_second_approval = None, None, False
    move(run, PayoutRun.State.DRAFT, "submitted_at", "content_hash", "needs_second_approval")
