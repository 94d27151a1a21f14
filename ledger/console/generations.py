"""One generation in the console: its earnings in each revision; its restatement or void proposed, and decided."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from attribution.models import Generation
from ledger.forms.corrections import RestateOneForm, VoidForm
from ledger.models import VoidProposal
from ledger.operations import corrections, voids
from ledger.operations.corrections import CONFIRMERS, PROPOSERS
from ledger.queries.generations import find_generations, revisions_of
from ledger.queries.generations import generation as generation_of
from ledger.queries.receipt import receipt_for_service
from people.console.guard import recently_authenticated, staff_required, user_of

READERS = ("finance_maker", "finance_checker", "compliance", "auditor", "admin")
STATE_TONES = {
    "received": "info",
    "attributed": "info",
    "accrued": "good",
    "voided": "neutral",
    "refused": "warn",
    "unattributable": "warn",
    "archived": "neutral",
}
RESTATEMENT_TONES = {"proposed": "info", "running": "warn", "done": "good", "rejected": "neutral"}
VOID_TONES = {"proposed": "info", "voided": "good", "rejected": "neutral"}


def _found(generation_id: uuid.UUID) -> Generation:
    found = generation_of(generation_id)
    if found is None:
        raise Http404("There is no such generation.")
    return found


@staff_required(*READERS)
@require_GET
def generations(request: HttpRequest) -> HttpResponse:
    """Finds a generation by its number or by the id that its service gave it."""
    text = request.GET.get("find", "").strip()[:200]
    found = find_generations(text) if text else []
    if len(found) == 1:
        return redirect("ledger:generation_page", found[0].pk)
    return render(request, "ledger/console/generations.html", {"text": text, "found": found})


@staff_required(*READERS)
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
    open_restatement = any(row.state in ("proposed", "running") for row in restatements)
    open_void = any(row.state == "proposed" for row in proposals)
    may_propose, may_confirm = user.has_role(*PROPOSERS), user.has_role(*CONFIRMERS)
    context = {
        "generation": found,
        "standing": standing,
        "tone": STATE_TONES[standing.state],
        "shares": receipt.shares,
        "division": receipt.division,
        "currency": standing.accrual.plan.currency if standing.accrual else found.currency,
        "revisions": revisions_of(found),
        "restatements": [
            (row, RESTATEMENT_TONES[row.state], may_confirm and row.proposed_by_id != user.pk) for row in restatements
        ],
        "voids": [(row, VOID_TONES[row.state], may_confirm and row.proposed_by_id != user.pk) for row in proposals],
        "may_propose": may_propose,
        "cannot_restate": cannot,
        "restate_form": (restate or RestateOneForm()) if cannot is None and not open_restatement else None,
        "void_form": (void or VoidForm()) if standing.void is None and not open_void else None,
    }
    wrong = restate is not None or void is not None
    return render(request, "ledger/console/generation.html", context, status=422 if wrong else 200)


@staff_required(*PROPOSERS)
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
        messages.success(request, "Proposed. Nothing changes until somebody else confirms it.")
    return redirect("ledger:generation_page", found.pk)


@staff_required(*PROPOSERS)
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
        messages.success(request, "Proposed. Nothing is taken back until somebody else confirms it.")
    return redirect("ledger:generation_page", found.pk)


@staff_required(*PROPOSERS)
@require_POST
@recently_authenticated
def decide_void(request: HttpRequest, proposal_id: int) -> HttpResponse:
    proposal = VoidProposal.objects.filter(pk=proposal_id).first()
    if proposal is None:
        raise Http404("There is no such proposal.")
    user = user_of(request)
    try:
        if request.POST.get("decision") == "confirm":
            if not user.has_role(*CONFIRMERS):
                raise PermissionDenied("A void is confirmed by a finance checker.")
            voids.confirm_void(proposal=proposal, by=user, at=timezone.now())
            messages.success(request, "The generation is void. Its earnings are reversed.")
        else:
            voids.reject_void(proposal=proposal, by=user, at=timezone.now())
            messages.success(request, "Rejected. The generation stands, and the proposal stays on record.")
    except corrections.UnableToVoid as error:
        messages.error(request, str(error))
    return redirect("ledger:generation_page", proposal.generation_id)
