"""Lists as Stripe gives them: newest first, cursors by identifier, filters on time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from stripe_sandbox import refusals
from stripe_sandbox.refusals import UnableToServe

Row = TypeVar("Row", bound=Model)
LIMIT_MAX = 100


def unix(moment: datetime) -> int:
    return int(moment.timestamp())


def _limit(params: dict[str, Any]) -> int:
    limit = int(params.get("limit", 10))
    if limit < 1:
        raise refusals.not_positive("limit")
    if limit > LIMIT_MAX:
        raise UnableToServe(
            f"This value must be less than or equal to {LIMIT_MAX} (it currently is '{limit}').",
            code="parameter_invalid_integer",
            param="limit",
        )
    return limit


def in_time(rows: QuerySet[Row], field: str, given: Any) -> QuerySet[Row]:
    """Filter rows by time: the given one, or the given range of {gt, gte, lt, lte}."""
    if given is None:
        return rows
    bounds = given if isinstance(given, dict) else {"exact": given}
    try:
        moments = {how: datetime.fromtimestamp(seconds, UTC) for how, seconds in bounds.items()}
    except (OverflowError, ValueError) as error:
        raise refusals.invalid_integer(field, given) from error
    return rows.filter(**{f"{field}__{how}": moment for how, moment in moments.items()})


def page(
    rows: QuerySet[Row], params: dict[str, Any], shown: Callable[[Row], dict[str, Any]], url: str
) -> dict[str, Any]:
    """Return one page of `rows`, which carry `reference` and `created`. Raises UnableToServe for a wrong cursor."""
    limit, rows = _limit(params), in_time(rows, "created", params.get("created"))
    after, before = params.get("starting_after"), params.get("ending_before")
    if after and before:
        raise UnableToServe("You cannot give both starting_after and ending_before.", param="ending_before")
    if cursor := after or before:
        place = rows.model._default_manager.filter(reference=cursor).values_list("pk", flat=True).first()
        if place is None:
            raise refusals.no_such("object", cursor, param="starting_after" if after else "ending_before", status=400)
        rows = rows.filter(pk__lt=place) if after else rows.filter(pk__gt=place)
    found = list(rows.order_by("pk" if before else "-pk")[: limit + 1])
    kept = found[:limit]
    return {
        "object": "list",
        "data": [shown(row) for row in (reversed(kept) if before else kept)],
        "has_more": len(found) > limit,
        "url": url,
    }
