"""RFC 9457 problem details for every error of the API.

An operation's `UnableToX` carries `status` and `problem` (a slug). This module turns it, and every exception of REST
framework, into `application/problem+json`. No app imports this module: the settings name it.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.defaults import page_not_found
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import exception_handler

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
