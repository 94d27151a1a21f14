"""Reads of works, datasets and copies. Every query is bounded by a contributor or by given ids."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Count, Q, QuerySet

from contributors.models import (
    Contributor,
    Dataset,
    DuplicatePair,
    Work,
)
from contributors.queries import contents


def works_of(contributor: Contributor, *, search: str = "", dataset: Dataset | None = None) -> QuerySet[Work]:
    """The contributor's works, newest first."""
    works = Work.objects.filter(dataset__contributor=contributor).select_related("dataset", "holder")
    if dataset is not None:
        works = works.filter(dataset=dataset)
    if search:
        works = works.filter(Q(title__icontains=search) | Q(dataset__name__icontains=search))
    return works.order_by("-created_at", "-pk")


def datasets_of(contributor: Contributor) -> QuerySet[Dataset]:
    """The contributor's datasets by name, each with `n_works`."""
    return contributor.datasets.annotate(n_works=Count("works")).order_by("name")


def duplicates_of(contributor: Contributor) -> QuerySet[DuplicatePair]:
    """Every pair that one of the contributor's works is in, the most similar first."""
    return _pairs().filter(Q(first__dataset__contributor=contributor) | Q(second__dataset__contributor=contributor))


def duplicates_of_work(work: Work) -> QuerySet[DuplicatePair]:
    return _pairs().filter(Q(first=work) | Q(second=work))


def _pairs() -> QuerySet[DuplicatePair]:
    return DuplicatePair.objects.select_related("first__dataset__contributor", "second__dataset__contributor").order_by(
        "-similarity_ppb", "pk"
    )


def copies_of(cluster_ids: Iterable[int | None]) -> dict[int, int]:
    """How many works each cluster has."""
    known = {pk for pk in cluster_ids if pk is not None}
    counted = Work.objects.filter(cluster_id__in=known).values("cluster_id").annotate(n=Count("pk"))
    return {row["cluster_id"]: row["n"] for row in counted}


def content(work: Work) -> bytes:
    """Read the work as it was registered. Raises contents.DamagedContent for another or a missing file."""
    return contents.read(contents.WORKS, bytes(work.sha256), called=f"“{work}”")
