"""The decision of two people that the base pool pays the generations of an index that is not evaluated."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.urls import reverse

from attribution.models import AttributionIndex, BasePoolProposal, Generation, ModelVersion
from people.models import User
from people.operations.proposals import propose
from people.queries.proposals import FINANCE, WITH_COMPLIANCE, ProposalKind

REASON_CHARACTERS_MAX = 300
MODEL_TEAM = "model_team"


class UnableToPayByBasePool(Exception):
    """The index does not serve, is evaluated already, or was decided on before; or the reason is missing."""

    status = 409
    problem = "unable-to-pay-by-base-pool"


def propose_base_pool(*, index: AttributionIndex, reason: str, by: User, at: datetime) -> BasePoolProposal:
    """Propose that generations go on without an evaluation, for somebody else to approve.

    Raises UnableToPayByBasePool: nothing waits for its evaluation, no reason, or somebody proposed so.
    """
    reason = reason.strip()
    if not 1 <= len(reason) <= REASON_CHARACTERS_MAX or "\x00" in reason:
        raise UnableToPayByBasePool(f"Say in 1 to {REASON_CHARACTERS_MAX} characters why it is not evaluated first.")
    if refusal := why_not(index):
        raise UnableToPayByBasePool(refusal)
    return propose(KIND, BasePoolProposal(index=index, reason=reason, proposed_by=by, proposed_at=at))


def pay_by_base_pool(*, index: AttributionIndex, at: datetime) -> AttributionIndex:
    """Let the generations of an index go on without an evaluation: by the base pool alone, until there is one.

    Raises UnableToPayByBasePool. Two people decide it; this is the act that follows.
    """
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=index.model_version_id)
        row = AttributionIndex.objects.select_related("model_version").get(pk=index.pk)
        if refusal := why_not(row):
            raise UnableToPayByBasePool(refusal)
        row.base_pool_at = at
        row.save(update_fields=["base_pool_at"])
    return row


def why_not(index: AttributionIndex) -> str:
    """Say why there is nothing to decide about this index; "" where its generations wait for its evaluation."""
    if not index.serving:
        return "The index does not serve: no generation waits for it."
    if index.is_evaluated:
        return "The index is evaluated: its generations are attributed by the result."
    if index.base_pool_at is not None:
        return "The base pool pays the generations of this index already."
    return ""


def _waiting(row: BasePoolProposal) -> int:
    received = Generation.State.RECEIVED
    return Generation.objects.filter(model_version_id=row.index.model_version_id, state=received).count()


def _apply(proposal: BasePoolProposal, by: User, at: datetime) -> dict[str, Any]:
    pay_by_base_pool(index=proposal.index, at=at)
    return {}


KIND = ProposalKind(
    key="base_pool",
    model=BasePoolProposal,
    name="payment by the base pool",
    heading="Payments by the base pool",
    mail="A payment by the base pool waits for a second person",
    proposers=(*FINANCE, MODEL_TEAM, "admin"),
    approvers=("finance_checker", "admin"),
    readers=(*WITH_COMPLIANCE, MODEL_TEAM),
    apply=_apply,
    refusal=UnableToPayByBasePool,
    unique="the_base_pool_is_proposed_once_at_a_time",
    equal=lambda row: "Somebody proposed the same for this index already; decide on that first.",
    title=lambda row: f"payment by the base pool for {row.index.model_version} of {row.index.model_version.service}",
    summary=lambda row: row.reason,
    facts=lambda row: [
        ("Model version", f"{row.index.model_version} of {row.index.model_version.service}"),
        ("Index", row.index.method_words),
        ("Generations that wait now", _waiting(row)),
    ],
    effect="Its generations go on at once and are paid by the base pool alone, until the index is evaluated.",
    approved=lambda row: "Approved. The base pool pays the generations until the index is evaluated.",
    page=lambda row: reverse("attribution:model_version", args=[row.index.model_version.public_id]),
    parent=("Model services", "attribution:services"),
    subject=lambda row: f"model_version:{row.index.model_version.public_id}",
    fields=("reason",),
    related=("index__model_version__service",),
)
