"""Corrections after a report or an attribution: a generation is voided, one or a whole model version restated.

Both post documents that cite the corrected ones; nothing that stands in the journal is changed. A correction of a
closed month is dated now and names the month of its earnings. An amount that it reverses after its payment is recovered
from later earnings by the closes that follow.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse

from attribution.models import AttributionIndex, Generation
from attribution.operations.attributions import UnableToAttribute, attribute_again
from attribution.operations.generations import withdraw
from attribution.operations.renewals import attribute_batch_again
from ledger import journal
from ledger.models import EntryKind, Restatement, Void, period_of, utc_date
from ledger.operations.accruals import accrue, dates_of, hold_sweeps, opposite, standing
from ledger.queries.archived import archived_of, is_archived
from people.actor import lacks_role, logged
from people.models import User
from people.operations.proposals import UnableToDecide, propose
from people.presentation import dates
from people.queries.proposals import WITH_COMPLIANCE, ProposalKind

BATCH_MAX = 64
APPROVERS = ("finance_checker",)
ARCHIVED = "Its documents were moved to an archive with those of its month, so that nothing can be posted against them."
REASON_CHARACTERS_MAX = 300


class UnableToVoid(Exception):
    """The generation is void already, for another reason; or the reason is none."""

    status = 409
    problem = "unable-to-void"

    def __init__(self, message: str, *, status: int = 409, problem: str = "unable-to-void") -> None:
        super().__init__(message)
        self.status, self.problem = status, problem


@logged("generation", "reason", "detail")
def void_generation(
    *, generation: Generation, reason: str, at: datetime, detail: str = "", by: User | None = None
) -> Void:
    """Void a generation: it earns nothing from now on, and its earnings are reversed in one entry.

    `by` is the member of staff; None where the service itself asks. The same again returns the standing void; before it
    is accrued it never will be, and the close lists it with this reason. Raises UnableToVoid: no such reason (422), or
    void already for another one.
    """
    if reason not in Void.Reason.values:
        known = ", ".join(Void.Reason.values)
        raise UnableToVoid(f"{reason!r} is no reason; there are {known}.", status=422, problem="reason-invalid")
    detail = detail.strip()
    if len(detail) > REASON_CHARACTERS_MAX or "\x00" in detail:
        words = f"The detail has at most {REASON_CHARACTERS_MAX} characters, none of them NUL."
        raise UnableToVoid(words, status=422, problem="detail-invalid")
    if by is not None and (refusal := lacks_role(by=by, roles=APPROVERS)):
        raise UnableToVoid(refusal)
    with transaction.atomic():
        # Not while a sweep accrues it.
        hold_sweeps()
        found = Void.objects.filter(pk=generation.pk).first()
        if found is not None:
            if (found.reason, found.detail) != (reason, detail):
                raise UnableToVoid(f"It is void already: {found.words}.")
            return found
        made = Void.objects.create(generation=generation, reason=reason, detail=detail, voided_by=by, voided_at=at)
        _take_back(generation, reason, at)
    return made


def _take_back(generation: Generation, reason: str, at: datetime) -> None:
    original = standing([generation.pk]).get(generation.pk)
    if original is None and generation.attributions.exists() and is_archived(generation.pk):
        raise UnableToVoid(f"{ARCHIVED} Attach that month again first.", problem="generation-archived")
    if original is None:
        withdraw(generation_id=generation.pk)
        return
    effective, earned = dates_of(period_of(utc_date(generation.occurred_at)), at)
    journal.post_accruals(
        kind=EntryKind.VOID_GENERATIONS,
        idem_key=f"void:{generation.pk}",
        effective=effective,
        earned_period=earned,
        documents=[opposite(original)],
        reference=f"generation voided: {reason}",
        rule_version=str(original.plan),
    )


# --- restatement --------------------------------------------------------------------------------------------------
class UnableToRestate(Exception):
    """The index cannot restate, the restatement is decided already, or it needs somebody else."""

    status = 409
    problem = "unable-to-restate"


def restate_generation(*, generation: Generation, at: datetime) -> int:
    """Attribute one generation again by the index that serves now, and post the difference; returns the new revision.

    Raises UnableToRestate: it is void, archived, waits for its first attribution, or cannot be read any more.
    """
    if Void.objects.filter(pk=generation.pk).exists():
        raise UnableToRestate("The generation is void.")
    if is_archived(generation.pk):
        raise UnableToRestate(ARCHIVED)
    try:
        revision = attribute_again(generation=generation, at=at).revision
    except UnableToAttribute as error:
        raise UnableToRestate(str(error)) from error
    while accrue(at=at, full=True):
        pass
    return revision


def propose_restatement(
    *, index: AttributionIndex, since: datetime, reason: str, by: User, at: datetime
) -> Restatement:
    """Propose that every generation of the index's model version since a moment is attributed again by it.

    Raises UnableToRestate: the index does not serve or has not passed its audit, no reason is given, or a restatement
    by it is under way.
    """
    if not index.serving or index.state != AttributionIndex.State.AUDITED:
        raise UnableToRestate("Only the index that serves and passed its audit restates the attributions of others.")
    if not 1 <= len(reason.strip()) <= REASON_CHARACTERS_MAX:
        raise UnableToRestate(f"Say why, in at most {REASON_CHARACTERS_MAX} characters.")
    if since > at:
        raise UnableToRestate("“Since” is in the future; choose today or an earlier day.")
    row = Restatement(index=index, since=since, reason=reason.strip(), proposed_by=by, proposed_at=at)
    return propose(KIND, row)


def propose_generation_restatement(*, generation: Generation, reason: str, by: User, at: datetime) -> Restatement:
    """Propose that one generation is attributed again by the index that serves its model version now.

    Raises UnableToRestate: no reason; it is void, or was never attributed; no index serves that passed its audit and
    has not attributed it yet; or it is being restated.
    """
    reason = reason.strip()
    if not 1 <= len(reason) <= REASON_CHARACTERS_MAX:
        raise UnableToRestate(f"Say why, in at most {REASON_CHARACTERS_MAX} characters.")
    index = _serving(generation)
    if (lacking := cannot_restate(generation)) is not None or index is None:
        raise UnableToRestate(lacking or "No index serves this generation's model version any more.")
    row = Restatement(
        index=index,
        generation=generation,
        since=generation.occurred_at,
        reason=reason,
        proposed_by=by,
        proposed_at=at,
    )
    return propose(KIND, row)


def cannot_restate(generation: Generation) -> str | None:
    """Why a generation cannot be restated now, in a sentence; None where it can."""
    if Void.objects.filter(pk=generation.pk).exists():
        return "The generation is void: it earns nothing, so there is nothing to restate."
    if is_archived(generation.pk):
        return ARCHIVED
    if generation.state != Generation.State.ATTRIBUTED:
        return "The generation has no attribution yet, so there is nothing to restate."
    if generation.texts_deleted_at is not None:
        return "Its text was deleted after the period of its service, so that it cannot be measured again."
    index = _serving(generation)
    if index is None:
        return "No index that passed its audit serves this generation's model version now."
    if generation.attributions.filter(index=index).exists():
        return "The index that serves now has attributed it already, and would say the same again."
    return None


def _serving(generation: Generation) -> AttributionIndex | None:
    rows = AttributionIndex.objects.filter(model_version_id=generation.model_version_id, serving=True)
    return rows.filter(state=AttributionIndex.State.AUDITED).first()


def _run(restatement: Restatement, by: User, at: datetime) -> dict[str, Any]:
    """Let a restatement run. Raises UnableToDecide where its index serves no more."""
    if not _serves(restatement):
        raise UnableToDecide(
            "The index it was proposed for serves no more, or its audit no longer stands. Reject it; a restatement "
            "by the index that serves now can be proposed."
        )
    return {}


def _serves(restatement: Restatement) -> bool:
    rows = AttributionIndex.objects.filter(pk=restatement.index_id, serving=True)
    return rows.filter(state=AttributionIndex.State.AUDITED).exists()


def continue_restatement(*, restatement: Restatement, at: datetime, limit: int = BATCH_MAX) -> int:
    """Attribute the next `limit` generations again, and remember how far it came, in one transaction; returns how many
    were looked at. 0: it is done. The accrual sweep turns new revisions into reversal and new document. An archived
    generation, which no sweep could turn, keeps its revision.

    Killed and run again, it goes on where the last batch ended. Raises UnableToRestate: it is not running.
    """
    assert 1 <= limit <= BATCH_MAX
    with transaction.atomic():
        fresh = (
            Restatement.objects.select_for_update(no_key=True, of=("self",))
            .select_related("index")
            .get(pk=restatement.pk)
        )
        if fresh.finished_at is not None:
            return 0
        if not fresh.is_running:
            raise UnableToRestate(f"The {fresh} is {fresh.state}.")
        batch = _next_batch(fresh, limit)
        if batch and not _serves(fresh):
            # Another index took over since: the remaining generations keep the revision that stands, and nothing waits
            # behind it.
            fresh.n_kept += _left(fresh).count()
            batch = []
        if not batch:
            fresh.finished_at = at
            fresh.save(update_fields=["finished_at", "n_kept"])
            return 0
        archived = archived_of(batch)
        again = [pk for pk in batch if pk not in archived]
        made = attribute_batch_again(index=fresh.index, generation_ids=again, at=at) if again else 0
        fresh.n_attributed += made
        fresh.n_kept += len(batch) - made
        fresh.after_id = batch[-1]
        fresh.save(update_fields=["n_attributed", "n_kept", "after_id"])
    return len(batch)


def _next_batch(restatement: Restatement, limit: int) -> list[UUID]:
    return list(_left(restatement).order_by("pk").values_list("pk", flat=True)[:limit])


def _left(restatement: Restatement) -> QuerySet[Generation]:
    """Settled generations that the index has not attributed and nobody has looked at yet."""
    rows = Generation.objects.filter(
        model_version_id=restatement.index.model_version_id,
        occurred_at__gte=restatement.since,
        state=Generation.State.ATTRIBUTED,
        void__isnull=True,
    ).exclude(attributions__index_id=restatement.index_id)
    if restatement.generation_id is not None:
        rows = rows.filter(pk=restatement.generation_id)
    if restatement.after_id is not None:
        rows = rows.filter(pk__gt=restatement.after_id)
    return rows


def _restated(row: Restatement) -> str:
    return row.generation.external_id if row.generation else str(row.index.model_version)


def _page(row: Restatement) -> str:
    if row.generation_id is None:
        return reverse("ledger:restatements")
    return reverse("ledger:generation_page", args=[row.generation_id])


KIND = ProposalKind(
    key="restatement",
    model=Restatement,
    name="restatement",
    heading="Restatements",
    mail="A restatement waits for a second person",
    readers=WITH_COMPLIANCE,
    apply=_run,
    refusal=UnableToRestate,
    # Two constraints end so: for an index, and for a generation.
    unique="once_at_a_time",
    equal=lambda row: (
        f"A restatement {'of this generation' if row.generation_id else 'by this index'} is proposed or under way."
    ),
    title=lambda row: f"Restatement of {_restated(row)}",
    summary=lambda row: row.reason,
    facts=lambda row: [
        ("Restated", _restated(row)),
        ("Model service", str(row.index.model_version.service)),
        ("By the index", str(row.index)),
        ("Generations since", dates.moment_html(row.since)),
        ("Progress", row.standing[1] if row.state == Restatement.State.APPROVED else ""),
    ],
    effect="It runs in the background, a batch at a time. Old credits are reversed and new ones posted, dated now. "
    "Later earnings repay an overpayment.",
    approved=lambda row: "Approved. It runs in the background, a batch at a time.",
    page=_page,
    parent=("Restatements", "ledger:restatements"),
    subject=lambda row: f"restatement:{row.pk}",
    fields=("index_id", "generation_id", "since", "reason"),
    related=("index__model_version__service", "generation"),
)
