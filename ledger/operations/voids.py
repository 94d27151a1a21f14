"""Voids by staff: proposed by one person, approved by another. A service voids its own generations without them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.urls import reverse

from attribution.models import Generation
from ledger.models import Void, VoidProposal
from ledger.operations.accruals import hold_sweeps
from ledger.operations.corrections import (
    APPROVERS,
    REASON_CHARACTERS_MAX,
    UnableToVoid,
    void_generation,
)
from people.models import User
from people.operations.proposals import propose
from people.presentation import dates
from people.queries.proposals import WITH_COMPLIANCE, ProposalKind


def propose_void(*, generation: Generation, reason: str, detail: str, by: User, at: datetime) -> VoidProposal:
    """Propose that staff take a generation back, for somebody else to approve. `detail` says why it is not the service
    that does so; contributors read it on their receipts.

    Raises UnableToVoid: no such reason, no words, it is void already, or somebody proposed so.
    """
    detail = detail.strip()
    if reason not in Void.Reason.values:
        known = ", ".join(Void.Reason.values)
        raise UnableToVoid(f"{reason!r} is no reason; there are {known}.", status=422, problem="reason-invalid")
    if not 1 <= len(detail) <= REASON_CHARACTERS_MAX or "\x00" in detail:
        words = f"Say in 1 to {REASON_CHARACTERS_MAX} characters why it is voided; contributors read it."
        raise UnableToVoid(words, status=422, problem="detail-invalid")
    _refuse_if_void(generation.pk)
    row = VoidProposal(generation=generation, reason=reason, detail=detail, proposed_by=by, proposed_at=at)
    return propose(KIND, row)


def _void(proposal: VoidProposal, by: User, at: datetime) -> dict[str, Any]:
    """Void the generation. Raises UnableToVoid for one that is void by now."""
    _refuse_if_void(proposal.generation_id)
    generation = Generation.objects.get(pk=proposal.generation_id)
    void_generation(generation=generation, reason=proposal.reason, detail=proposal.detail, by=by, at=at)
    return {}


def _refuse_if_void(generation_id: UUID) -> None:
    if (found := Void.objects.filter(pk=generation_id).first()) is not None:
        raise UnableToVoid(f"It is void already: {found.words}.")


KIND = ProposalKind(
    key="void",
    model=VoidProposal,
    name="void",
    heading="Voids",
    mail="A void waits for a second person",
    approvers=APPROVERS,
    readers=WITH_COMPLIANCE,
    apply=_void,
    # Before any row is locked, as every void takes it.
    lock=lambda row: hold_sweeps(),
    refusal=UnableToVoid,
    unique="a_void_is_proposed_once_at_a_time",
    equal=lambda row: "Somebody proposed to void it already; decide on that first.",
    title=lambda row: f"Void of generation {row.generation.external_id}",
    summary=lambda row: row.detail,
    facts=lambda row: [
        ("Generation", row.generation.external_id),
        ("Model version", f"{row.generation.model_version} of {row.generation.service}"),
        ("Occurred", dates.moment_html(row.generation.occurred_at)),
        ("Reason", str(row.get_reason_display())),
    ],
    effect="The generation earns nothing from then on, and its earnings are reversed. This cannot be undone.",
    approved=lambda row: "Approved. The generation is void, and its earnings are reversed.",
    page=lambda row: reverse("ledger:generation_page", args=[row.generation_id]),
    parent=("Generations", "ledger:generations"),
    subject=lambda row: f"generation:{row.generation_id}",
    fields=("reason", "detail"),
    related=("generation__model_version", "generation__service"),
)
