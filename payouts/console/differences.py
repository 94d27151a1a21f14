"""Reconciliation: the comparisons, the differences, their explanations, and the events from Stripe."""

from __future__ import annotations

from uuid import UUID

from django.core.paginator import Paginator
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from payouts.console import actor_required, done, reader_required
from payouts.forms.fields import ReasonForm
from payouts.forms.runs import DecideUnknownForm
from payouts.models import Difference, Payout, Reconciliation, WebhookEvent
from payouts.operations import closing
from payouts.queries import payees
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of
from people.console.refusals import explained

EVENTS_PAGE = 50


@require_GET
@reader_required
def reconciliation(request: HttpRequest) -> HttpResponse:
    state = request.GET.get("state", Difference.State.OPEN)
    differences = Difference.objects.select_related("run", "payout__contributor", "signed_off_by").order_by("-found_at")
    if state in Difference.State.values:
        differences = differences.filter(state=state)
    return render(
        request,
        "payouts/console/reconciliation.html",
        {
            "comparisons": Reconciliation.objects.select_related("run").order_by("-pk")[:20],
            "differences": Paginator(differences, EVENTS_PAGE).get_page(request.GET.get("page")),
            "chosen": state,
            "states": Difference.State.values,
            "needs_person": payees.needs_person(),
            "inbox": WebhookEvent.objects.values("endpoint", "state")
            .annotate(n=Count("pk"))
            .order_by("endpoint", "state"),
        },
    )


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def sign_off(request: HttpRequest, public_id: UUID) -> HttpResponse:
    difference = (
        Difference.objects.select_related("run__created_by", "payout__contributor").filter(public_id=public_id).first()
    )
    if difference is None:
        raise Http404
    form = ReasonForm(request.POST or None, label="How it is explained")
    built_it = difference.run is not None and difference.run.created_by_id == user_of(request).pk
    status, refused = 200, None
    if request.method == "POST":
        status = 422
        if form.is_valid():
            with explained(request, silent=True) as refused:
                closing.sign_off(
                    difference=difference,
                    by=user_of(request),
                    note=form.cleaned_data["reason"],
                    at=timezone.now(),
                    seen=presence_of(request),
                )
            if not refused:
                done(request, "Signed off with your explanation.")
                return redirect("payouts:reconciliation")
            status = refused.status
    context = {"difference": difference, "form": form, "refused": refused, "built_it": built_it}
    return render(request, "payouts/console/reconciliation_sign_off.html", context, status=status)


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def decide(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """Decide a payout that never got an answer: a person reports the findings on Stripe's dashboard."""
    payout = Payout.objects.select_related("run", "contributor").filter(public_id=public_id).first()
    if payout is None:
        raise Http404
    form = DecideUnknownForm(request.POST or None)
    status, refused = 200, None
    if request.method == "POST":
        status = 422
        if form.is_valid():
            with explained(request, silent=True) as refused:
                closing.decide_unknown(
                    payout=payout,
                    paid_transfer_id=form.cleaned_data["paid_transfer_id"] or None,
                    by=user_of(request),
                    note=form.cleaned_data["note"],
                    at=timezone.now(),
                    seen=presence_of(request),
                )
            if not refused:
                done(request, "Decided. The payout goes on from there.")
                return redirect("payouts:payee", payout.run.public_id, payout.public_id)
            status = refused.status
    context = {"payout": payout, "attempts": payees.attempts_of(payout), "form": form, "refused": refused}
    return render(request, "payouts/console/reconciliation_decide.html", context, status=status)
