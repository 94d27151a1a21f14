"""Faults of models: counted by model version, set aside after some in succession, and taken up again by a person.

The code of a model is not ours. It may raise anything, run out of memory, crash the process or never return. None of
this may cost more than the generations of that model version.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import structlog
from django.db import connection, transaction

from attribution.models import MeasuringAttempt, ModelFault, ModelVersion
from attribution.operations.builds import session_lock
from people.actor import logged
from people.models import User

# Class of the advisory locks of attempts; the other half is the attempt's number.
LOCK_CLASS = 0x6D65
REASON_CHARACTERS_MAX = 500
DIED = "The worker process ended while this model was measured: it ran out of memory or time, or native code crashed."

log = structlog.get_logger(__name__)


class UnableToTakeUp(Exception):
    """The model version is not set aside."""

    status = 409
    problem = "unable-to-take-up"


@contextmanager
def attempt(version_id: int, *, at: datetime) -> Iterator[bool]:
    """Note an attempt at a model version while the block runs; yields False where the version is set aside by now.

    An attempt of a dead worker is counted as a failure here, once for all that died together.
    """
    number = secrets.randbelow(2**31)
    if _count_dead(version_id, at=at):
        yield False
        return
    with session_lock(LOCK_CLASS, number):
        MeasuringAttempt.objects.create(pk=number, model_version_id=version_id, started_at=at)
        try:
            yield True
        finally:
            MeasuringAttempt.objects.filter(pk=number).delete()


def _count_dead(version_id: int, *, at: datetime) -> bool:
    """Remove attempts of workers that are gone; returns whether the version is set aside for it."""
    noted = MeasuringAttempt.objects.filter(model_version_id=version_id).values_list("pk", flat=True)
    dead = [pk for pk in noted if _is_free(pk)]
    removed = MeasuringAttempt.objects.filter(pk__in=dead).delete()[0] if dead else 0
    return bool(removed) and record_failure(version_id, DIED, at=at)


def _is_free(number: int) -> bool:
    with connection.cursor() as cursor:
        # Held by this session as well, the lock is no sign of a dead worker.
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [LOCK_CLASS, number],
        )
        return bool(cursor.fetchone()[0] == 0)


def record_failure(version_id: int, reason: str, *, at: datetime, final: bool = False) -> bool:
    """Count a failure of a model version; returns whether it is set aside now. `final`: more attempts are pointless."""
    words = reason.strip().replace("\x00", "")[:REASON_CHARACTERS_MAX] or "It failed without a word."
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=version_id)
        row, _ = ModelFault.objects.get_or_create(
            model_version_id=version_id, defaults={"reason": words, "failed_at": at}
        )
        row.failures, row.reason, row.failed_at = row.failures + 1, words, at
        if row.set_aside_at is None and (final or row.failures >= ModelFault.FAILURES_MAX):
            row.set_aside_at = at
            log.error("a model version is set aside", model_version=version_id, reason=words, failures=row.failures)
        row.save()
    return row.set_aside_at is not None


def record_success(version_id: int) -> None:
    """Forget the failures of a model version that works."""
    ModelFault.objects.filter(model_version_id=version_id, failures__gt=0, set_aside_at=None).update(failures=0)


@logged("model_version", "reason", "failures", key="model_version.public_id", before="set aside")
def take_up(*, model_version: ModelVersion, at: datetime, by: User | None = None) -> ModelFault:
    """Take up a model version that was set aside: its waiting generations are tried again.

    Raises UnableToTakeUp where it is not set aside.
    """
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=model_version.pk)
        row = ModelFault.objects.filter(model_version=model_version, set_aside_at__isnull=False).first()
        if row is None:
            raise UnableToTakeUp(f"{model_version.name} is not set aside.")
        row.set_aside_at, row.failures = None, 0
        row.save(update_fields=["set_aside_at", "failures"])
        # Deaths before the fix say nothing about it.
        MeasuringAttempt.objects.filter(model_version=model_version).delete()
    log.info("a model version is taken up again", model_version=str(model_version.public_id))
    return row
