"""The four verbs of every proposal: propose, approve, reject, withdraw. Each checks, locks, writes and logs.

Four eyes are worth nothing where the second pair belongs to the payee. They are worth nothing either where a stolen
administrator's session gave an account its role a minute ago.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar

from django.db import DatabaseError, IntegrityError, OperationalError, transaction
from django.db.models import Model

from people.actor import NOBODY, Actor, Presence, UnableToAct, lacks_role, plain, read_path, too_recent
from people.models import Proposal, ProposalState, User
from people.operations.trial import second_half
from people.presentation import dates
from people.queries.programme import on_trial
from people.queries.proposals import ProposalKind, kind_of

P = TypeVar("P", bound=Proposal)
REASON_CHARACTERS_MAX = 300


class UnableToDecide(Exception):
    """The proposal is decided already, or the person may not decide it; `problem` tells the reasons apart."""

    status = 409
    problem = "proposal-not-decidable"

    def __init__(self, message: str, *, status: int = 409, problem: str = "proposal-not-decidable") -> None:
        super().__init__(message)
        self.status, self.problem = status, problem


def propose(kind: ProposalKind[P], row: P, parts: Iterable[Model] = (), *, seen: Presence = NOBODY) -> P:
    """Write a new proposal down, with the rows that are `parts` of it. `row` names its proposer and time.

    Raises UnableToAct for a person without the role, and the kind's refusal where an equal proposal waits.
    """
    refusal = lacks_role(by=row.proposed_by, roles=kind.proposers)
    if refusal and not kind.asks(row, row.proposed_by):
        raise UnableToAct(refusal)
    with transaction.atomic():
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError as error:
            if not kind.unique or kind.unique not in str(error):
                raise
            raise kind.refusal(kind.equal(row)) from error
        for part in parts:
            part.save(force_insert=True)
        _log(kind, "propose", row, Actor(row.proposed_by, row.proposed_at, seen), kind.before(row))
    return row


def why_not_approve(kind: ProposalKind[P], row: P, *, by: User, at: datetime) -> UnableToDecide | None:
    """Return the refusal of an approval by this person, the age of the second factor aside; None for no refusal."""
    if decided := _decided(row):
        return decided
    if row.proposed_by_id == by.pk and not on_trial():
        words = f"You proposed this {kind.name}, so somebody else has to approve it."
        return UnableToDecide(words, problem="own-proposal")
    return _not_this_person(kind, row, by, at)


def why_not_reject(kind: ProposalKind[P], row: P, *, by: User, at: datetime) -> UnableToDecide | None:
    """Return the refusal of a rejection by this person; None for no refusal."""
    if decided := _decided(row):
        return decided
    if row.proposed_by_id == by.pk:
        return UnableToDecide(f"You proposed this {kind.name}; withdraw it instead.", problem="own-proposal")
    if kind.rejected_as_approved:
        return _not_this_person(kind, row, by, at)
    return _forbidden(lacks_role(by=by, roles=kind.proposers), "role-missing")


def why_not_withdraw(kind: ProposalKind[P], row: P, *, by: User) -> UnableToDecide | None:
    """Return the refusal of a withdrawal by this person; None for no refusal."""
    if decided := _decided(row):
        return decided
    if row.proposed_by_id != by.pk:
        return UnableToDecide(f"{row.proposed_by} proposed this {kind.name}; others reject it.", problem="not-yours")
    if kind.asks(row, by):
        return None
    return _forbidden(lacks_role(by=by, roles=kind.proposers), "role-missing")


def approve(row: P, *, by: User, at: datetime, seen: Presence = NOBODY) -> P:
    """Approve another person's proposal, with its effect. All of it happens or nothing.

    Raises UnableToDecide, UnableToTrustPresence, and the refusals of the effect; the proposal then stands as it was.
    """
    kind = kind_of(row)
    with transaction.atomic():
        kind.lock(row)
        fresh = _locked(kind, row)
        _refuse(why_not_approve(kind, fresh, by=by, at=at))
        if kind.needs_fresh_factor:
            Actor(by, at, seen).require_fresh_factor()
        # One person that tries the programme out does both halves; their stand-in holds the second.
        by = second_half(by, (fresh.proposed_by_id,))
        before = kind.before(fresh)
        written = dict(kind.apply(fresh, by, at))
        return _decide(kind, fresh, "approve", ProposalState.APPROVED, Actor(by, at, seen), written, before)


def reject(row: P, *, by: User, at: datetime, reason: str = "", seen: Presence = NOBODY) -> P:
    """Turn another person's proposal down. It stays on record with the reason, which its proposer reads.

    Raises UnableToDecide, also for a reason of more than REASON_CHARACTERS_MAX characters.
    """
    kind, reason = kind_of(row), reason.strip()
    if len(reason) > REASON_CHARACTERS_MAX or "\x00" in reason:
        words = f"The reason of a rejection has at most {REASON_CHARACTERS_MAX} characters, not {len(reason)}."
        raise UnableToDecide(words, status=422, problem="reason-invalid")
    with transaction.atomic():
        fresh = _locked(kind, row)
        _refuse(why_not_reject(kind, fresh, by=by, at=at))
        if kind.rejected_as_approved and kind.needs_fresh_factor:
            Actor(by, at, seen).require_fresh_factor()
        return _decide(kind, fresh, "reject", ProposalState.REJECTED, Actor(by, at, seen), {"rejection": reason})


def withdraw(row: P, *, by: User, at: datetime, seen: Presence = NOBODY) -> P:
    """Take one's own proposal back. It stays on record. Raises UnableToDecide."""
    kind = kind_of(row)
    with transaction.atomic():
        fresh = _locked(kind, row)
        _refuse(why_not_withdraw(kind, fresh, by=by))
        return _decide(kind, fresh, "withdraw", ProposalState.WITHDRAWN, Actor(by, at, seen), {})


def replace(row: P, *, by: User, at: datetime, seen: Presence = NOBODY) -> P:
    """End an open proposal that a newer one replaces: withdrawn for the same proposer, else rejected."""
    kind = kind_of(row)
    with transaction.atomic():
        fresh = _locked(kind, row)
        _refuse(_decided(fresh))
        if fresh.proposed_by_id == by.pk:
            return _decide(kind, fresh, "withdraw", ProposalState.WITHDRAWN, Actor(by, at, seen), {})
        written = {"rejection": "A newer proposal replaced it."}
        return _decide(kind, fresh, "reject", ProposalState.REJECTED, Actor(by, at, seen), written)


def _locked(kind: ProposalKind[P], row: P) -> P:
    # Without joins: a row that waited for its lock is read anew, the joined people would not be.
    return kind.model._default_manager.select_for_update(no_key=True).get(pk=row.pk)


def _refuse(refusal: UnableToDecide | None) -> None:
    if refusal is not None:
        raise refusal


def _decided(row: Proposal) -> UnableToDecide | None:
    if row.state == ProposalState.PROPOSED:
        return None
    by = f", by {row.decided_by} on {dates.moment(row.decided_at)}" if row.decided_at else ""
    return UnableToDecide(f"It is {row.state} already{by}.", problem="decided-already")


def _not_this_person(kind: ProposalKind[P], row: P, by: User, at: datetime) -> UnableToDecide | None:
    return (
        _forbidden(lacks_role(by=by, roles=kind.approvers), "role-missing")
        or _forbidden(too_recent(by=by, at=at), "role-too-recent")
        or _forbidden(kind.conflict(row, by), "own-contributor")
    )


def _forbidden(words: str, problem: str) -> UnableToDecide | None:
    return UnableToDecide(words, status=403, problem=problem) if words else None


def _decide(
    kind: ProposalKind[P],
    row: P,
    verb: str,
    state: ProposalState,
    actor: Actor,
    written: dict[str, Any],
    before: dict[str, Any] | None = None,
) -> P:
    row.state, row.decided_by, row.decided_at = state, actor.user, actor.at
    for name, value in written.items():
        setattr(row, name, value)
    try:
        with transaction.atomic():
            row.save(update_fields=["state", "decided_by", "decided_at", *written])
    except OperationalError:
        raise
    except DatabaseError as error:
        raise UnableToDecide(str(error).splitlines()[0]) from error
    _log(kind, verb, row, actor, {**(before or {}), "state": "proposed"})
    return row


def _log(kind: ProposalKind[P], verb: str, row: P, actor: Actor, before: dict[str, Any]) -> None:
    after = {name: plain(read_path(row, name)) for name in (*kind.fields, "state")}
    if row.rejection:
        after["reason_of_rejection"] = row.rejection
    actor.log(f"{verb}_{kind.key}", kind.subject(row), before=before, after=after)
