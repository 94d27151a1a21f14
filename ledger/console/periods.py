"""Console pages of periods: list, one period, close and seal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from ledger.console.books import READERS
from ledger.models import Period
from ledger.operations.accruals import UnableToAccrue
from ledger.operations.closing import UnableToClose, close_period
from ledger.operations.sealing import UnableToSeal, seal_period
from ledger.queries import books
from people.console.guard import recently_authenticated, staff_required, user_of

UNACCRUED_SHOWN_MAX = 200
PERIOD_TONES = {"open": "info", "closing": "warn", "closed": "neutral", "sealed": "good"}


# --- periods ------------------------------------------------------------------------------------------------------
@staff_required(*READERS)
@require_GET
def periods(request: HttpRequest) -> HttpResponse:
    found = list(books.periods())
    return render(
        request, "ledger/console/periods.html", {"periods": [(row, PERIOD_TONES[row.state]) for row in found]}
    )


@dataclass(frozen=True, slots=True)
class Action:
    title: str
    words: str
    url: str


@staff_required(*READERS)
@require_GET
def period(request: HttpRequest, code: str) -> HttpResponse:
    found = _period(code)
    waits = found.state in (Period.State.OPEN, Period.State.CLOSING)
    context: dict[str, Any] = {
        "period": found,
        "tone": PERIOD_TONES[found.state],
        "sentence": _sentence(found),
        "action": _action(found),
        "may_act": request.user.is_authenticated and request.user.has_role("finance_checker"),
        "waiting": books.not_accrued(found) if waits else None,
        "charged": books.charged_to_the_base_pool(found),
        "unaccrued": books.unaccrued_at_close(found.pk, limit=UNACCRUED_SHOWN_MAX),
        "floor_corrections": [(row, -sum(row.amounts)) for row in books.floor_corrections(found.pk)],
        "floors": [(floor, sum(floor.amounts)) for floor in books.floor_distributions(found.pk)],
    }
    return render(request, "ledger/console/period.html", context)


def _sentence(found: Period) -> str:
    match found.state:
        case Period.State.OPEN:
            return "Open: entries can be dated in it."
        case Period.State.CLOSING:
            return "The close has begun and is not finished; run it again to finish it."
        case Period.State.CLOSED:
            return "Closed: no entry can be dated in it any more. Seal it to publish its root."
    return "Closed and sealed: every statement of the month can be proved against the root."


def _action(found: Period) -> Action | None:
    """The action that the period takes now."""
    url = {"code": found.code}
    if found.state in (Period.State.OPEN, Period.State.CLOSING):
        if timezone.now().date() < found.ends:
            return None
        words = (
            "Accrues every attribution, distributes the base pools, makes the rest payable and lists generations "
            "without an accrual. A close that was cut off goes on where it stood. It cannot be undone."
        )
        return Action(f"Close {found.code}", words, reverse("ledger:close_period", kwargs=url))
    if found.state == Period.State.CLOSED:
        words = (
            "Makes one leaf for each account, a Merkle tree above them, and chains its root to that of the period "
            "before. From then on every contributor can prove its statement offline. It cannot be undone."
        )
        return Action(f"Seal {found.code}", words, reverse("ledger:seal_period", kwargs=url))
    return None


@staff_required("finance_checker")
@require_POST
@recently_authenticated
def close(request: HttpRequest, code: str) -> HttpResponseRedirect:
    found = _period(code)
    try:
        closed = close_period(period=found.pk, at=timezone.now(), by=user_of(request))
    except (UnableToClose, UnableToAccrue) as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"Period {closed.code} is closed.")
    return redirect("ledger:period", found.code)


@staff_required("finance_checker")
@require_POST
@recently_authenticated
def seal(request: HttpRequest, code: str) -> HttpResponseRedirect:
    found = _period(code)
    try:
        sealed = seal_period(period=found.pk, at=timezone.now(), by=user_of(request))
    except UnableToSeal as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"Period {sealed.code} is sealed under {bytes(sealed.root or b'').hex()}.")
    return redirect("ledger:period", found.code)


def _period(code: str) -> Period:
    number = books.period_number(code)
    found = books.period(number) if number else None
    if found is None:
        raise Http404("There is no such period.")
    return found
