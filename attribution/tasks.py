"""Attribution in the background. The `received` row is the queue: a message only says that it is worth looking."""

from __future__ import annotations

import os
import time

import structlog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from attribution.models import ModelVersion
from attribution.operations import attributions, builds, evaluations, gateways, retention, revisions, uploads

BATCH = 64
# Of texts to delete; the next hour does the rest.
PURGE_BATCHES_MAX = 200
# Well inside the task's own limit: the next message or the next sweep does the rest.
SECONDS_MAX = 120.0
HINT_EXPIRES_SECONDS = 60

log = structlog.get_logger(__name__)


@shared_task
def attribute_received() -> int:
    """The hint that a report was stored."""
    return _attribute_until_none_is_left()


@shared_task
def sweep_received() -> int:
    """Find the generations that a lost message left behind."""
    return _attribute_until_none_is_left()


@shared_task
def purge_texts() -> int:
    """Delete texts past the period of their service, some batches at a time."""
    total = 0
    for _ in range(PURGE_BATCHES_MAX):
        done = retention.purge_texts(at=timezone.now())
        total += done
        if not done:
            break
    return total


@shared_task
def sweep_waiting() -> int:
    """Make generations of the reports that waited for a name of their model; drop those that waited too long."""
    at = timezone.now()
    gateways.expire_waiting(at=at)
    released = gateways.release_waiting(at=at)
    if released:
        log.info("waiting reports released", count=released)
        _attribute_until_none_is_left()
    return released


# --- builds ---------------------------------------------------------------------------------------------------------
# One message a step. A step of a large model takes longer than the broker waits for a worker. The message then comes
# again, finds the step locked and is dropped.
STEP_SECONDS_MAX = 6 * 3600


@shared_task(soft_time_limit=STEP_SECONDS_MAX, time_limit=STEP_SECONDS_MAX + 60)
def take_build_step(step_id: int) -> bool:
    """Take the hint that a step of a build can be done. The end of a stage announces the steps of the next one."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    done = builds.take_step(step_id=step_id, at=timezone.now())
    if done:
        sweep_builds()
    return done


@shared_task
def sweep_builds() -> int:
    """Announce every step that could be done now: after a stage, and after a lost message."""
    steps = builds.steps_to_do()
    for step in steps:
        take_build_step.apply_async((step.pk,), expires=HINT_EXPIRES_SECONDS)
    return len(steps)


@shared_task(soft_time_limit=STEP_SECONDS_MAX, time_limit=STEP_SECONDS_MAX + 60)
def take_audit(index_id: int) -> bool:
    """The hint that a queued audit can be made. It goes on where a former one was cut off."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return evaluations.take_audit(index_id=index_id, at=timezone.now(), processes=settings.AUDIT_PROCESSES)


@shared_task
def sweep_audits() -> int:
    """Tell of every queued audit; one that a worker is at is locked, and the message dropped."""
    queued = evaluations.audits_to_do()
    for index_id in queued:
        take_audit.apply_async((index_id,), expires=HINT_EXPIRES_SECONDS)
    return len(queued)


@shared_task
def sweep_uploads() -> int:
    """Remove unfinished uploads that nobody goes on with; how many."""
    return uploads.expire_uploads(at=timezone.now())


@shared_task(soft_time_limit=STEP_SECONDS_MAX, time_limit=STEP_SECONDS_MAX + 60)
def sweep_removals() -> int:
    """Let indexes follow the works that were removed or restored; how many changed."""
    at = timezone.now()
    if settings.WITHDRAWN_WORKS_LEAVE_INDEXES:
        for version in ModelVersion.objects.filter(indexes__isnull=False).distinct():
            revisions.follow_consent(model_version=version, at=at)
    return revisions.revise_indexes(at=at)


def _attribute_until_none_is_left() -> int:
    # Several workers share the cores; libgomp and OpenBLAS read this when torch is first loaded, below.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    done = 0
    while time.monotonic() - started < SECONDS_MAX:
        settled = attributions.attribute_batch(limit=BATCH, at=timezone.now())
        if not settled:
            break
        done += settled
    if done:
        log.info("generations attributed", count=done, seconds=round(time.monotonic() - started, 3))
    return done
