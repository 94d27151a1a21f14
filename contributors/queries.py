"""Reads of this app. Every query is bounded by a contributor or by given ids, so that nobody sees another's rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Count, Q, QuerySet

from contributors.models import (
    Consent,
    Contributor,
    ContributorLink,
    Dataset,
    DuplicatePair,
    Holder,
    IdentifyingDetail,
    LinkedContributor,
    Membership,
    User,
    Work,
)

_CONSENTS_IN_FORCE = """
WITH said AS (
    SELECT w.id AS for_work, 2 AS narrowness, c.id, c.value, c.valid_from, c.valid_to
    FROM contributors_work w JOIN contributors_consent c ON c.work_id = w.id
    WHERE w.id = ANY(%(works)s) AND c.scope = %(scope)s AND c.valid_from <= %(at)s
    UNION ALL
    SELECT w.id, 1, c.id, c.value, c.valid_from, c.valid_to
    FROM contributors_work w JOIN contributors_consent c ON c.dataset_id = w.dataset_id
    WHERE w.id = ANY(%(works)s) AND c.scope = %(scope)s AND c.valid_from <= %(at)s
    UNION ALL
    SELECT w.id, 0, c.id, c.value, c.valid_from, c.valid_to
    FROM contributors_work w JOIN contributors_dataset d ON d.id = w.dataset_id
    JOIN contributors_consent c ON c.contributor_id = d.contributor_id AND c.dataset_id IS NULL AND c.work_id IS NULL
    WHERE w.id = ANY(%(works)s) AND c.scope = %(scope)s AND c.valid_from <= %(at)s
), last_said AS (
    SELECT DISTINCT ON (for_work, narrowness) * FROM said ORDER BY for_work, narrowness, valid_from DESC, id DESC
), in_force AS (
    SELECT * FROM last_said WHERE valid_to IS NULL OR valid_to > %(at)s
), allowed AS (
    SELECT DISTINCT ON (for_work) for_work, id FROM in_force
    WHERE for_work NOT IN (SELECT for_work FROM in_force WHERE value = 'deny')
    ORDER BY for_work, narrowness DESC
)
SELECT c.*, allowed.for_work FROM allowed JOIN contributors_consent c ON c.id = allowed.id
"""


def consents_in_force(*, work_ids: Sequence[int], scope: str, at: datetime) -> dict[int, Consent]:
    """For each work that may be used, the narrowest statement that allows it; a work that may not is left out.

    Of each target (all works, the dataset, the work itself) the statement that begins last holds until it ends; any
    refusal in force wins, and where nothing is in force the answer is no. One query, however many works.
    """
    assert scope in Consent.Scope.values, scope
    if not work_ids:
        return {}
    rows = Consent.objects.raw(_CONSENTS_IN_FORCE, {"works": list(work_ids), "scope": scope, "at": at})
    return {row.for_work: row for row in rows}  # type: ignore[attr-defined]


def consent_in_force(*, work: Work, scope: str, at: datetime) -> Consent | None:
    """The statement that allows this use of the work at this moment; None where it is not allowed."""
    return consents_in_force(work_ids=[work.pk], scope=scope, at=at).get(work.pk)


def manages(user: User, contributor: Contributor) -> bool:
    """Whether somebody may change what is the contributor's: an owner or a manager."""
    return Membership.objects.filter(user=user, contributor=contributor, role__in=Membership.MANAGING).exists()


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


# --- accounts of one person -----------------------------------------------------------------------------------------
def linked_accounts(at: datetime) -> dict[int, int]:
    """Of each account that a link in force joins to others, the first account of its group. Links are transitive."""
    first: dict[int, int] = {}

    def find(account: int) -> int:
        while first.setdefault(account, account) != account:
            account = first[account]
        return account

    members = LinkedContributor.objects.filter(link__in=ContributorLink.objects.in_force(at)).order_by("link")
    of_link: dict[int, int] = {}
    for link, account in members.values_list("link_id", "contributor_id"):
        one, other = sorted((find(account), find(of_link.setdefault(link, account))))
        first[other] = one
    return {account: find(account) for account in first}


def counted_as_one(holder_ids: Sequence[int], at: datetime) -> list[tuple[int, ...]]:
    """Which of these holders belong to the same people by their sheets in force, linked accounts taken as one person:
    groups of two and more, ascending."""
    linked = linked_accounts(at)
    same_people = """
        SELECT array_agg(holder_id ORDER BY holder_id) FROM (
            SELECT s.holder_id, array_agg(DISTINCT COALESCE(l.first, s.contributor_id)) AS people
            FROM contributors_split s
            JOIN (
                SELECT holder_id, COALESCE(max(effective_from) FILTER (WHERE effective_from <= %s), min(effective_from))
                    AS effective_from
                FROM contributors_split WHERE holder_id = ANY(%s) GROUP BY holder_id
            ) sheet ON sheet.holder_id = s.holder_id AND sheet.effective_from = s.effective_from
            LEFT JOIN unnest(%s::bigint[], %s::bigint[]) AS l(account, first) ON l.account = s.contributor_id
            GROUP BY s.holder_id
        ) held GROUP BY people HAVING count(*) > 1 ORDER BY 1
    """
    with connection.cursor() as cursor:
        cursor.execute(same_people, [at, list(holder_ids), list(linked), list(linked.values())])
        return [tuple(holders) for (holders,) in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class CountedAsOne:
    """The other accounts that count as one with an account, and the links that name it, each with its reason."""

    others: list[Contributor]
    links: list[ContributorLink]


def linked_with(contributor: Contributor, at: datetime) -> CountedAsOne | None:
    """None for an account that counts alone."""
    linked = linked_accounts(at)
    if contributor.pk not in linked:
        return None
    others = [pk for pk, first in linked.items() if first == linked[contributor.pk] and pk != contributor.pk]
    links = ContributorLink.objects.in_force(at).filter(contributors=contributor)
    return CountedAsOne(list(Contributor.objects.filter(pk__in=others).order_by("pk")), list(links.order_by("pk")))


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Accounts that share a detail which one person has, and about which nobody has proposed or decided anything."""

    kind: str
    shown: str
    contributors: list[Contributor]
    # When the last of them was noted with it.
    noted_at: datetime


def suspicions(at: datetime) -> list[Suspicion]:
    """What nobody has looked at yet, the oldest first. An account more with the same detail is a new suspicion."""
    shared = IdentifyingDetail.objects.values("digest").annotate(n=Count("contributor")).filter(n__gt=1)
    details = IdentifyingDetail.objects.filter(digest__in=shared.values("digest")).select_related("contributor")
    by_detail: dict[tuple[str, str], list[IdentifyingDetail]] = {}
    for detail in details.order_by("noted_at", "pk"):
        by_detail.setdefault((detail.kind, detail.digest), []).append(detail)
    settled: dict[int, set[int]] = {}
    for link, account in LinkedContributor.objects.values_list("link_id", "contributor_id"):
        settled.setdefault(link, set()).add(account)
    linked = linked_accounts(at)
    found = {}
    for rows in by_detail.values():
        accounts = {row.contributor_id for row in rows}
        people = {linked.get(account, account) for account in accounts}
        if len(people) > 1 and not any(accounts <= members for members in settled.values()):
            # A detail that is noted under two keys is one.
            found[rows[0].get_kind_display(), frozenset(accounts)] = rows
    return [
        Suspicion(kind, rows[0].shown, [row.contributor for row in rows], rows[-1].noted_at)
        for (kind, _), rows in sorted(found.items(), key=lambda one: one[1][-1].noted_at)
    ]


# --- split sheets ---------------------------------------------------------------------------------------------------
def shared_holders(contributor: Contributor, at: datetime) -> list[Holder]:
    """The holders in whose sheet in force the contributor has a part, its own default one last."""
    named = Holder.objects.filter(splits__contributor=contributor).distinct().order_by("is_default", "label", "pk")
    sheets = split_of([holder.pk for holder in named], at)
    return [holder for holder in named if contributor.pk in dict(sheets[holder.pk])]


def named_split(holder: Holder, at: datetime) -> list[tuple[str, int]]:
    """The holder's sheet in force, by name, the largest part first."""
    sheet = split_of([holder.pk], at)[holder.pk]
    names = dict(Contributor.objects.filter(pk__in=[pk for pk, _ in sheet]).values_list("pk", "display_name"))
    return sorted(((names[pk], ppb) for pk, ppb in sheet), key=lambda part: -part[1])


def copies_of(cluster_ids: Iterable[int | None]) -> dict[int, int]:
    """How many works each cluster has."""
    known = {pk for pk in cluster_ids if pk is not None}
    counted = Work.objects.filter(cluster_id__in=known).values("cluster_id").annotate(n=Count("pk"))
    return {row["cluster_id"]: row["n"] for row in counted}


class DamagedContent(Exception):
    """The file of a work is missing, or is no longer what was registered."""


def content(work: Work) -> bytes:
    """The work's bytes as registered; what was read is checked against the digest."""
    try:
        data = (Path(settings.TRIBUTARY_DATA) / work.content_path).read_bytes()
    except FileNotFoundError as error:
        raise DamagedContent(f"The content of “{work}” is missing ({work.content_path}).") from error
    if hashlib.sha256(data).digest() != bytes(work.sha256):
        raise DamagedContent(f"The content of “{work}” does not match its digest ({work.content_path}).")
    return data


@dataclass(frozen=True, slots=True)
class ScopeState:
    """What the statements about one target say of one scope at a moment. `next` is one that has not begun yet."""

    scope: str
    label: str
    current: Consent | None
    next: Consent | None


@dataclass(frozen=True, slots=True)
class ConsentRow:
    """A line of the matrix: one target (a dataset, or None for all works) and its scopes, in the order of Scope."""

    dataset: Dataset | None
    states: list[ScopeState]


def consent_matrix(contributor: Contributor, at: datetime) -> list[ConsentRow]:
    """What is said of all works and of each dataset. Statements about single works are on the work's page."""
    statements = contributor.consents.filter(work__isnull=True).order_by("valid_from", "pk")
    by_target: dict[tuple[int | None, str], list[Consent]] = {}
    for statement in statements:
        by_target.setdefault((statement.dataset_id, statement.scope), []).append(statement)
    targets: list[Dataset | None] = [None, *contributor.datasets.order_by("name")]
    return [
        ConsentRow(
            dataset=dataset,
            states=[
                _state(scope, by_target.get((dataset.pk if dataset else None, scope.value), []), at)
                for scope in Consent.Scope
            ],
        )
        for dataset in targets
    ]


def work_consents(work: Work, at: datetime) -> list[tuple[str, Consent | None]]:
    """For each scope its label and the statement that allows it for this work, or None."""
    return [(scope.label, consent_in_force(work=work, scope=scope.value, at=at)) for scope in Consent.Scope]


def _state(scope: Consent.Scope, statements: Sequence[Consent], at: datetime) -> ScopeState:
    begun = [statement for statement in statements if statement.valid_from <= at]
    coming = [statement for statement in statements if statement.valid_from > at]
    current = begun[-1] if begun and (begun[-1].valid_to is None or begun[-1].valid_to > at) else None
    return ScopeState(scope.value, str(scope.label), current, coming[0] if coming else None)


def permissions_to_come(
    contributor: Contributor,
    *,
    scopes: Sequence[str],
    after: datetime,
    dataset: Dataset | None = None,
    work: Work | None = None,
) -> list[Consent]:
    """Permissions for exactly this target that begin after a moment, in the order in which they do: what is on record
    already and ends a refusal from that moment on."""
    rows = contributor.consents.filter(scope__in=scopes, dataset=dataset, work=work, valid_from__gt=after)
    # Of several that begin at one moment the last recorded counts.
    last = {(row.scope, row.valid_from): row for row in rows.order_by("valid_from", "pk")}
    return [row for row in last.values() if row.value == Consent.Value.ALLOW]


def consent_history(contributor: Contributor) -> QuerySet[Consent]:
    """Every statement, the last recorded first."""
    return contributor.consents.select_related("dataset", "work", "recorded_by").order_by("-recorded_at", "-pk")
