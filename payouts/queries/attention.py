"""The one inbox of the console: every kind of open work of every app, listed and counted."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.core.cache import cache
from redis import RedisError

from attribution.queries import open_items as attribution
from contributors.queries import open_items as contributors
from ledger.queries import open_items as ledger
from payouts.queries import open_items as payouts
from people import inbox
from people.inbox import Group, Kind
from people.queries import open_items as people
from people.queries import proposals

# In the order of the page: money that stands still first.
KINDS: list[Kind] = [
    *payouts.KINDS,
    *(kind.open_work() for kind in proposals.kinds()),
    *ledger.KINDS,
    *contributors.KINDS,
    *attribution.KINDS,
    *people.KINDS,
]
BY_NAME = {kind.name: kind for kind in KINDS}
_CACHED = "needs-attention-count"


def groups(*, at: datetime, limit: int, kind: str = "") -> list[Group]:
    """List the open items by kind, up to `limit` of each; of one kind where it is named."""
    return inbox.collect([BY_NAME[kind]] if kind else KINDS, at=at, limit=limit)


def count(*, at: datetime) -> int:
    """Count everything that is open; the figure may be ATTENTION_COUNT_SECONDS old."""
    try:
        known = cache.get(_CACHED)
    except RedisError:
        # The navigation is worth a query, and no page fails for it.
        return sum(inbox.counts(KINDS, at=at).values())
    if known is None:
        known = sum(inbox.counts(KINDS, at=at).values())
        cache.set(_CACHED, known, settings.ATTENTION_COUNT_SECONDS)
    return int(known)


def remember(total: int) -> None:
    """Keep a count that a page has just made, so that the navigation agrees with the page."""
    try:
        cache.set(_CACHED, total, settings.ATTENTION_COUNT_SECONDS)
    except RedisError:
        return
