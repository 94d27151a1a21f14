"""The page Set up: a checklist with the state of each step and the page that does it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from config.setup import checklist
from config.setup.steps import check
from people.console.guard import staff_required
from people.models import STAFF_ROLES
from people.queries.programme import programme

TONES = {"done": "good", "to do": "warn", "broken": "bad", "note": "info"}


@never_cache
@require_safe
@staff_required(*STAFF_ROLES)
def setup(request: HttpRequest) -> HttpResponse:
    """Show every step. The checks of the machine take a second or two: workers are asked and have to answer."""
    at = timezone.now()
    found = check(checklist.PROGRAMME, at)
    machine = check(checklist.MACHINE, at)
    context = {
        "steps": [(checked, TONES[checked.finding.state]) for checked in found],
        "machine": [(checked, TONES[checked.finding.state]) for checked in machine],
        "n_done": sum(not checked.is_open for checked in found),
        "n_steps": len(found),
        "next": next((checked.step for checked in found if checked.is_open), None),
        "programme": programme(),
    }
    return render(request, "public/setup.html", context)
