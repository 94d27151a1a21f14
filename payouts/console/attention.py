"""Needs attention: everything of every app that waits for somebody of the staff, and its count in the navigation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from payouts.console import READERS
from payouts.queries import attention as queries
from people.console.guard import staff_required, user_of
from people.inbox import Group, Kind, OpenItem, Reader
from people.models import STAFF_ROLES
from people.queries.programme import on_trial

LISTED = 50
LISTED_OF_ONE_KIND = 500


@dataclass(frozen=True, slots=True)
class Row:
    """An item as one reader sees it; `why_not` is "" where the reader can act on it."""

    item: OpenItem
    age: str
    why_not: str


@dataclass(frozen=True, slots=True)
class Section:
    kind: Kind
    rows: list[Row]
    count: int
    is_cut: bool


def sections(groups: Iterable[Group], *, reader: Reader, at: datetime, mine: bool = False) -> list[Section]:
    """Say of each item the action open to its reader; with `mine`, skip the items that the reader cannot act on."""
    found = []
    alone = on_trial()
    for group in groups:
        rows = [Row(item, item.age(at), _why_not(group.kind, item, reader, alone)) for item in group.items]
        kept = [row for row in rows if not (mine and row.why_not)]
        if kept:
            found.append(Section(group.kind, kept, len(kept) if mine else group.count, group.is_cut))
    return found


def _why_not(kind: Kind, item: OpenItem, reader: Reader, alone: bool) -> str:
    """Say why the reader cannot act on the item. Nobody is barred by their own half while one person tries it out."""
    if alone and reader.pk in item.barred and reader.has_role(*kind.roles):
        return ""
    return kind.why_not(item, reader)


@require_GET
@staff_required(*STAFF_ROLES)
def attention(request: HttpRequest) -> HttpResponse:
    user, at = user_of(request), timezone.now()
    chosen = request.GET.get("kind", "")
    chosen = chosen if chosen in queries.BY_NAME else ""
    mine = request.GET.get("mine") == "1"
    listed = queries.groups(at=at, limit=LISTED)
    total = sum(group.count for group in listed)
    queries.remember(total)
    if not user.has_role(*READERS):
        # The model team sees its own work, and none about money.
        listed = [group for group in listed if user.has_role(*group.kind.roles)]
        chosen = chosen if chosen in {group.kind.name for group in listed} else ""
        total = sum(group.count for group in listed)
    wanted = queries.groups(at=at, limit=LISTED_OF_ONE_KIND, kind=chosen) if chosen else listed
    shown = sections(wanted, reader=user, at=at, mine=mine)
    context = {
        "sections": shown,
        "kinds": [(group.kind, group.count) for group in listed],
        "chosen": chosen,
        "mine": mine,
        "total": total,
        "n_open_items": total,
    }
    return render(request, "payouts/console/attention.html", context)


def count_in_navigation(request: HttpRequest) -> dict[str, Callable[[], int]]:
    """Give templates `n_open_items`; it is counted where a template asks for it, as the console's navigation does."""

    def counted() -> int:
        user = request.user
        return queries.count(at=timezone.now()) if user.is_authenticated and user.has_role(*READERS) else 0

    return {"n_open_items": counted}
