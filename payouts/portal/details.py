"""Changing a contributor's name, kind, country and currency: the form, the consequences, the wait for a decision."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from contributors.models import DetailsChange, Membership
from contributors.portal.guard import ContributorRequest, contributor_required
from contributors.queries.details import read_details
from payouts.forms.details import DetailsForm
from payouts.operations.details import KIND, UnableToChangeDetails, change_details, checked_change
from payouts.queries.details import consequences, waits_for_decision
from people.console.guard import recently_authenticated
from people.console.refusals import explained
from people.operations.proposals import withdraw

PAGE = "payouts/portal/details.html"


@require_http_methods(["GET", "POST"])
@contributor_required(change=True)
@recently_authenticated
def change(request: ContributorRequest) -> HttpResponse:
    """Show the form, then the consequences, then carry the change out or ask for it."""
    of = request.contributor
    waiting = of.details_changes.filter(state=DetailsChange.State.PROPOSED).first()
    if waiting is not None:
        return _waiting(request, waiting)
    is_owner = request.membership.role == Membership.Role.OWNER
    form = DetailsForm(request.POST or None, present=read_details(of))
    context: dict[str, Any] = {"form": form, "is_owner": is_owner}
    if request.method == "POST" and form.is_valid():
        try:
            after = checked_change(of, form.given)
            told = consequences(of, after)
            needs_reason = waits_for_decision(of, after) and not form.cleaned_data["reason"]
            if needs_reason:
                form.add_error("reason", "Say why: the deciding person reads it.")
            elif is_owner and told and "confirmed" not in request.POST:
                return render(request, PAGE, {**context, "consequences": told})
            else:
                return _carry_out(request, form)
        except UnableToChangeDetails as refusal:
            form.add_error(None, str(refusal))
    return render(request, PAGE, context, status=422 if form.errors else 200)


def _carry_out(request: ContributorRequest, form: DetailsForm) -> HttpResponse:
    made = change_details(
        contributor=request.contributor,
        given=form.given,
        reason=form.cleaned_data["reason"],
        by=request.user,
        at=timezone.now(),
    )
    said = "The details are changed." if made is None else "Asked for. We decide on it and write to you."
    messages.success(request, said)
    return redirect("contributors:people")


def _waiting(request: ContributorRequest, row: DetailsChange) -> HttpResponse:
    if request.method == "POST" and "withdraw" in request.POST:
        with explained(request) as refused:
            withdraw(row, by=request.user, at=timezone.now())
        if not refused:
            messages.success(request, "Withdrawn. Nothing has changed.")
        return redirect("contributors:people")
    context = {"waiting": row, "facts": KIND.facts(row), "may_withdraw": row.proposed_by_id == request.user.pk}
    return render(request, PAGE, context, status=409 if request.method == "POST" else 200)
