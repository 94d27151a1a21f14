"""Transactions in the console: all of them, and the forms that propose a business verb."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from ledger.forms.verbs import VerbForm
from ledger.models import VerbProposal
from ledger.operations import verb_proposals
from ledger.operations.verbs import CLAIM_MAKERS, VERBS, Verb
from people.console.confirmation import SecondLook, asked_again, is_sent
from people.console.guard import recently_authenticated, staff_required, user_of
from people.console.refusals import explained
from people.queries.proposals import WITH_COMPLIANCE, kind_of

PAGE = 50


@staff_required(*WITH_COMPLIANCE)
@require_GET
def transactions(request: HttpRequest) -> HttpResponse:
    rows = VerbProposal.objects.select_related("proposed_by", "decided_by").order_by("-id")
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    context = {"page_obj": page, "rows": [(row, VERBS[row.verb]) for row in page]}
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
    if is_sent(request) and form.is_valid():
        facts = form.amounts_in_words()
        if facts and (asked := asked_again(request, SecondLook(f"{verb.title}?", "Propose it"), facts)):
            return asked
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
            return redirect(kind_of(made).url(made))
        form.add_error(None, " ".join(refused.words))
    return render(
        request, "ledger/console/transaction_new.html", {"form": form, "verb": verb}, status=422 if form.errors else 200
    )
