"""Correcting a contributor's legal name and country."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from contributors.portal.guard import ContributorRequest, contributor_required
from payouts.forms.details import DetailsForm
from payouts.operations.details import UnableToCorrectDetails, correct_details
from people.console.guard import recently_authenticated


@require_http_methods(["GET", "POST"])
@contributor_required(change=True)
@recently_authenticated
def correct(request: ContributorRequest) -> HttpResponse:
    of = request.contributor
    form = DetailsForm(request.POST or None, initial={"legal_name": of.legal_name, "country": of.country})
    if request.method == "POST" and form.is_valid():
        try:
            waits = correct_details(contributor=of, by=request.user, at=timezone.now(), **form.cleaned_data)
        except UnableToCorrectDetails as refusal:
            form.add_error(None, str(refusal))
        else:
            checked = " We check the account before the next payment." if waits else ""
            messages.success(request, f"The legal name and the country are corrected.{checked}")
            return redirect("contributors:people")
    return render(request, "payouts/portal/details.html", {"form": form}, status=422 if form.errors else 200)
