"""Reads of linked accounts: accounts with the same beneficial owner, and suspected ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Count

from contributors.models import (
    Contributor,
    ContributorLink,
    IdentifyingDetail,
    LinkedContributor,
)


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
    """Suspicions that nobody has looked at yet, the oldest first. An account more with the same detail is a new
    suspicion.
    """
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
