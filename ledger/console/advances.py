"""Advances in the console: proposed on the page of a contract, and the cancellation of their open part."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from ledger.forms.contracts import AdvanceForm
from ledger.models import AdvanceCancellation, AdvanceProposal
from ledger.money import ASSETS
from ledger.operations.advances import (
    UnableToCancelAdvance,
    UnableToProposeAdvance,
    cancellable,
    propose_advance,
    propose_cancellation,
)
from ledger.queries.contracts import contracts
from people.console.confirmation import SecondLook, asked_again, is_sent
from people.console.guard import recently_authenticated, staff_required, user_of
from people.models import User
from people.presentation import amounts
from people.queries.proposals import FINANCE, READERS

PAGE = 50


@staff_required(*READERS)
@require_GET
def advances(request: HttpRequest) -> HttpResponse:
    rows = AdvanceProposal.objects.select_related("contract__contributor", "proposed_by", "decided_by").order_by("-id")
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    return render(request, "ledger/console/advances.html", {"page_obj": page})


@staff_required(*FINANCE)
@require_http_methods(["GET", "POST"])
@recently_authenticated
def advance_new(request: HttpRequest, contract_id: int) -> HttpResponse:
    contract = contracts().filter(pk=contract_id).first()
    if contract is None:
        raise Http404("There is no such contract.")
    form = AdvanceForm(request.POST or None)
    if is_sent(request) and form.is_valid():
        advance_of = amounts.text(form.cleaned_data["amount"], ASSETS[form.cleaned_data["currency"]])
        look = SecondLook("Propose this advance?", "Propose it")
        if asked := asked_again(request, look, [("To", str(contract.contributor)), ("Advance", advance_of)]):
            return asked
        try:
            made = propose_advance(contract=contract, **form.cleaned_data, by=user_of(request), at=timezone.now())
        except UnableToProposeAdvance as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "Proposed. Nothing becomes payable until somebody else approves it.")
            return redirect("ledger:advance", made.pk)
    context = {"contract": contract, "form": form}
    return render(request, "ledger/console/advance_new.html", context, status=422 if form.errors else 200)


@staff_required(*READERS)
@require_GET
def advance(request: HttpRequest, advance_id: int) -> HttpResponse:
    """One advance: its facts and its decision, and the cancellation of its open part."""
    found = _found(advance_id)
    context = {"advance": found, "cancel": _cancel_context(found, user_of(request))}
    return render(request, "ledger/console/advance.html", context)


# --- cancelled ----------------------------------------------------------------------------------------------------
def _cancel_context(found: AdvanceProposal, user: User) -> dict[str, Any]:
    """The part of an approved advance that can be cancelled, the way to do so, and the proposals and cancellations so
    far.
    """
    if found.state != AdvanceProposal.State.APPROVED:
        return {}
    rows = list(found.cancellations.select_related("proposed_by", "decided_by").order_by("-id"))
    left, way = cancellable(found)
    waiting = any(row.state == AdvanceCancellation.State.PROPOSED for row in rows)
    return {
        "rows": rows,
        "left": left,
        "way": way,
        "may_propose": left and way and not waiting and user.has_role(*FINANCE),
    }


@staff_required(*FINANCE)
@require_POST
@recently_authenticated
def cancellation_new(request: HttpRequest, advance_id: int) -> HttpResponse:
    try:
        propose_cancellation(
            advance=_found(advance_id),
            way=request.POST.get("way", ""),
            reason=request.POST.get("reason", ""),
            by=user_of(request),
            at=timezone.now(),
        )
        messages.success(request, "Proposed. Nothing changes until somebody else approves it.")
    except UnableToCancelAdvance as error:
        messages.error(request, str(error))
    return redirect("ledger:advance", advance_id)


def _found(advance_id: int) -> AdvanceProposal:
    rows = AdvanceProposal.objects.select_related("contract__contributor", "proposed_by", "decided_by")
    found = rows.filter(pk=advance_id).first()
    if found is None:
        raise Http404("There is no such advance.")
    return found
