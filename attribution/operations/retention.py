"""Prompts and outputs go after the period of their service: text, token ids and media.

Digests, counts, shares, receipts, entries and idempotency stay. Nothing can be measured anew from a deleted text; the
arithmetic of its shares can still be done again from the stored scores.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import QuerySet

from attribution.models import Generation, GenerationPart, ModelService
from attribution.queries.generations import texts_due
from contributors.queries.contents import OUTPUTS, THUMBNAILS, path_of
from people.actor import logged
from people.models import User

DAYS_MAX = 3_650
BATCH_MAX = 500


class UnableToSetRetention(Exception):
    """The period is no number of days from 1 to DAYS_MAX."""

    status = 422
    problem = "retention-invalid"


@logged("service", "text_retention_days", key="public_id")
def set_retention(*, service: ModelService, days: int | None, at: datetime, by: User | None = None) -> ModelService:
    """Set the period, in days from the report, after which texts of a service are deleted; None keeps them.

    Raises UnableToSetRetention.
    """
    if days is not None and not 1 <= days <= DAYS_MAX:
        raise UnableToSetRetention(f"Texts are kept for 1 to {DAYS_MAX:,} days, or without an end; not {days}.")
    ModelService.objects.filter(pk=service.pk).update(text_retention_days=days)
    service.text_retention_days = days
    return service


def purge_texts(*, at: datetime, limit: int = BATCH_MAX) -> int:
    """Delete the texts and media of up to `limit` generations past their period; returns their number.

    A generation that waits for its attribution keeps its text until then. Killed and run again, it goes on.
    """
    assert 1 <= limit <= BATCH_MAX
    for service in ModelService.objects.filter(text_retention_days__isnull=False).order_by("pk"):
        assert service.text_retention_days is not None
        due = texts_due(service, before=at - timedelta(days=service.text_retention_days))
        if done := _purge(due, at=at, limit=limit):
            return done
    return 0


@transaction.atomic
def _purge(due: QuerySet[Generation], *, at: datetime, limit: int) -> int:
    locked = due.select_for_update(skip_locked=True, no_key=True).order_by("received_at", "pk")
    found = list(locked.values_list("pk", flat=True)[:limit])
    if found:
        _delete_media(found)
        Generation.objects.filter(pk__in=found).update(
            prompt_text="", output_text="", prompt_token_ids=None, token_ids=None, texts_deleted_at=at
        )
    return len(found)


def _delete_media(generations: Sequence[uuid.UUID]) -> None:
    """Remove the files of these generations that no other generation needs. Files come before rows: a killed
    purge leaves rows without files, which the next one finishes.
    """
    parts = GenerationPart.objects.filter(generation__in=generations, is_kept=True)
    for digest in sorted({bytes(sha256) for sha256 in parts.values_list("sha256", flat=True)}):
        lock_output(digest=digest, shared=False)
        others = GenerationPart.objects.filter(sha256=digest, is_kept=True, generation__texts_deleted_at__isnull=True)
        if others.exclude(generation__in=generations).exists():
            continue
        for folder in (OUTPUTS, f"{THUMBNAILS}/{OUTPUTS}"):
            with contextlib.suppress(FileNotFoundError):
                path_of(folder, digest).unlink()


def lock_output(*, digest: bytes, shared: bool) -> None:
    """Lock the file of a digest until the transaction ends: a new report shares it, its removal has it alone."""
    suffix = "_shared" if shared else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT pg_advisory_xact_lock{suffix}(hashtext('attribution outputs'), hashtext(%s))", [digest.hex()]
        )
