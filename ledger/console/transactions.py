"""Transactions in the console: a business verb is chosen and proposed, and somebody else approves or rejects it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from ledger.console.manual import shown_lines
from ledger.forms.verbs import VerbForm
from ledger.models import VerbProposal
from ledger.operations import verb_proposals
from ledger.operations.verbs import CLAIM_MAKERS, VERBS, Verb
from people.console.guard import recently_authenticated, staff_required, user_of
from people.console.refusals import explained

READERS = (*CLAIM_MAKERS, "auditor", "admin")
TONES = {"proposed": "info", "approved": "good", "rejected": "neutral"}
PAGE = 50


@staff_required(*READERS)
@require_GET
def transactions(request: HttpRequest) -> HttpResponse:
    rows = VerbProposal.objects.select_related("proposed_by", "decided_by").order_by("-id")
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    context = {"page_obj": page, "rows": [(row, VERBS[row.verb], TONES[row.state]) for row in page]}
    return render(request, "ledger/console/transactions.html", context)


@staff_required(*CLAIM_MAKERS)
@require_GET
def transaction_choose(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    groups: dict[str, list[Verb]] = {}
    for verb in VERBS.values():
        if user.has_role(*verb.proposers):
            groups.setdefault(verb.group, []).append(verb)
    return render(request, "ledger/console/transaction_choose.html", {"groups": groups})


@staff_required(*CLAIM_MAKERS)
@require_http_methods(["GET", "POST"])
@recently_authenticated
def transaction_new(request: HttpRequest, key: str) -> HttpResponse:
    verb = VERBS.get(key)
    if verb is None:
        raise Http404("There is no such transaction.")
    user = user_of(request)
    if not user.has_role(*verb.proposers):
        raise PermissionDenied(f"This is proposed by {' or '.join(verb.proposers)}.")
    form = VerbForm(request.POST or None, verb=verb)
    if request.method == "POST" and form.is_valid():
        with explained(request, silent=True) as refused:
            made = verb_proposals.propose_verb(
                verb=key,
                reference=form.cleaned_data["reference"],
                note=form.cleaned_data["note"],
                by=user,
                at=timezone.now(),
                **form.facts(),
            )
        if not refused:
            messages.success(request, "Proposed. Nothing is posted until somebody else approves it.")
            return redirect("ledger:transaction", made.pk)
        form.add_error(None, " ".join(refused.words))
    return render(
        request, "ledger/console/transaction_new.html", {"form": form, "verb": verb}, status=422 if form.errors else 200
    )


@staff_required(*READERS)
@require_GET
def transaction(request: HttpRequest, proposal_id: int) -> HttpResponse:
    found = _found(proposal_id)
    user, verb = user_of(request), VERBS[found.verb]
    lines = shown_lines(verb_proposals.proposed_lines(found), found.state == "approved")
    context = {
        "proposal": found,
        "verb": verb,
        "tone": TONES[found.state],
        "lines": lines,
        "below_zero": [line for line in lines if line.after < 0 <= line.now],
        "may_approve": user.has_role(*verb.approvers) and user.pk != found.proposed_by_id,
        "may_reject": user.has_role(*verb.proposers),
        "is_proposer": user.pk == found.proposed_by_id,
    }
    return render(request, "ledger/console/transaction.html", context)


@staff_required(*CLAIM_MAKERS)
@require_POST
@recently_authenticated
def transaction_decide(request: HttpRequest, proposal_id: int) -> HttpResponse:
    found = _found(proposal_id)
    decision = request.POST.get("decision")
    if decision not in {"approve", "reject"}:
        messages.error(request, "Nothing was decided: choose to approve or to reject.")
        return redirect("ledger:transaction", proposal_id)
    acting: dict[str, Any] = {"by": user_of(request), "at": timezone.now()}
    with explained(request):
        if decision == "approve":
            posted = verb_proposals.approve_verb(proposal=found, **acting)
            messages.success(request, f"Approved, and posted as entry {posted.entry_id}.")
        else:
            verb_proposals.reject_verb(proposal=found, **acting)
            messages.success(request, "Rejected. Nothing was posted, and the proposal stays on record.")
    return redirect("ledger:transaction", proposal_id)


def _found(proposal_id: int) -> VerbProposal:
    found = VerbProposal.objects.select_related("proposed_by", "decided_by").filter(pk=proposal_id).first()
    if found is None:
        raise Http404("There is no such transaction.")
    return found
