"""One generation in the console: its earnings in each revision; its restatement or void is proposed here."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from attribution.models import Generation
from ledger.forms.corrections import RestateOneForm, VoidForm
from ledger.operations import corrections, voids
from ledger.queries.generations import find_generations, revisions_of
from ledger.queries.generations import generation as generation_of
from ledger.queries.receipt import receipt_for_service
from people.console.guard import staff_required, user_of
from people.queries.proposals import FINANCE, WITH_COMPLIANCE

STATE_TONES = {
    "received": "info",
    "attributed": "info",
    "accrued": "good",
    "voided": "neutral",
    "refused": "warn",
    "unattributable": "warn",
    "archived": "neutral",
}


def _found(generation_id: uuid.UUID) -> Generation:
    found = generation_of(generation_id)
    if found is None:
        raise Http404("There is no such generation.")
    return found


@staff_required(*WITH_COMPLIANCE)
@require_GET
def generations(request: HttpRequest) -> HttpResponse:
    """Finds a generation by its number or by the id that its service gave it."""
    text = request.GET.get("find", "").strip()[:200]
    found = find_generations(text) if text else []
    if len(found) == 1:
        return redirect("ledger:generation_page", found[0].pk)
    return render(request, "ledger/console/generations.html", {"text": text, "found": found})


@staff_required(*WITH_COMPLIANCE)
@require_GET
def generation(request: HttpRequest, generation_id: uuid.UUID) -> HttpResponse:
    return _page(request, _found(generation_id))


def _page(
    request: HttpRequest, found: Generation, restate: RestateOneForm | None = None, void: VoidForm | None = None
) -> HttpResponse:
    user = user_of(request)
    receipt = receipt_for_service(found.pk, found.service_id)
    assert receipt is not None
    standing = receipt.standing
    restatements = found.restatements.select_related("index", "proposed_by", "decided_by").order_by("-id")
    proposals = found.void_proposals.select_related("proposed_by", "decided_by").order_by("-id")
    cannot = corrections.cannot_restate(found)
    open_restatement = any(row.is_open for row in restatements)
    open_void = any(row.state == "proposed" for row in proposals)
    context = {
        "generation": found,
        "standing": standing,
        "tone": STATE_TONES[standing.state],
        "shares": receipt.shares,
        "division": receipt.division,
        "currency": standing.accrual.plan.currency if standing.accrual else found.currency,
        "revisions": revisions_of(found),
        "restatements": restatements,
        "voids": proposals,
        "may_propose": user.has_role(*FINANCE),
        "cannot_restate": cannot,
        "restate_form": (restate or RestateOneForm()) if cannot is None and not open_restatement else None,
        "void_form": (void or VoidForm()) if standing.void is None and not open_void else None,
    }
    wrong = restate is not None or void is not None
    return render(request, "ledger/console/generation.html", context, status=422 if wrong else 200)


@staff_required(*FINANCE)
@require_POST
def propose_restatement(request: HttpRequest, generation_id: uuid.UUID) -> HttpResponse:
    found = _found(generation_id)
    form = RestateOneForm(request.POST)
    if not form.is_valid():
        return _page(request, found, restate=form)
    try:
        corrections.propose_generation_restatement(
            generation=found, reason=form.cleaned_data["reason"], by=user_of(request), at=timezone.now()
        )
    except corrections.UnableToRestate as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "Proposed. Nothing changes until somebody else approves it.")
    return redirect("ledger:generation_page", found.pk)


@staff_required(*FINANCE)
@require_POST
def propose_void(request: HttpRequest, generation_id: uuid.UUID) -> HttpResponse:
    found = _found(generation_id)
    form = VoidForm(request.POST)
    if not form.is_valid():
        return _page(request, found, void=form)
    try:
        voids.propose_void(generation=found, **form.cleaned_data, by=user_of(request), at=timezone.now())
    except corrections.UnableToVoid as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "Proposed. Nothing is reversed until somebody else approves it.")
    return redirect("ledger:generation_page", found.pk)
