"""Lists in pages: `limit` rows at a time, and an opaque cursor that stays true while rows are added."""

from __future__ import annotations

import base64
import binascii
import uuid
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

LIMIT, LIMIT_MAX = 100, 200
FOREIGN = "is none of this list; begin again without it."
Row = TypeVar("Row", bound=Model)
PARAMETERS = [
    OpenApiParameter("cursor", str, description="From `next` of the page before."),
    OpenApiParameter("limit", int, description=f"Rows of a page: 1 to {LIMIT_MAX}, by default {LIMIT}."),
]


class UnableToPage(Exception):
    """The cursor is none of this list, or the limit out of its range."""

    status = 400
    problem = "invalid-parameter"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field} {detail}")
        self.members = {"field": field}


def page_of(request: Request, rows: QuerySet[Row], *, newest_first: bool = False) -> tuple[list[Row], str | None]:
    """Cut the page that the request asks for out of rows in the order of their keys; with the address of the next one.

    Raises UnableToPage.
    """
    limit = limit_of(request)
    if after := after_of(request):
        rows = rows.filter(pk__lt=after) if newest_first else rows.filter(pk__gt=after)
    found = list(rows.order_by("-pk" if newest_first else "pk")[: limit + 1])
    if len(found) <= limit:
        return found, None
    return found[:limit], address_after(request, found[limit - 1].pk)


def address_after(request: Request, key: Any) -> str:
    """Return the address of the rows after the row of this key."""
    query = request.query_params.copy()
    query["cursor"] = base64.urlsafe_b64encode(f"k{key}".encode()).decode().rstrip("=")
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")


def limit_of(request: Request) -> int:
    """Read the number of rows of a page. Raises UnableToPage."""
    told = request.query_params.get("limit", str(LIMIT))
    if not (told.isascii() and told.isdigit() and 1 <= int(told) <= LIMIT_MAX):
        raise UnableToPage("limit", f"is a whole number from 1 to {LIMIT_MAX}, not {told[:20]!r}.")
    return int(told)


def after_of(request: Request) -> int | None:
    """Read the key after which the page begins; None for the first page. Raises UnableToPage."""
    text = _cursor(request)
    if not text:
        return None
    if not (text.isdigit() and len(text) < 19):
        raise UnableToPage("cursor", FOREIGN)
    return int(text)


def after_id_of(request: Request) -> uuid.UUID | None:
    """Read the same where keys are UUIDs. Raises UnableToPage."""
    text = _cursor(request)
    try:
        return uuid.UUID(text) if text else None
    except ValueError:
        raise UnableToPage("cursor", FOREIGN) from None


def moment_of(request: Request, name: str) -> datetime | None:
    """Read a parameter that is a date and time; None where it is not given. Raises UnableToPage."""
    told = request.query_params.get(name)
    if told is None:
        return None
    try:
        found = parse_datetime(told)
        # A moment outside the years 1 to 9999 in UTC overflows.
        moment = found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        moment = None
    if moment is None:
        raise UnableToPage(name, "is a date and time with its offset, as 2026-10-03T10:00:00Z.")
    return moment


def _cursor(request: Request) -> str:
    """Decode the cursor; "" where there is none. Raises UnableToPage."""
    told = request.query_params.get("cursor", "")
    try:
        text = base64.urlsafe_b64decode(told.encode() + b"=" * (-len(told) % 4)).decode("ascii")
    except (binascii.Error, UnicodeError, ValueError):
        text = "?"
    if told and not (text[:1] == "k" and len(text) > 1):
        raise UnableToPage("cursor", FOREIGN)
    return text[1:]
