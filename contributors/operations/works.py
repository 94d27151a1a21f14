"""Datasets and works: content is checked and stored, and copies of it are found across all contributors."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from contributors import fingerprints
from contributors.formats import UnreadableContent
from contributors.models import (
    PPB,
    Contributor,
    Dataset,
    DuplicateCluster,
    DuplicatePair,
    Holder,
    Work,
)
from contributors.operations import contents
from contributors.queries.contents import WORKS
from people.models import User
from people.presentation import dates

WORKS_MAX = 1_000
WORKS_LOCK = 0x776F726B
"""Advisory lock: registrations take turns, so that of two copies registered at once one sees the other."""
UPLOAD_LOCK = 0x75706C
"""Advisory lock of a person's upload, with the person's number."""
WORKS_PER_HOUR_MAX = 2_000
# Of the threads of a web process, so many compare works at the same time; the others serve everybody else.
_CHECKING = threading.BoundedSemaphore(2)
CANDIDATES_MAX = 32
"""A new work is compared with at most so many earlier ones for each band, the earliest first; a cluster is joined
through any of its members, so that a thousand copies make no million pairs."""


class UnableToRegisterDataset(Exception):
    status = 422
    problem = "dataset-refused"


@transaction.atomic
def register_dataset(
    *, contributor: Contributor, name: str, description: str, licence: str, at: datetime.datetime
) -> Dataset:
    """Open a named set of works under one licence.

    Raises UnableToRegisterDataset without a name or licence, and for a name that the contributor uses already.
    """
    name, licence = name.strip(), licence.strip()
    if not name or len(name) > 200:
        raise UnableToRegisterDataset("Give the dataset a name of 1 to 200 characters.")
    if not licence or len(licence) > 200:
        raise UnableToRegisterDataset("Say in 1 to 200 characters under which licence the works stand.")
    Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    if contributor.datasets.filter(name=name).exists():
        raise UnableToRegisterDataset(f"There is already a dataset named “{name}”; choose another name.")
    return Dataset.objects.create(
        contributor=contributor, name=name, description=description.strip(), licence=licence, created_at=at
    )


@dataclass(frozen=True, slots=True)
class NewWork:
    title: str
    modality: str
    content: bytes
    published_on: datetime.date | None = None


class UnableToRegisterWorks(Exception):
    """Nothing of the call was registered. `members["works"]` names each refused work: position, title, reason."""

    status = 422
    problem = "works-refused"

    def __init__(self, message: str, refused: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.members = {"works": list(refused)}


@contextlib.contextmanager
def upload_turn(*, user: User, contributor: Contributor, at: datetime.datetime) -> Iterator[None]:
    """Hold the one upload of a person, for as long as the block runs: comparing works costs seconds and memory.

    Raises UnableToRegisterWorks while another upload of the person runs, while this process checks as many as it may,
    and after WORKS_PER_HOUR_MAX works in an hour.
    """
    since = at - datetime.timedelta(hours=1)
    recent = Work.objects.filter(dataset__contributor=contributor, created_at__gt=since)[:WORKS_PER_HOUR_MAX].count()
    if recent >= WORKS_PER_HOUR_MAX:
        raise UnableToRegisterWorks(f"At most {WORKS_PER_HOUR_MAX:,} works are uploaded in an hour; go on later.")
    if not _CHECKING.acquire(blocking=False):
        raise UnableToRegisterWorks("Other uploads are being checked just now. Send yours again in a minute.")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [UPLOAD_LOCK, user.pk])
            if not cursor.fetchone()[0]:
                raise UnableToRegisterWorks("Another upload of yours is still being checked. Wait until it ends.")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [UPLOAD_LOCK, user.pk])
    finally:
        _CHECKING.release()


def register_works(
    *, dataset: Dataset, works: Sequence[NewWork], at: datetime.datetime, holder: Holder | None = None
) -> list[Work]:
    """Register up to 1,000 whole works of at most 5 MiB, all or none, and record which earlier works they repeat.

    `holder` names the payee of them: by default the contributor alone. Content is stored before the transaction, under
    its digest: a file that no row names is harmless, a row without its file is not. Raises UnableToRegisterWorks with
    the reason of each refused work.
    """
    if not 1 <= len(works) <= WORKS_MAX:
        raise UnableToRegisterWorks(f"Register 1 to {WORKS_MAX:,} works at once, not {len(works):,}.")
    if holder is not None and not holder.splits.filter(contributor=dataset.contributor).exists():
        raise UnableToRegisterWorks(f"{dataset.contributor} has no part in “{holder}”; choose a holder that names it.")
    digests = [hashlib.sha256(work.content).digest() for work in works]
    signatures, refused = _checked(works, digests, at)
    if not refused:
        refused = _already_in(dataset, works, digests)
    if refused:
        listed = "; ".join(f"“{entry['title']}”: {entry['reason']}" for entry in refused[:10])
        more = f"; and {len(refused) - 10} more" if len(refused) > 10 else ""
        raise UnableToRegisterWorks(f"Nothing was registered. {listed}{more}.", refused)
    # Each file is synced to disk; side by side they share the wait.
    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(functools.partial(contents.store, WORKS), digests, (work.content for work in works)))
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [WORKS_LOCK])
        if refused := _already_in(dataset, works, digests):
            raise UnableToRegisterWorks("Nothing was registered: another call has just registered the same.", refused)
        owner = holder or dataset.contributor.holders.get(is_default=True)
        registered = Work.objects.bulk_create(
            Work(
                dataset=dataset,
                holder=owner,
                title=new.title.strip(),
                modality=new.modality,
                sha256=digest,
                size_bytes=len(new.content),
                published_on=new.published_on,
                fingerprint=signature,
                created_at=at,
            )
            for new, digest, signature in zip(works, digests, signatures, strict=True)
        )
        _write_bands(registered)
        pairs = DuplicatePair.objects.bulk_create([*_exact_pairs(registered, at), *_near_pairs(registered, at)])
        _join_clusters(pairs, registered, at)
    return registered


def _checked(
    works: Sequence[NewWork], digests: Sequence[bytes], at: datetime.datetime
) -> tuple[list[bytes], list[dict[str, Any]]]:
    """The fingerprints, and the faults of the faulty works."""
    signatures: list[bytes] = []
    refused: list[dict[str, Any]] = []
    first_of: dict[bytes, int] = {}
    for i, (work, digest) in enumerate(zip(works, digests, strict=True)):
        title, reason = work.title.strip(), ""
        if not title or len(title) > 300 or not title.isprintable():
            reason = "its title must have 1 to 300 printable characters"
        elif work.modality not in Work.Modality.values:
            reason = f"its kind must be text, image, audio or video, not “{work.modality}”"
        elif work.published_on is not None and work.published_on > dates.today(at):
            reason = f"it cannot have been published on {work.published_on}, which is still to come"
        elif (earlier := first_of.setdefault(digest, i)) != i:
            reason = f"it is the same as “{works[earlier].title}” in this call"
        else:
            try:
                signatures.append(fingerprints.fingerprint(work.modality, work.content))
            except UnreadableContent as error:
                reason = str(error)
        if reason:
            refused.append({"position": i, "title": title[:300] or f"work {i + 1}", "reason": reason})
    return signatures, refused


def _already_in(dataset: Dataset, works: Sequence[NewWork], digests: Sequence[bytes]) -> list[dict[str, Any]]:
    known = dataset.works.filter(sha256__in=digests).values_list("sha256", "title")
    titles = {bytes(digest): title for digest, title in known}
    return [
        {"position": i, "title": work.title, "reason": f"this dataset holds it already, as “{titles[digest]}”"}
        for i, (work, digest) in enumerate(zip(works, digests, strict=True))
        if digest in titles
    ]


def _write_bands(registered: Sequence[Work]) -> None:
    bands = [
        (work.pk, key) for work in registered for key in set(fingerprints.bands(work.modality, bytes(work.fingerprint)))
    ]
    with connection.cursor() as cursor:
        # 32 rows for each work: as two arrays, because building them as objects takes longer than storing them.
        cursor.execute(
            "INSERT INTO contributors_fingerprintband (work_id, key) SELECT * FROM unnest(%s::bigint[], %s::bigint[])",
            [[work_id for work_id, _ in bands], [key for _, key in bands]],
        )


def _exact_pairs(registered: Sequence[Work], at: datetime.datetime) -> list[DuplicatePair]:
    same = """
        SELECT earlier.id, new.id FROM contributors_work new
        CROSS JOIN LATERAL (
            SELECT id FROM contributors_work WHERE sha256 = new.sha256 AND id < new.id ORDER BY id LIMIT %s
        ) earlier WHERE new.id = ANY(%s)
    """
    with connection.cursor() as cursor:
        cursor.execute(same, [CANDIDATES_MAX, [work.pk for work in registered]])
        return [
            DuplicatePair(first_id=first, second_id=second, kind="exact", similarity_ppb=PPB, found_at=at)
            for first, second in cursor.fetchall()
        ]


def _near_pairs(registered: Sequence[Work], at: datetime.datetime) -> list[DuplicatePair]:
    sharing_a_band = """
        SELECT DISTINCT earlier.work_id, new.work_id FROM contributors_fingerprintband new
        CROSS JOIN LATERAL (
            SELECT work_id FROM contributors_fingerprintband
            WHERE key = new.key AND work_id < new.work_id ORDER BY work_id LIMIT %s
        ) earlier WHERE new.work_id = ANY(%s)
    """
    with connection.cursor() as cursor:
        cursor.execute(sharing_a_band, [CANDIDATES_MAX, [work.pk for work in registered]])
        candidates = cursor.fetchall()
    works = Work.objects.only("sha256", "fingerprint", "modality").in_bulk({pk for pair in candidates for pk in pair})
    pairs = []
    for first_id, second_id in candidates:
        first, second = works[first_id], works[second_id]
        if first.modality != second.modality or bytes(first.sha256) == bytes(second.sha256):
            continue
        similarity = fingerprints.similarity_ppb(first.modality, bytes(first.fingerprint), bytes(second.fingerprint))
        if similarity >= fingerprints.NEAR_PPB[first.modality]:
            pairs.append(DuplicatePair(first=first, second=second, kind="near", similarity_ppb=similarity, found_at=at))
    return pairs


def _join_clusters(pairs: Iterable[DuplicatePair], registered: Sequence[Work], at: datetime.datetime) -> None:
    """Give every pair's works one cluster; clusters that meet become the oldest of them."""
    pairs = list(pairs)
    ids = {pk for pair in pairs for pk in (pair.first_id, pair.second_id)}
    cluster_of = dict(Work.objects.filter(pk__in=ids).values_list("pk", "cluster_id"))
    # Union-find over nodes: a work without a cluster is ("work", id), otherwise its cluster stands for it.
    parent: dict[tuple[str, int], tuple[str, int]] = {}

    def root(work_id: int) -> tuple[str, int]:
        cluster = cluster_of[work_id]
        node = ("work", work_id) if cluster is None else ("cluster", cluster)
        while (above := parent.get(node, node)) != node:
            node = above
        return node

    for pair in pairs:
        one, other = sorted((root(pair.first_id), root(pair.second_id)))
        if one != other:
            parent[other] = one  # "cluster" sorts before "work", and an older cluster before a younger.
    members: dict[tuple[str, int], tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
    for work_id in ids:
        works, clusters = members[root(work_id)]
        works.add(work_id)
        if (cluster := cluster_of[work_id]) is not None:
            clusters.add(cluster)
    for works, clusters in members.values():
        kept = min(clusters) if clusters else DuplicateCluster.objects.create(created_at=at).pk
        Work.objects.filter(pk__in=works).exclude(cluster_id=kept).update(cluster_id=kept)
        if merged := clusters - {kept}:
            Work.objects.filter(cluster_id__in=merged).update(cluster_id=kept)
    for work in registered:
        if work.pk in ids:
            work.refresh_from_db(fields=["cluster"])
