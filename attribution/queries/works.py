"""Reads of works for model services: those with consent to a use at a moment, and the feed of consents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from contributors.models import Consent, Work
from contributors.queries.consents import consents_in_force

CANDIDATES = 1_000
# A page looks at so many works at most, and may therefore be short although others follow.
CANDIDATES_MAX = 20_000


@dataclass(frozen=True, slots=True)
class ConsentedWork:
    work: Work
    consent: Consent


def consented_works(
    *, purpose: str, at: datetime, after: int = 0, limit: int, modality: str | None = None
) -> tuple[list[ConsentedWork], int | None]:
    """List works that may be used for a purpose at a moment, in the order of their registration, after a key.

    Returns with them the key to go on after; None where no work follows.
    """
    found: list[ConsentedWork] = []
    works = Work.objects.filter(created_at__lte=at).select_related("dataset__contributor", "holder").order_by("pk")
    if modality is not None:
        works = works.filter(modality=modality)
    seen = 0
    while seen < CANDIDATES_MAX:
        batch = list(works.filter(pk__gt=after)[:CANDIDATES])
        allowed = consents_in_force(work_ids=[work.pk for work in batch], scope=purpose, at=at)
        for work in batch:
            after = work.pk
            if work.pk in allowed:
                found.append(ConsentedWork(work, allowed[work.pk]))
                if len(found) == limit:
                    more = works.filter(pk__gt=after).exists()
                    return found, after if more else None
        seen += len(batch)
        if len(batch) < CANDIDATES:
            return found, None
    return found, after


def consent_feed() -> QuerySet[Consent]:
    """Every statement about works, in the order in which they were recorded."""
    return Consent.objects.select_related("contributor", "dataset", "work").order_by("pk")
