"""Voids by staff: proposed by one person, confirmed by another. A service voids its own generations without them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from attribution.models import Generation
from contributors.operations.deciding import why_not_decide
from ledger.models import Void, VoidProposal
from ledger.operations.accruals import hold_sweeps
from ledger.operations.corrections import (
    CONFIRMERS,
    PROPOSERS,
    REASON_CHARACTERS_MAX,
    UnableToVoid,
    void_generation,
)
from ledger.operations.proposals import decide, reject, undecided
from people.actor import lacks_role, logged
from people.models import User


@logged("generation", "reason", "detail", "state", key="generation_id")
def propose_void(*, generation: Generation, reason: str, detail: str, by: User, at: datetime) -> VoidProposal:
    """Propose that staff take a generation back, for somebody else to confirm. `detail` says why it is not the service
    that does so; contributors read it on their receipts.

    Raises UnableToVoid: no such reason, no words, it is void already, or somebody proposed so.
    """
    detail = detail.strip()
    if refusal := lacks_role(by=by, roles=PROPOSERS):
        raise UnableToVoid(refusal)
    if reason not in Void.Reason.values:
        known = ", ".join(Void.Reason.values)
        raise UnableToVoid(f"{reason!r} is no reason; there are {known}.", status=422, problem="reason-invalid")
    if not 1 <= len(detail) <= REASON_CHARACTERS_MAX or "\x00" in detail:
        words = f"Say in 1 to {REASON_CHARACTERS_MAX} characters why it is taken back; contributors read it."
        raise UnableToVoid(words, status=422, problem="detail-invalid")
    _refuse_if_void(generation.pk)
    try:
        with transaction.atomic():
            return VoidProposal.objects.create(
                generation=generation, reason=reason, detail=detail, proposed_by=by, proposed_at=at
            )
    except IntegrityError as error:
        raise UnableToVoid("Somebody proposed to void it already; decide on that first.") from error


@logged("generation", "reason", "state", key="generation_id", before="proposed")
def confirm_void(*, proposal: VoidProposal, by: User, at: datetime) -> VoidProposal:
    """Void a generation that another person proposed to void. Raises UnableToVoid: decided already, the same person, or
    void by now.
    """
    with transaction.atomic():
        # Before any row is locked, as every void takes it.
        hold_sweeps()
        fresh = undecided(proposal, UnableToVoid)
        if fresh.proposed_by_id == by.pk:
            raise UnableToVoid("You proposed this void, so somebody else has to confirm it.")
        if refusal := why_not_decide(by=by, roles=CONFIRMERS, at=at):
            raise UnableToVoid(refusal)
        _refuse_if_void(fresh.generation_id)
        generation = Generation.objects.get(pk=fresh.generation_id)
        void_generation(generation=generation, reason=fresh.reason, detail=fresh.detail, by=by, at=at)
        return decide(fresh, VoidProposal.State.VOIDED, by=by, at=at, refusal=UnableToVoid)


@logged("generation", "reason", "state", key="generation_id", before="proposed")
def reject_void(*, proposal: VoidProposal, by: User, at: datetime) -> VoidProposal:
    """Turn a proposed void down; its proposer may take it back so."""
    return reject(proposal, roles=PROPOSERS, by=by, at=at, refusal=UnableToVoid)


def _refuse_if_void(generation_id: UUID) -> None:
    if (found := Void.objects.filter(pk=generation_id).first()) is not None:
        raise UnableToVoid(f"It is void already: {found.words}.")
