"""Reads of split sheets: the parts of a holder at a moment, and the holders that a contributor shares."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import connection

from contributors.models import Contributor, Holder
from contributors.queries.people import labels


def split_of(holder_ids: Iterable[int], at: datetime) -> dict[int, list[tuple[int, int]]]:
    """For each holder the sheet in force: (contributor id, parts per billion), by contributor; they sum to 10^9.

    Before a holder's first sheet the first one holds: somebody made the work before it was registered.
    """
    sheets = """
        SELECT s.holder_id, s.contributor_id, s.ppb FROM contributors_split s
        JOIN (
            SELECT holder_id, COALESCE(max(effective_from) FILTER (WHERE effective_from <= %s), min(effective_from))
                AS effective_from
            FROM contributors_split WHERE holder_id = ANY(%s) GROUP BY holder_id
        ) sheet ON sheet.holder_id = s.holder_id AND sheet.effective_from = s.effective_from
        ORDER BY s.holder_id, s.contributor_id
    """
    splits: dict[int, list[tuple[int, int]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(sheets, [at, list(holder_ids)])
        for holder_id, contributor_id, ppb in cursor.fetchall():
            splits.setdefault(holder_id, []).append((contributor_id, ppb))
    return splits


# --- split sheets ---------------------------------------------------------------------------------------------------
def shared_holders(contributor: Contributor, at: datetime) -> list[Holder]:
    """The holders with a part of the contributor in their sheet in force, its own default one last."""
    named = Holder.objects.filter(splits__contributor=contributor).distinct().order_by("is_default", "label", "pk")
    sheets = split_of([holder.pk for holder in named], at)
    return [holder for holder in named if contributor.pk in dict(sheets[holder.pk])]


def named_split(holder: Holder, at: datetime) -> list[tuple[str, int]]:
    """The holder's sheet in force, by name, the largest part first. A name that several have carries its number."""
    sheet = split_of([holder.pk], at)[holder.pk]
    names = labels(Contributor.objects.filter(pk__in=[pk for pk, _ in sheet]))
    return sorted(((names[pk], ppb) for pk, ppb in sheet), key=lambda part: -part[1])
