"""Evaluations that workers run: queued on the index, run by the holder of its lock, resumed after a kill."""

from __future__ import annotations

import math
from datetime import datetime

import structlog
from django.db import transaction

from attribution.models import AttributionIndex, ModelVersion
from attribution.operations.builds import ERROR_CHARACTERS_MAX, session_lock
from attribution.operations.factories import PUSHED
from attribution.operations.indexes import AUDIT_GENERATIONS, UnableToAuditIndex, audit_index, open_built
from people.actor import logged
from people.models import User

# Class of the advisory locks of audits; the other half is the index's id.
LOCK_CLASS = 0x6175
COALITIONS = 16
State = AttributionIndex.State
AUDITABLE = (State.BUILT, State.AUDITED, State.FAILED)

log = structlog.get_logger(__name__)


@logged("model_version", "public_id", "state", key="model_version.public_id")
def queue_audit(*, index: AttributionIndex, at: datetime, by: User | None = None) -> AttributionIndex:
    """Hand the evaluation of an index to the workers; audit_index describes the consequences of its result.

    Raises UnableToAuditIndex for an index that is not built, is retired, or has its evaluation queued already.
    """
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=index.model_version_id)
        row = AttributionIndex.objects.select_related("model_version").get(pk=index.pk)
        if row.state not in AUDITABLE:
            raise UnableToAuditIndex("Only an index that is built and not retired can be audited.")
        if row.model_version.adapter == PUSHED:
            raise UnableToAuditIndex(
                "This model runs at its service: retrain it there and send the evaluation's report to the API."
            )
        if row.audit_queued_at is not None:
            raise UnableToAuditIndex("Its evaluation is queued already.")
        row.audit_queued_at, row.audit_error = at, ""
        row.save(update_fields=["audit_queued_at", "audit_error"])
    return row


def audits_to_do() -> list[int]:
    """List the ids of the indexes with a queued evaluation, longest wait first."""
    queued = AttributionIndex.objects.filter(audit_queued_at__isnull=False).order_by("audit_queued_at", "pk")
    return list(queued.values_list("pk", flat=True))


def take_audit(
    *,
    index_id: int,
    at: datetime,
    coalitions: int | None = None,
    processes: int = 1,
    generations: int = AUDIT_GENERATIONS,
    controls: bool = True,
) -> bool:
    """Run a queued evaluation. Returns False if another worker has it or it is already done.

    Without `coalitions` 16 are retrained, or all that there are of few holders. A failure is shown with the index,
    which then waits for nothing. A killed worker leaves the evaluation to the next one. Retrained models are kept.
    """
    with session_lock(LOCK_CLASS, index_id) as mine:
        index = AttributionIndex.objects.select_related("model_version__manifest").filter(pk=index_id).first()
        if not mine or index is None or index.audit_queued_at is None:
            return False
        queued = AttributionIndex.objects.filter(pk=index_id)
        try:
            audit_index(
                index=index,
                at=at,
                coalitions=_usual_coalitions(index) if coalitions is None else coalitions,
                processes=processes,
                generations=generations,
                controls=controls,
            )
        except Exception as error:
            queued.update(audit_queued_at=None, audit_error=(str(error) or repr(error))[:ERROR_CHARACTERS_MAX])
            log.error("an audit failed", index=str(index.public_id), error=repr(error))
            raise
        queued.update(audit_queued_at=None, audit_error="")
    return True


def _usual_coalitions(index: AttributionIndex) -> int:
    holders = len(open_built(index=index).index.holder_ids)
    return min(COALITIONS, math.comb(holders, holders // 2))
