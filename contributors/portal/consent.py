"""A contributor's consents: the matrix, granting, the withdrawal in two steps, the history."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from contributors.forms.consents import SCOPE_MEANINGS, GrantForm, WithdrawForm
from contributors.forms.fields import begin
from contributors.models import Consent
from contributors.operations.consents import UnableToRecordConsent, grant_consents, withdraw_consents
from contributors.portal.guard import ContributorRequest, contributor_required
from contributors.queries import consents, works

SOURCE = "portal"
PAGE = 50


@require_GET
@contributor_required
def consent(request: ContributorRequest) -> HttpResponse:
    rows = consents.consent_matrix(request.contributor, timezone.now())
    context = {
        "rows": rows,
        "scopes": [(scope, SCOPE_MEANINGS[scope]) for scope in Consent.Scope],
        "anything": any(state.current or state.next for row in rows for state in row.states),
    }
    return render(request, "contributors/portal/consent.html", context)


@contributor_required(change=True)
def grant(request: ContributorRequest) -> HttpResponse:
    initial = {"target": request.GET.get("target", "")}
    form = GrantForm(request.contributor, request.POST or None, initial=initial)
    if form.is_valid():
        at = timezone.now()
        end = form.cleaned_data["valid_to"]
        try:
            grant_consents(
                contributor=request.contributor,
                scopes=form.cleaned_data["scopes"],
                dataset=form.dataset,
                work=form.work,
                valid_from=begin(form.cleaned_data["valid_from"], at),
                valid_to=begin(end, at) if end else None,
                by=request.user,
                source=SOURCE,
                at=at,
            )
        except UnableToRecordConsent as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "Recorded. You can withdraw it at any time.")
            return redirect("contributors:consent")
    return render(request, "contributors/portal/consent_grant.html", {"form": form}, status=422 if form.errors else 200)


@contributor_required(change=True)
def withdraw(request: ContributorRequest) -> HttpResponse:
    """Ask for the choice first, then show the uses that stop and those that continue, and only then record the
    statement.
    """
    initial = {"target": request.GET.get("target", "all")}
    form = WithdrawForm(request.contributor, request.POST or None, initial=initial)
    if form.is_valid():
        at = timezone.now()
        chosen = form.cleaned_data["scopes"]
        start = begin(form.cleaned_data["valid_from"], at)
        if request.POST.get("step") != "confirm":
            context = {
                "form": form,
                "scopes": [(Consent.Scope(scope).label, SCOPE_MEANINGS[Consent.Scope(scope)]) for scope in chosen],
                "training": {"train_generative", "train_non_generative", "fine_tune"} & set(chosen),
                # Only the consent to train generative models decides the works that their indexes count.
                "leaves_indexes": settings.WITHDRAWN_WORKS_LEAVE_INDEXES and "train_generative" in chosen,
                "valid_from": start,
                "to_come": consents.permissions_to_come(
                    request.contributor, scopes=chosen, dataset=form.dataset, work=form.work, after=start
                ),
                "target": form.work or form.dataset,
                "n_works": 1 if form.work else works.works_of(request.contributor, dataset=form.dataset).count(),
            }
            return render(request, "contributors/portal/consent_review.html", context)
        try:
            withdraw_consents(
                contributor=request.contributor,
                scopes=chosen,
                dataset=form.dataset,
                work=form.work,
                valid_from=start,
                by=request.user,
                at=at,
                source=SOURCE,
            )
        except UnableToRecordConsent as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "Your withdrawal is recorded. The history shows it with its digest.")
            return redirect("contributors:consent")
    return render(
        request, "contributors/portal/consent_withdraw.html", {"form": form}, status=422 if form.errors else 200
    )


@require_GET
@contributor_required
def history(request: ContributorRequest) -> HttpResponse:
    page = Paginator(consents.consent_history(request.contributor), PAGE).get_page(request.GET.get("page"))
    return render(request, "contributors/portal/consent_history.html", {"page_obj": page})
