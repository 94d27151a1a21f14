"""Disputed shares of split sheets in the console: the claim, the money held for it, and the decision."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from contributors.models import SplitDispute
from contributors.operations.splits import UnableToContestShare
from contributors.queries.splits import named_split
from ledger.forms.disputes import DecideContestForm
from ledger.models import Account
from ledger.operations.contests import DECIDERS, UnableToSettleClaim, decide_contest
from people.console.guard import recently_authenticated, staff_required

READERS = ("finance_maker", "finance_checker", "compliance", "auditor", "admin")
TONES = {"open": "warn", "upheld": "info", "declined": "info", "withdrawn": "neutral"}
PAGE = 50


@staff_required(*READERS)
@require_GET
def contests(request: HttpRequest) -> HttpResponse:
    rows = SplitDispute.objects.select_related("holder", "claimant", "against").order_by("-id")
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    context = {"page_obj": page, "rows": [(row, TONES[row.state]) for row in page]}
    return render(request, "ledger/console/contests.html", context)


@staff_required(*READERS)
@require_http_methods(["GET", "POST"])
@recently_authenticated
def contest(request: HttpRequest, dispute_id: int) -> HttpResponse:
    rows = SplitDispute.objects.select_related("holder", "claimant", "against", "decided_by")
    found = rows.filter(pk=dispute_id).first()
    if found is None:
        raise Http404("There is no such ownership dispute.")
    user = request.user
    assert user.is_authenticated
    may_decide = user.has_role(*DECIDERS)
    form = DecideContestForm(request.POST or None)
    if request.method == "POST" and not may_decide:
        raise PermissionDenied("An ownership dispute is decided by a finance checker or compliance.")
    if request.method == "POST" and form.is_valid():
        try:
            decide_contest(
                dispute=found,
                upheld=form.cleaned_data["decision"] == "upheld",
                answer=form.cleaned_data["words"],
                by=user,
                at=timezone.now(),
            )
        except (UnableToSettleClaim, UnableToContestShare) as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "Decided. The held money is payable, and both co-authors read your answer.")
            return redirect("ledger:contests")
    held = Account.objects.filter(owner=f"dispute:split-{found.pk}", balance__posted__gt=0) | Account.objects.filter(
        contract=found.account, balance__posted__gt=0
    )
    context = {
        "dispute": found,
        "tone": TONES[found.state],
        "parts": named_split(found.holder, timezone.now()),
        "held": [(account.asset.code, account.balance.posted) for account in held.select_related("asset", "balance")],
        "form": form,
        "may_decide": may_decide,
    }
    return render(request, "ledger/console/contest.html", context, status=422 if form.errors else 200)
