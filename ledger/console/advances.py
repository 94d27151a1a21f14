"""Advances in the console: proposed on the page of a contract, granted or rejected by somebody else."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from ledger import journal
from ledger.forms.contracts import AdvanceForm
from ledger.journal import AccountKey, UnableToPost
from ledger.models import AdvanceCancellation, AdvanceProposal
from ledger.operations.advances import (
    GRANTERS,
    PROPOSERS,
    UnableToCancelAdvance,
    UnableToGrantAdvance,
    UnableToProposeAdvance,
    cancellable,
    grant_advance,
    post_cancellation,
    propose_advance,
    propose_cancellation,
    reject_advance,
    reject_cancellation,
)
from ledger.queries.contract_words import terms_in_words
from ledger.queries.contracts import contracts, versions_in_force
from people.console.guard import recently_authenticated, staff_required, user_of
from people.models import User

READERS = ("finance_maker", "finance_checker", "auditor", "admin")
TONES = {"proposed": "info", "granted": "good", "rejected": "neutral"}
CANCEL_TONES = {"proposed": "info", "posted": "warn", "rejected": "neutral"}
PAGE = 50


@staff_required(*READERS)
@require_GET
def advances(request: HttpRequest) -> HttpResponse:
    rows = AdvanceProposal.objects.select_related("contract__contributor", "proposed_by", "decided_by").order_by("-id")
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    context = {"page_obj": page, "rows": [(row, TONES[row.state]) for row in page]}
    return render(request, "ledger/console/advances.html", context)


@staff_required(*PROPOSERS)
@require_http_methods(["GET", "POST"])
@recently_authenticated
def advance_new(request: HttpRequest, contract_id: int) -> HttpResponse:
    contract = contracts().filter(pk=contract_id).first()
    if contract is None:
        raise Http404("There is no such contract.")
    form = AdvanceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = propose_advance(contract=contract, **form.cleaned_data, by=user_of(request), at=timezone.now())
        except UnableToProposeAdvance as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "Proposed. Nothing becomes payable until somebody else grants it.")
            return redirect("ledger:advance", made.pk)
    context = {"contract": contract, "form": form}
    return render(request, "ledger/console/advance_new.html", context, status=422 if form.errors else 200)


@staff_required(*READERS)
@require_GET
def advance(request: HttpRequest, advance_id: int) -> HttpResponse:
    """One advance: the request, the contributor's balances, and the earnings that will repay it."""
    found = _found(advance_id)
    user = user_of(request)
    contract, currency = found.contract, found.currency
    owner = f"contributor:{contract.contributor_id}"
    open_before = AccountKey("advance", currency, owner, contract.code)
    payable = AccountKey("contributor_payable", currency, owner)
    stands = journal.balances([open_before, payable])
    today = timezone.now().date()
    month = today.year * 100 + today.month
    in_force = next(
        (t for t in versions_in_force(month, [contract.contributor_id]) if t.contract_id == contract.pk), None
    )
    waiting = contract.advance_proposals.filter(state="proposed", currency=currency).exclude(pk=found.pk)
    context = {
        "advance": found,
        "tone": TONES[found.state],
        "open": -stands[open_before],
        "payable": stands[payable],
        "waiting": waiting.aggregate(sum=Sum("amount", default=0))["sum"],
        "terms": in_force,
        "recoupment": dict(terms_in_words(in_force))["Advances"] if in_force else "",
        "cancel": _cancel_context(found, user),
        "may_grant": user.has_role(*GRANTERS) and user.pk != found.proposed_by_id,
        "may_reject": user.has_role(*PROPOSERS),
        "is_proposer": user.pk == found.proposed_by_id,
    }
    return render(request, "ledger/console/advance.html", context)


@staff_required(*PROPOSERS)
@require_POST
@recently_authenticated
def advance_decide(request: HttpRequest, advance_id: int) -> HttpResponse:
    found = _found(advance_id)
    try:
        if request.POST.get("decision") == "grant":
            granted = grant_advance(advance=found, by=user_of(request), at=timezone.now())
            messages.success(request, f"Granted by entry {granted.entry_id}. The next payout run pays it.")
        else:
            reject_advance(advance=found, by=user_of(request), at=timezone.now())
            messages.success(request, "Rejected. Nothing became payable, and the proposal stays on record.")
    except (UnableToGrantAdvance, UnableToPost) as error:
        messages.error(request, str(error))
    return redirect("ledger:advance", advance_id)


# --- cancelled ----------------------------------------------------------------------------------------------------
def _cancel_context(found: AdvanceProposal, user: User) -> dict[str, Any]:
    """The part of a granted advance that can be cancelled, the way to do so, and the proposals and cancellations so
    far.
    """
    if found.state != AdvanceProposal.State.GRANTED:
        return {}
    rows = list(found.cancellations.select_related("proposed_by", "decided_by").order_by("-id"))
    left, way = cancellable(found)
    waiting = any(row.state == AdvanceCancellation.State.PROPOSED for row in rows)
    return {
        "rows": [(row, CANCEL_TONES[row.state], row.proposed_by_id == user.pk) for row in rows],
        "left": left,
        "way": way,
        "may_propose": left and way and not waiting and user.has_role(*PROPOSERS),
        "may_post": user.has_role(*GRANTERS),
        "may_reject": user.has_role(*PROPOSERS),
    }


@staff_required(*PROPOSERS)
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
        messages.success(request, "Proposed. Nothing changes until somebody else does it.")
    except UnableToCancelAdvance as error:
        messages.error(request, str(error))
    return redirect("ledger:advance", advance_id)


@staff_required(*PROPOSERS)
@require_POST
@recently_authenticated
def cancellation_decide(request: HttpRequest, advance_id: int, cancellation_id: int) -> HttpResponse:
    row = AdvanceCancellation.objects.filter(pk=cancellation_id, advance_id=advance_id).first()
    if row is None:
        raise Http404("There is no such cancellation.")
    try:
        if request.POST.get("decision") == "post":
            posted = post_cancellation(cancellation=row, by=user_of(request), at=timezone.now())
            messages.success(request, f"Cancelled by entry {posted.entry_id}.")
        else:
            reject_cancellation(cancellation=row, by=user_of(request), at=timezone.now())
            messages.success(request, "Rejected. The advance stays as it was, and the proposal on record.")
    except (UnableToCancelAdvance, UnableToPost) as error:
        messages.error(request, str(error))
    return redirect("ledger:advance", advance_id)


def _found(advance_id: int) -> AdvanceProposal:
    rows = AdvanceProposal.objects.select_related("contract__contributor", "proposed_by", "decided_by")
    found = rows.filter(pk=advance_id).first()
    if found is None:
        raise Http404("There is no such advance.")
    return found
