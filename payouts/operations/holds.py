"""Stopping and releasing: a hold is a row with a reason, an owner and an end. It never moves money."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from contributors.models import Contributor
from contributors.operations.deciding import require_stranger
from contributors.queries.people import manages
from payouts.models import Hold, HoldReason, Notice, Payout
from payouts.queries.hold_reasons import PLACED_BY_PEOPLE, ROLES, RULES, Release, why_not_release
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

STAFF = (MAKER, CHECKER, COMPLIANCE, ADMIN)
REFUSED_BY_RAIL = {HoldReason.COUNTRY_UNSUPPORTED, HoldReason.CURRENCY_UNSUPPORTED}


class UnableToPlaceHold(Exception):
    """The contributor is already held for this reason, or the hold would end before it begins."""

    status = 409
    problem = "hold-exists"


class UnableToReleaseHold(Exception):
    """The hold has ended, ends by itself only, or belongs to somebody else."""

    status = 409
    problem = "hold-not-released"


def open_holds_q(at: datetime) -> Q:
    """Holds that stop a payout at `at`."""
    return Q(released_at__isnull=True) & (Q(ends_at__isnull=True) | Q(ends_at__gt=at))


def first_holds(contributor_ids: Collection[int], *, at: datetime) -> dict[int, HoldReason]:
    """Map each contributor that a hold stops at `at` to the reason of the hold that was placed first."""
    found = Hold.objects.filter(open_holds_q(at), contributor_id__in=contributor_ids).order_by("-placed_at", "-pk")
    return {hold.contributor_id: HoldReason(hold.reason) for hold in found}


@transaction.atomic
def place_hold(
    *,
    contributor: Contributor,
    reason: HoldReason | str,
    at: datetime,
    by: User | None = None,
    note: str = "",
    ends_at: datetime | None = None,
    payout: Payout | None = None,
    seen: Presence = NOBODY,
) -> Hold:
    """Stop payouts to a contributor. `by` None: the system, on the word of Stripe or the ledger.

    Raises UnableToPlaceHold for a reason that people do not place, and for an end before the beginning. Raises it also
    for a contributor that is already held for the reason.
    """
    if by is not None:
        # A stop is quickly placed and slowly released; a screening result is compliance's alone to state.
        require_role(by, *((COMPLIANCE,) if reason == HoldReason.SANCTIONS_LISTED else STAFF))
        if HoldReason(reason) not in PLACED_BY_PEOPLE:
            raise UnableToPlaceHold(
                "This hold comes and goes by itself, with its reason. Choose one that people place."
            )
    if ends_at is not None and ends_at <= at:
        raise UnableToPlaceHold("A hold must end after it begins.")
    reason = HoldReason(reason)
    Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    _end_expired(contributor.pk, at)
    if Hold.objects.filter(contributor=contributor, reason=reason, released_at__isnull=True).exists():
        raise UnableToPlaceHold(f"{contributor} is already held: {RULES[reason].words}")
    return _write_hold(contributor, reason, at=at, by=by, note=note, ends_at=ends_at, payout=payout, seen=seen)


def hold_unless_held(*, contributor: Contributor, reason: HoldReason, at: datetime, note: str) -> None:
    """Stop payouts to a contributor by the system, in the caller's transaction; a hold of this reason is enough."""
    if not Hold.objects.filter(contributor=contributor, reason=reason, released_at__isnull=True).exists():
        place_hold(contributor=contributor, reason=reason, at=at, note=note)


def _write_hold(
    contributor: Contributor,
    reason: HoldReason,
    *,
    at: datetime,
    by: User | None,
    seen: Presence,
    note: str = "",
    ends_at: datetime | None = None,
    payout: Payout | None = None,
) -> Hold:
    hold = Hold.objects.create(
        contributor=contributor,
        reason=reason,
        note=note[:500],
        placed_by=by,
        placed_at=at,
        ends_at=ends_at,
        payout=payout,
    )
    Notice.objects.create(
        contributor=contributor,
        kind="hold_placed",
        subject=f"hold:{hold.pk}",
        created_at=at,
        words=f"{RULES[reason].words} {RULES[reason].remedy}",
    )
    audit(
        by=by,
        action="place_hold",
        subject=f"contributor:{contributor.pk}",
        at=at,
        seen=seen,
        after={"hold": hold.pk, "reason": reason, "note": note[:500], "ends_at": ends_at and ends_at.isoformat()},
    )
    return hold


@transaction.atomic
def pause_own_payouts(*, contributor: Contributor, by: User, at: datetime, seen: Presence = NOBODY) -> Hold:
    """Pause payouts at the contributor's own wish. Earned money stays owed.

    Raises UnableToPlaceHold where they are paused already.
    """
    _require_member(by, contributor)
    Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    if Hold.objects.filter(
        contributor=contributor, reason=HoldReason.CONTRIBUTOR_PAUSED, released_at__isnull=True
    ).exists():
        raise UnableToPlaceHold("Your payouts are paused already.")
    return _write_hold(contributor, HoldReason.CONTRIBUTOR_PAUSED, at=at, by=by, seen=seen)


@transaction.atomic
def resume_own_payouts(*, contributor: Contributor, by: User, at: datetime, seen: Presence = NOBODY) -> Hold:
    """End the contributor's own pause. Raises UnableToReleaseHold where there is none."""
    _require_member(by, contributor)
    hold = (
        Hold.objects.select_for_update(no_key=True)
        .filter(contributor=contributor, reason=HoldReason.CONTRIBUTOR_PAUSED, released_at__isnull=True)
        .first()
    )
    if hold is None:
        raise UnableToReleaseHold("Your payouts are not paused.")
    hold.released_at, hold.released_by = at, by
    hold.save(update_fields=["released_at", "released_by"])
    _after_release(hold, by=by, at=at, note="", seen=seen)
    return hold


def _require_member(by: User, contributor: Contributor) -> None:
    if not manages(by, contributor):
        raise UnableToPlaceHold(f"{by} does not manage {contributor}.")


@transaction.atomic
def release_hold(*, hold: Hold, by: User, at: datetime, note: str = "", seen: Presence = NOBODY) -> Hold:
    """End a hold by hand, as the table of payouts/queries/hold_reasons.py allows. Finance releases its own holds.
    Compliance releases those and its own, and with a reason a hold that a contributor asked for. Nobody releases a hold
    that ends by itself.

    Raises UnableToReleaseHold where the table forbids it, and where that reason is missing.
    """
    require_fresh_factor(seen)
    require_settled_role(by, at)
    hold = Hold.objects.select_for_update(no_key=True).get(pk=hold.pk)
    release = RULES[HoldReason(hold.reason)].release
    # For a hold that nobody releases, everybody with a right to release any is told so; the rest of staff lacks the
    # role.
    require_role(by, *(ROLES[release] or ROLES[Release.FINANCE]))
    require_stranger(by, hold.contributor_id)
    if refusal := why_not_release(hold, by):
        raise UnableToReleaseHold(refusal)
    if release == Release.CONTRIBUTOR and not note.strip():
        raise UnableToReleaseHold("The contributor asked for this hold. Say why it is lifted without them.")
    hold.released_at, hold.released_by = at, by
    hold.save(update_fields=["released_at", "released_by"])
    _after_release(hold, by=by, at=at, note=note, seen=seen)
    return hold


def sync_automatic_holds(
    *, contributor: Contributor, wanted: Mapping[HoldReason, datetime | None], of: set[HoldReason], at: datetime
) -> None:
    """Make the open holds among the reasons `of` those of `wanted` (reason -> end), in the caller's transaction."""
    Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    _end_expired(contributor.pk, at)
    present = {
        HoldReason(hold.reason): hold
        for hold in Hold.objects.select_for_update(no_key=True).filter(
            contributor=contributor, reason__in=of, released_at__isnull=True
        )
    }
    for reason in sorted(of):
        hold = present.get(reason)
        if reason in wanted and hold is not None and RULES[reason].automatic and _ends_before(hold, wanted[reason]):
            # The reason began anew meanwhile: another bank account named in the last hour of a cool-down waits its own.
            hold.released_at, hold = at, None
            present[reason].save(update_fields=["released_at"])
        if reason in wanted and hold is None:
            place_hold(contributor=contributor, reason=reason, at=at, ends_at=wanted[reason])
        elif reason not in wanted and hold is not None and RULES[reason].automatic:
            # A rail's own answer to a payment is not undone by a table of ours.
            if hold.payout_id is not None and reason in REFUSED_BY_RAIL:
                continue
            hold.released_at = at
            hold.save(update_fields=["released_at"])
            _after_release(hold, by=None, at=at, note="", seen=NOBODY)


def _ends_before(hold: Hold, wanted: datetime | None) -> bool:
    return hold.ends_at is not None and (wanted is None or hold.ends_at < wanted)


def _end_expired(contributor_id: int, at: datetime) -> None:
    for hold in Hold.objects.filter(contributor_id=contributor_id, released_at__isnull=True, ends_at__lte=at):
        hold.released_at = hold.ends_at
        hold.save(update_fields=["released_at"])


def _after_release(hold: Hold, *, by: User | None, at: datetime, note: str, seen: Presence) -> None:
    if not Hold.objects.filter(open_holds_q(at), contributor_id=hold.contributor_id).exists():
        Notice.objects.create(
            contributor_id=hold.contributor_id,
            kind="hold_released",
            subject=f"hold:{hold.pk}",
            created_at=at,
            words="Nothing stops payments to you any more; the next run pays your balance.",
        )
    audit(
        by=by,
        action="release_hold",
        subject=f"contributor:{hold.contributor_id}",
        at=at,
        seen=seen,
        before={"hold": hold.pk, "reason": hold.reason},
        after={"note": note[:500]},
    )
