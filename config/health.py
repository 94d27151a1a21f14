"""Is the process alive, and can this installation do its work? For load balancers and for people on call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django_prometheus.exports import ExportToDjangoView
from kombu import Connection

from attribution.models import ModelFault
from config.models import BooksCheck
from config.scripts import waiting

NOTED_MAX = 20
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


def _models() -> str:
    """Name the models that are set aside: their services wait, and everybody else is served."""
    rows = ModelFault.objects.filter(set_aside_at__isnull=False).select_related("model_version__service")
    return "; ".join(
        f"{row.model_version.service.name}/{row.model_version.name} is set aside since "
        f"{row.set_aside_at:%Y-%m-%d %H:%M} UTC: {row.reason}"
        for row in rows.order_by("pk")[:NOTED_MAX]
    )


# Notes keep nobody from being served, so that they do not change the status.
NOTES: dict[str, Callable[[], str]] = {"models": _models}
CHECKS: dict[str, Callable[[], str]] = {
    "database": _database,
    "migrations": _migrations,
    "broker": _broker,
    "books": _books,
}


def readyz(request: HttpRequest) -> JsonResponse:
    """200 where every part can do its work, 503 and the reasons otherwise. Notes name other facts for a person."""
    faults = _answers(CHECKS)
    notes = {} if "database" in faults or "migrations" in faults else _answers(NOTES)
    answer = {"status": "unready" if faults else "ok", "faults": faults, "notes": notes}
    return JsonResponse(answer, status=503 if faults else 200)


def _answers(checks: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, check in checks.items():
        try:
            words = check()
        except Exception as error:  # any error of a broken part is the answer
            words = f"{type(error).__name__}: {error}".splitlines()[0]
        if words:
            found[name] = words
    return found


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus metrics for a holder of METRICS_TOKEN; without that setting there is no such page."""
    given = request.headers.get("Authorization", "")
    if not settings.METRICS_TOKEN or not constant_time_compare(given, f"Bearer {settings.METRICS_TOKEN}"):
        raise Http404
    page: HttpResponse = ExportToDjangoView(request)
    return page
