"""The finance console's pages of this app: board, runs, approval and execution, reconciliation, audit log.

The guard of a page decides access to it. The operation alone decides on an action, and also refuses a forged request. A
page only announces the operation's answer beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse

from payouts.models import PayoutRun
from payouts.queries.runs import run_or_none
from people.console.guard import staff_required

MAKER, CHECKER, COMPLIANCE, AUDITOR, ADMIN = "finance_maker", "finance_checker", "compliance", "auditor", "admin"
READERS = (MAKER, CHECKER, COMPLIANCE, AUDITOR, ADMIN)
# The roles that may press a button at all; the operation decides on each button.
ACTORS = (MAKER, CHECKER, COMPLIANCE, ADMIN)

reader_required = staff_required(*READERS)
actor_required = staff_required(*ACTORS)


def run_or_404(public_id: UUID) -> PayoutRun:
    run = run_or_none(public_id)
    if run is None:
        raise Http404("There is no such run.")
    return run


def of_run(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Hand the view the run that its address names."""

    @wraps(view)
    def found(request: HttpRequest, public_id: UUID, **kwargs: Any) -> HttpResponse:
        return view(request, run_or_404(public_id), **kwargs)

    return found


def done(request: HttpRequest, sentence: str) -> None:
    messages.success(request, sentence)
