"""The inbox "Needs attention": a list of all that waits for staff, filled by the apps above.

An app names its kinds of open work in `queries/open_items.py`. The top app joins them to one list. This module reads no
model: a kind brings its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet
from django.utils.timesince import timesince

# A kind with more rows than this is counted no further: nobody works through a longer list.
COUNT_MAX = 1000
PROPOSED_IT = "You proposed this, so somebody else has to decide it."


class Reader(Protocol):
    """A member of the staff, as far as the inbox needs to know one."""

    pk: Any

    def has_role(self, *names: str) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenItem:
    """One thing that waits for a person.

    `subject` names it for ever ("plan:7"): its mail is sent once. `barred` holds the numbers of users that may not
    decide it, for the reason `barred_because`; `person` is the name of its proposer or assignee.
    """

    subject: str
    title: str
    url: str
    since: datetime
    words: str = ""
    person: str = ""
    barred: frozenset[int] = frozenset()
    barred_because: str = PROPOSED_IT

    def age(self, at: datetime) -> str:
        """Say in words how long it has waited: "3 days"."""
        return timesince(self.since, at, depth=1)


def _same(item: OpenItem) -> OpenItem:
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of open work: its rows, the roles that act on it, and the words for a page and a mail.

    `rows` gives a query set, which `item` turns into items one by one, or a short list of ready items. `covers` maps
    a model's label to the states that the kind shows, so that a test finds states that nobody would see.
    """

    name: str
    heading: str
    # The subject of the mail about a single item.
    mail: str
    roles: tuple[str, ...]
    rows: Callable[[datetime], QuerySet[Any] | list[OpenItem]]
    item: Callable[[Any], OpenItem] = _same
    covers: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """Name the roles in words: "finance checker or compliance"."""
        return " or ".join(role.replace("_", " ") for role in self.roles)

    def why_not(self, item: OpenItem, reader: Reader) -> str:
        """Say why the reader cannot act on the item; "" for a reader that can."""
        if not reader.has_role(*self.roles):
            return f"This takes the role {self.owner}."
        return item.barred_because if reader.pk in item.barred else ""


@dataclass(frozen=True, slots=True)
class Group:
    """The open items of one kind, the oldest first. `count` may be more than the listed items."""

    kind: Kind
    items: list[OpenItem]
    count: int

    @property
    def is_cut(self) -> bool:
        return self.count > len(self.items)


def collect(kinds: Sequence[Kind], *, at: datetime, limit: int) -> list[Group]:
    """List up to `limit` items of each kind that has any: one query in all, and one for each kind with rows."""
    found = []
    rows = {kind.name: kind.rows(at) for kind in kinds}
    counted = _counts(rows)
    for kind in kinds:
        if counted[kind.name]:
            items = [kind.item(row) for row in rows[kind.name][:limit]]
            found.append(Group(kind, items, max(counted[kind.name], len(items))))
    return found


def counts(kinds: Sequence[Kind], *, at: datetime) -> dict[str, int]:
    """Count the open items by kind, each up to COUNT_MAX, in one query for all query sets."""
    return _counts({kind.name: kind.rows(at) for kind in kinds})


def _counts(rows: Mapping[str, QuerySet[Any] | list[OpenItem]]) -> dict[str, int]:
    found = dict.fromkeys(rows, 0)
    parts: list[str] = []
    values: list[Any] = []
    for name, some in rows.items():
        if isinstance(some, list):
            found[name] = len(some)
            continue
        try:
            sql, given = some.order_by().values("pk")[:COUNT_MAX].query.sql_with_params()
        except EmptyResultSet:
            continue
        parts.append(f"SELECT %s AS kind, count(*) FROM ({sql}) AS found_{len(parts)}")
        values += [name, *given]
    if parts:
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(parts), values)
            found.update(cursor.fetchall())
    return found
