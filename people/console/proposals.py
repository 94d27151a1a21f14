"""Proposals in the console: the list of every kind, and the page that shows one and decides it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from people.console.guard import recently_authenticated, staff_required, teams_only, user_of
from people.console.presence import presence_of
from people.console.refusals import Refused, explained
from people.models import STAFF_ROLES, ProposalState
from people.operations.proposals import UnableToDecide, approve, reject, withdraw
from people.queries import proposals as queries
from people.queries.proposals import ProposalKind

PAGE = 50


@staff_required(*STAFF_ROLES)
@require_GET
def proposals(request: HttpRequest) -> HttpResponse:
    """List the proposals of the kinds that the reader may read, the newest first."""
    readable = [kind for kind in queries.kinds() if user_of(request).has_role(*kind.readers)]
    chosen = [kind for kind in readable if kind.key == request.GET.get("kind")]
    state = request.GET.get("state", "")
    state = state if state in ProposalState.values else ""
    page = Paginator(queries.listed(chosen or readable, state=state), PAGE).get_page(request.GET.get("page"))
    context = {
        "page_obj": page,
        "rows": [(kind, row, kind.headline(row), kind.url(row)) for kind, row in queries.rows_of(page)],
        "kinds": readable,
        "chosen": chosen[0] if chosen else None,
        "states": ProposalState.choices,
        "state": state,
    }
    return render(request, "people/console/proposals.html", context)


@staff_required(*STAFF_ROLES)
@require_http_methods(["GET", "POST"])
def proposal(request: HttpRequest, key: str, number: int) -> HttpResponseBase:
    """Show one proposal and its effect; approve, reject or withdraw it."""
    kind = queries.kind_named(key)
    row = kind.rows().filter(pk=number).first() if kind is not None else None
    if kind is None or row is None:
        raise Http404("There is no such proposal.")
    if not user_of(request).has_role(*kind.readers):
        raise PermissionDenied(teams_only(kind.readers))
    return decide(request, kind, row) if request.method == "POST" else _page(request, kind, row)


@recently_authenticated
def decide(request: HttpRequest, kind: ProposalKind[Any], row: Any) -> HttpResponse:
    """Carry a decision out, or show the page again with the refusal."""
    acting: dict[str, Any] = {"by": user_of(request), "at": timezone.now(), "seen": presence_of(request)}
    decision = request.POST.get("decision")
    said = ""
    with explained(request, silent=True) as refused:
        if decision == "approve":
            said = kind.approved(approve(row, **acting))
        elif decision == "reject":
            reject(row, reason=request.POST.get("reason", ""), **acting)
            said = "Rejected. Nothing else has changed, and the proposal stays on record."
        elif decision == "withdraw":
            withdraw(row, **acting)
            said = "Withdrawn. Nothing else has changed, and the proposal stays on record."
        else:
            raise UnableToDecide("Nothing was decided: choose to approve or to reject.", status=422)
    if refused:
        row = kind.rows().get(pk=row.pk)
        return _page(request, kind, row, refused=refused)
    messages.success(request, said)
    return redirect(kind.url(row))


def _page(request: HttpRequest, kind: ProposalKind[Any], row: Any, *, refused: Refused | None = None) -> HttpResponse:
    name, back = kind.parent
    context = {
        "proposal": row,
        "kind": kind,
        "title": kind.headline(row),
        "summary": kind.summary(row),
        "object_url": kind.page(row),
        "parent": name,
        "back": reverse(back),
        "refused": refused,
        "reason": request.POST.get("reason", ""),
    }
    status = refused.status if refused else 200
    return render(request, "people/console/proposal.html", context, status=status)
