"""The pages of the audit log: its lines, its CSV, a check of the chain of hashes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from people.console.guard import staff_required
from people.console.subjects import subjects_of
from people.models import FINANCE_ROLES, AuditEvent
from people.presentation import csv
from people.queries import audit as audit_queries

EVENTS_PAGE = 50


@require_GET
@staff_required(*FINANCE_ROLES)
def audit(request: HttpRequest) -> HttpResponse:
    action, search = request.GET.get("action", ""), request.GET.get("q", "").strip()
    events = AuditEvent.objects.select_related("actor").order_by("-sequence")
    if action:
        events = events.filter(action=action)
    if search:
        events = events.filter(subject__icontains=search)
    page = Paginator(events, EVENTS_PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "people/console/audit.html",
        {
            "page_obj": page,
            "lines": list(zip(page, subjects_of([event.subject for event in page]), strict=True)),
            "actions": AuditEvent.objects.values_list("action", flat=True).distinct().order_by("action"),
            "chosen": action,
            "search": search,
            "checked": "check" in request.GET,
            "broken_at": audit_queries.first_broken_audit_event() if "check" in request.GET else None,
            "n_events": AuditEvent.objects.count(),
        },
    )


@require_GET
@staff_required(*FINANCE_ROLES)
def audit_csv(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(table(audit_queries.audit_events()), content_type=csv.CONTENT_TYPE)
    response["Content-Disposition"] = 'attachment; filename="audit-log.csv"'
    return response


def table(events: Iterable[AuditEvent]) -> bytes:
    """Every act with the values that its hash is computed from."""
    header = ["sequence", "at", "actor", "action", "subject", "before", "after", "ip", "mfa_age_seconds",
              "request_id", "prev_hash", "hash"]  # fmt: skip
    return csv.table(
        header,
        (
            [
                e.sequence, e.at.astimezone(UTC).isoformat(timespec="seconds"), e.actor.email if e.actor else "",
                e.action, e.subject, json.dumps(e.before), json.dumps(e.after), e.ip, e.mfa_age_seconds, e.request_id,
                bytes(e.prev_hash).hex(), bytes(e.hash).hex(),
            ]
            for e in events
        ),
    )  # fmt: skip
