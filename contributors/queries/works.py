"""Reads of works, datasets and copies. Every query is bounded by a contributor or by given ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.db.models import Count, Q, QuerySet

from contributors.models import (
    Contributor,
    Dataset,
    DuplicatePair,
    Work,
)


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


class DamagedContent(Exception):
    """The file of a work is missing, or differs from the registered content."""


def content(work: Work) -> bytes:
    """The work's bytes as registered; the read bytes are checked against the digest."""
    try:
        data = (Path(settings.TRIBUTARY_DATA) / work.content_path).read_bytes()
    except FileNotFoundError as error:
        raise DamagedContent(f"The content of “{work}” is missing ({work.content_path}).") from error
    if hashlib.sha256(data).digest() != bytes(work.sha256):
        raise DamagedContent(f"The content of “{work}” does not match its digest ({work.content_path}).")
    return data
