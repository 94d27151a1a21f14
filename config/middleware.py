"""Requests that no page of ours takes, and the words of the refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import get_conditional_response, set_response_etag
from django.utils.deprecation import MiddlewareMixin
from redis import RedisError

from config.problems import problem_answer, reads_problems

log = structlog.get_logger(__name__)
HTML = "text/html; charset=utf-8"
RETRY_SECONDS = 60
API_VERSION_HEADER = "Tributary-Version"


class RefuseNul(MiddlewareMixin):
    """Answers 400, with the field's name, to a form or an address in which a value has a NUL character.

    PostgreSQL stores none, and no field means one: a view that reads a value itself would fail in the database, as a
    crash. Bodies that are no forms of a page (the API's JSON and files, webhooks) are left to their parsers.
    """

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponseBase], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        # A file for the API is read after its sender's key, and by nobody before.
        for given in (request.GET,) if reads_problems(request) else (request.GET, request.POST):
            for name, values in given.lists():
                if "\x00" in name or any("\x00" in value for value in values):
                    field = name.replace("\x00", "")
                    if reads_problems(request):
                        return problem_answer(400, "malformed-text", f"There is a NUL character in “{field}”.")
                    return render(request, "400.html", {"field": field}, status=400)
        return None


class RefuseCharsets(MiddlewareMixin):
    """Answers 400 to a request that declares an encoding in which nobody can read its texts.

    Python knows encodings that are none of text (rot13, zlib): Django takes them for one, and would fail as it reads.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        encoding = request.encoding
        try:
            # Nothing at all would be decoded without a look at the encoding.
            bytes(4).decode(encoding or "utf-8")
        except (LookupError, UnicodeError):
            detail = f"The charset {encoding} is no encoding of text. Send UTF-8."
            if reads_problems(request):
                return problem_answer(400, "unknown-charset", detail)
            return HttpResponseBadRequest(detail, content_type="text/plain; charset=utf-8")
        return None


class StoreNothingPrivate(MiddlewareMixin):
    """Forbids every cache, the browser's too, to keep a page made for a logged-in person.

    A view that sets Cache-Control itself keeps its own.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        # REST framework sets no user for a request without a service key.
        user = getattr(request, "user", None)
        known = settings.SESSION_COOKIE_NAME in request.COOKIES and getattr(user, "is_authenticated", False)
        if known and "Cache-Control" not in response:
            response["Cache-Control"] = "private, no-store"
        return response


class ExplainForms(MiddlewareMixin):
    """A browser that opens, as a page, an address which only takes forms reads an explanation, and not an empty 405."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.status_code != 405 or request.method != "GET" or response.get("Content-Type") != HTML:
            return response
        page = render(request, "405.html", status=405)
        page["Allow"] = response["Allow"]
        return page


class WaitForCache(MiddlewareMixin):
    """Answers 503, in words, where a page cannot do without the cache and it does not answer.

    That is logging in and everything else that allauth counts: uncounted, passwords could be guessed, so that nobody is
    let in.
    """

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, RedisError):
            return None
        log.error("a page was refused: the cache does not answer", path=request.path, error=repr(error))
        page = render(request, "503.html", status=503)
        page["Retry-After"] = str(RETRY_SECONDS)
        return page


class DescribeApi(MiddlewareMixin):
    """Headers of every answer of the API: its version by date, the caller's rate limit, and an ETag.

    A request may name the version that it was written for; one that this installation does not speak is refused. A GET
    with the ETag of an unchanged answer gets an empty 304 (RFC 9110, 13.1.2). Source of the rate limit's headers: the
    IETF draft "RateLimit header fields for HTTP".
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        asked = request.headers.get(API_VERSION_HEADER)
        if not request.path.startswith("/api/") or asked is None or asked in settings.API_VERSIONS:
            return None
        spoken = ", ".join(settings.API_VERSIONS)
        return problem_answer(
            400, "unknown-api-version", f"There is no version {asked[:20]!r} of the API; there is {spoken}."
        )

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not request.path.startswith("/api/"):
            return response
        response[API_VERSION_HEADER] = settings.API_VERSIONS[-1]
        allowance = getattr(request, "allowance", None)
        if allowance is not None:
            response["RateLimit-Policy"] = f'"default";q={allowance.limit};w={allowance.window}'
            response["RateLimit"] = f'"default";r={allowance.left};t={allowance.reset}'
        if (
            request.method not in ("GET", "HEAD")
            or response.status_code != 200
            or not isinstance(response, HttpResponse)
        ):
            return response
        if "ETag" not in response:
            set_response_etag(response)
        return get_conditional_response(request, etag=response["ETag"], response=response) or response
