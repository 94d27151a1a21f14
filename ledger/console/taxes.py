"""The withholding table in the console: every rate with its treaty and dates; and the form that proposes one."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from ledger.forms.taxes import TAX_FORMS, WithholdingForm
from ledger.models import WithholdingRate
from ledger.operations import taxes
from ledger.queries.taxes import withholding_rate, withholding_table
from people.console.guard import staff_required
from people.presentation.countries import COUNTRIES
from people.queries.proposals import WITH_COMPLIANCE


@dataclass(frozen=True, slots=True)
class ShownRate:
    rate: WithholdingRate
    counts_today: bool
    country: str
    form: str


@staff_required(*WITH_COMPLIANCE)
@require_http_methods(["GET", "POST"])
def withholding(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert user.is_authenticated
    form = WithholdingForm(request.POST or None)
    if request.method == "POST" and not user.has_role(*taxes.KIND.proposers):
        raise PermissionDenied("Rates are proposed by finance or compliance.")
    if request.method == "POST" and form.is_valid():
        try:
            taxes.propose_withholding_rate(**form.cleaned_data, by=user, at=timezone.now())
        except taxes.UnableToProposeRate as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "Proposed. It counts once somebody else has approved it.")
            return redirect("ledger:withholding")
    today = timezone.now().date()
    rows = []
    for row in withholding_table():
        counts = withholding_rate(jurisdiction=row.jurisdiction, country=row.country, form=row.form, on=today)
        rows.append(
            ShownRate(
                row,
                counts is not None and counts.pk == row.pk,
                COUNTRIES.get(row.country, "Any other country"),
                TAX_FORMS.get(row.form, row.form),
            )
        )
    context = {
        "rows": rows,
        "form": form,
        "may_propose": user.has_role(*taxes.KIND.proposers),
    }
    return render(request, "ledger/console/withholding.html", context, status=422 if form.errors else 200)
