"""Is the process alive, and can this installation do its work? For load balancers and for people on call."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django_prometheus.exports import ExportToDjangoView
from kombu import Connection

from config.models import BooksCheck
from config.scripts import waiting

BOOKS_CHECK_AGE_MAX = timedelta(hours=3)


def livez(request: HttpRequest) -> JsonResponse:
    """The process answers. Nothing else is asked, so that a broken database restarts no healthy process."""
    return JsonResponse({"status": "ok"})


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return ""


def _migrations() -> str:
    return "; ".join(waiting())


def _broker() -> str:
    with Connection(settings.BROKER_URL, connect_timeout=3, transport_options={"socket_timeout": 3}) as broker:
        broker.ensure_connection(max_retries=1, timeout=3)
    return ""


def _books() -> str:
    """The last invariant check: late or with violations, money must not move unwatched."""
    last = BooksCheck.objects.order_by("-checked_at").first()
    if last is None:
        return ""
    if last.violated:
        return f"violated at {last.checked_at:%Y-%m-%d %H:%M} UTC: {', '.join(last.violated)}"
    age = timezone.now() - last.checked_at
    return f"last checked {age} ago" if age > BOOKS_CHECK_AGE_MAX else ""


CHECKS: dict[str, Callable[[], str]] = {
    "database": _database,
    "migrations": _migrations,
    "broker": _broker,
    "books": _books,
}


def readyz(request: HttpRequest) -> JsonResponse:
    """200 where every part can do its work, 503 and the reasons otherwise."""
    faults: dict[str, str] = {}
    for name, check in CHECKS.items():
        try:
            fault = check()
        except Exception as error:  # any error of a broken part is the answer
            fault = f"{type(error).__name__}: {error}".splitlines()[0]
        if fault:
            faults[name] = fault
    return JsonResponse({"status": "unready" if faults else "ok", "faults": faults}, status=503 if faults else 200)


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus metrics for a holder of METRICS_TOKEN; without that setting there is no such page."""
    given = request.headers.get("Authorization", "")
    if not settings.METRICS_TOKEN or not constant_time_compare(given, f"Bearer {settings.METRICS_TOKEN}"):
        raise Http404
    page: HttpResponse = ExportToDjangoView(request)
    return page
