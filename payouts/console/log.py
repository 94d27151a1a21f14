"""The audit log: who did what, when, how fresh the second factor was, and whether the chain of hashes holds."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from payouts.console import reader_required
from payouts.exports import tables
from payouts.models import AuditEvent
from payouts.queries import records
from people.presentation import csv

EVENTS_PAGE = 50


@require_GET
@reader_required
def audit(request: HttpRequest) -> HttpResponse:
    action, search = request.GET.get("action", ""), request.GET.get("q", "").strip()
    events = AuditEvent.objects.select_related("actor").order_by("-sequence")
    if action:
        events = events.filter(action=action)
    if search:
        events = events.filter(subject__icontains=search)
    return render(
        request,
        "payouts/console/audit.html",
        {
            "page_obj": Paginator(events, EVENTS_PAGE).get_page(request.GET.get("page")),
            "actions": AuditEvent.objects.values_list("action", flat=True).distinct().order_by("action"),
            "chosen": action,
            "search": search,
            "checked": "check" in request.GET,
            "broken_at": records.first_broken_audit_event() if "check" in request.GET else None,
            "n_events": AuditEvent.objects.count(),
        },
    )


@require_GET
@reader_required
def audit_csv(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(tables.audit_log(records.audit_events()), content_type=csv.CONTENT_TYPE)
    response["Content-Disposition"] = 'attachment; filename="audit-log.csv"'
    return response
