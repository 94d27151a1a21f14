"""The withholding table in the console: every rate with its treaty and dates; proposed by one, adopted by another."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from ledger.forms.taxes import TAX_FORMS, WithholdingForm
from ledger.models import WithholdingRate
from ledger.operations import taxes
from ledger.operations.taxes import ADOPTERS, PROPOSERS
from ledger.queries.taxes import withholding_rate, withholding_table
from people.console.guard import recently_authenticated, staff_required
from people.presentation.countries import COUNTRIES

READERS = ("finance_maker", "finance_checker", "compliance", "auditor", "admin")
TONES = {"proposed": "info", "adopted": "good", "rejected": "neutral"}


@dataclass(frozen=True, slots=True)
class ShownRate:
    rate: WithholdingRate
    tone: str
    counts_today: bool
    is_own: bool
    country: str
    form: str


@staff_required(*READERS)
@require_http_methods(["GET", "POST"])
def withholding(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert user.is_authenticated
    form = WithholdingForm(request.POST or None)
    if request.method == "POST" and not user.has_role(*PROPOSERS):
        raise PermissionDenied("Rates are proposed by finance or compliance.")
    if request.method == "POST" and form.is_valid():
        try:
            taxes.propose_withholding_rate(**form.cleaned_data, by=user, at=timezone.now())
        except taxes.UnableToProposeRate as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "Proposed. It counts once somebody else has adopted it.")
            return redirect("ledger:withholding")
    today = timezone.now().date()
    rows = []
    for row in withholding_table():
        counts = withholding_rate(jurisdiction=row.jurisdiction, country=row.country, form=row.form, on=today)
        rows.append(
            ShownRate(
                row,
                TONES[row.state],
                counts is not None and counts.pk == row.pk,
                row.proposed_by_id == user.pk,
                COUNTRIES.get(row.country, "Any other country"),
                TAX_FORMS.get(row.form, row.form),
            )
        )
    context = {
        "rows": rows,
        "form": form,
        "may_propose": user.has_role(*PROPOSERS),
        "may_adopt": user.has_role(*ADOPTERS),
    }
    return render(request, "ledger/console/withholding.html", context, status=422 if form.errors else 200)


@staff_required(*PROPOSERS)
@require_POST
@recently_authenticated
def withholding_decide(request: HttpRequest, rate_id: int) -> HttpResponse:
    user = request.user
    assert user.is_authenticated
    found = WithholdingRate.objects.filter(pk=rate_id).first()
    if found is None:
        raise Http404("There is no such rate.")
    try:
        if request.POST.get("decision") == "adopt":
            if not user.has_role(*ADOPTERS):
                raise PermissionDenied("Rates are adopted by a finance checker or compliance.")
            taxes.adopt_withholding_rate(rate=found, by=user, at=timezone.now())
            messages.success(request, f"It counts for payout runs built from {found.effective_from} on.")
        else:
            taxes.reject_withholding_rate(rate=found, by=user, at=timezone.now())
            messages.success(request, "Rejected. The proposal stays on record.")
    except taxes.UnableToAdoptRate as error:
        messages.error(request, str(error))
    return redirect("ledger:withholding")
