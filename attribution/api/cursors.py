"""Lists in pages: `limit` rows at a time, and an opaque cursor that stays true while rows are added."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

LIMIT, LIMIT_MAX = 100, 200
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
    told = request.query_params.get("cursor", "")
    if not told:
        return None
    try:
        text = base64.urlsafe_b64decode(told.encode() + b"=" * (-len(told) % 4)).decode("ascii")
    except (binascii.Error, UnicodeError, ValueError):
        text = ""
    if not (text[:1] == "k" and text[1:].isdigit() and len(text) < 20):
        raise UnableToPage("cursor", "is none of this list; begin again without it.")
    return int(text[1:])
