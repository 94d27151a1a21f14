"""RFC 9457 problem details for every error of the API.

An operation's `UnableToX` carries `status` and `problem` (a slug). This module turns it, and every exception of REST
framework, into `application/problem+json`. No app imports this module: the settings name it.
"""

from __future__ import annotations

import errno
import sys
from typing import Any

from django.core.exceptions import TooManyFieldsSent, TooManyFilesSent
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.defaults import page_not_found
from django.views.defaults import server_error as django_server_error
from psycopg2.errors import DiskFull
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import exception_handler

# A client may try again so many seconds later: a killed server is back by then.
RETRY_SECONDS = 10
TITLES = {
    400: "The request is malformed.",
    401: "No valid key was given.",
    403: "The key does not allow this.",
    404: "There is nothing here for this key.",
    405: "The method is not allowed here.",
    409: "The request conflicts with stored facts.",
    410: "It is not kept here any more.",
    413: "The request is too large.",
    415: "The media type is not supported.",
    422: "The request cannot be carried out.",
    429: "Too many requests.",
    500: "The server failed.",
    503: "The service is not available.",
}


class ProblemRenderer(JSONRenderer):
    media_type = "application/problem+json"


def problem(status: int, slug: str, detail: Any, **members: Any) -> dict[str, Any]:
    """The body of a problem: `type`, `title`, `status`, `detail` and the members that the problem's type defines."""
    return {
        "type": f"/problems/{slug}",
        "title": TITLES.get(status, "The request failed."),
        "status": status,
        "detail": detail,
        **members,
    }


def problem_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST framework's exception handler; None lets an unexpected error become a logged 500."""
    status, slug = getattr(error, "status", None), getattr(error, "problem", None)
    if isinstance(status, int) and isinstance(slug, str):
        body = problem(status, slug, str(error), **getattr(error, "members", {}))
        return _rendered(Response(body, status=status), context)
    response = exception_handler(error, context)
    if response is None:
        return None
    if isinstance(error, exceptions.ValidationError):
        body = problem(response.status_code, "invalid", "Some fields are not valid.", errors=response.data)
    else:
        code = error.get_codes() if isinstance(error, exceptions.APIException) else "not-found"
        slug = str(code).replace("_", "-") if isinstance(code, str) else "error"
        detail = response.data.get("detail", "") if isinstance(response.data, dict) else response.data
        body = problem(response.status_code, slug, str(detail))
    response.data = body
    return _rendered(response, context)


def _rendered(response: Response, context: dict[str, Any]) -> Response:
    request = context.get("request")
    if request is not None:
        request.accepted_renderer = ProblemRenderer()
        request.accepted_media_type = ProblemRenderer.media_type
    return response


# --- what ends before a view of the API is reached ------------------------------------------------------------------
def reads_problems(request: HttpRequest) -> bool:
    """Whether it is a program that asks, and so reads a problem and not a page."""
    return request.path.startswith("/api/")


def problem_answer(status: int, slug: str, detail: str) -> HttpResponse:
    return JsonResponse(problem(status, slug, detail), status=status, content_type=ProblemRenderer.media_type)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of addresses that lead nowhere."""
    if reads_problems(request):
        return problem_answer(404, "not-found", f"There is nothing at {request.path}.")
    return page_not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of refused requests: too many files or fields, a strange file name, another host."""
    if reads_problems(request):
        return problem_answer(400, "malformed-request", "This request cannot be read.")
    reason = "It has too many files or fields for one request."
    if not isinstance(exception, TooManyFilesSent | TooManyFieldsSent):
        reason = "Part of it cannot be read, such as the name of a file."
    return render(request, "400.html", {"reason": reason}, status=400)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler of crashes: 503 without the database and on a full disk, else 500; a problem for the API."""
    error = sys.exc_info()[1]
    status, words = 500, "The server failed to answer. The error is in its log."
    if _is_full(error):
        status, words = 503, "A disk of this installation is full; nothing was stored. The operator has to free space."
    elif isinstance(error, InterfaceError | OperationalError):
        status, words = 503, "The database does not answer. Nothing was stored; send the same request again."
    if reads_problems(request):
        slug = "internal-error" if status == 500 else "unavailable"
        answer = problem_answer(status, slug, words)
    elif status == 500:
        return django_server_error(request)
    else:
        # No template: its context would ask the database.
        answer = HttpResponse(f"{words}\n", status=status, content_type="text/plain; charset=utf-8")
    if status == 503:
        answer["Retry-After"] = str(RETRY_SECONDS)
    return answer


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or isinstance(error, DiskFull):
            return True
        error = error.__cause__
    return False
