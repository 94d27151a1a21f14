"""Actions on a run. Money moves in two steps: a page that shows the effect, and the form on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from payouts.console import actor_required, done, of_run, reader_required
from payouts.console.buttons import why_not_approve
from payouts.console.runs import run_context
from payouts.forms.fields import ReasonForm
from payouts.forms.runs import ApproveForm
from payouts.models import PayoutRun, Rail
from payouts.operations import approval, building, closing, control, runs
from payouts.reconciliation import banks
from payouts.reconciliation.comparison import reconcile_run
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of
from people.console.refusals import Refused, explained

page_or_form = require_http_methods(["GET", "POST"])


@require_POST
@actor_required
@of_run
def submit(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    return _do(request, run, runs.submit_run, "The run is frozen and waits for another person to approve it.")


@require_POST
@actor_required
@of_run
def take_up(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    return _do(request, run, runs.take_up_run, "The run is a draft now. Submit it for review.")


@require_POST
@actor_required
@of_run
def close(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    return _do(request, run, closing.close_run, "The run is closed.")


@require_POST
@actor_required
@of_run
def rebuild(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    with explained(request) as refused:
        successor = building.rebuild_run(run=run, by=user_of(request), at=timezone.now(), seen=presence_of(request))
    if refused:
        return redirect("payouts:run", run.public_id)
    done(request, "A new version was built from the ledger of this moment.")
    return redirect("payouts:run", successor.public_id)


@require_POST
@actor_required
@of_run
def reconcile(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    """Compare the run with the ledger and with Stripe; the differences stand on the page afterwards."""
    with explained(request) as refused:
        compare = banks.reconcile_bank_run if run.rail == Rail.MANUAL_BANK_FILE else reconcile_run
        comparison = compare(run=run, at=timezone.now())
    if not refused:
        found = comparison.n_differences
        done(request, "Ours, the ledger's and Stripe's figures agree." if not found else f"Differences found: {found}.")
    return redirect("payouts:run", run.public_id)


@page_or_form
@reader_required
@recently_authenticated
@of_run
def approve(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    """The review step: everything on one page, then the total by hand. The hash is that of the page shown."""
    if request.method == "GET":
        form = ApproveForm(currency=run.currency, initial={"content_hash": run.hash_hex})
        return _approve_page(request, run, form)
    form = ApproveForm(request.POST, currency=run.currency)
    if not form.is_valid():
        return _approve_page(request, run, form, status=422)
    with explained(request, silent=True) as refused:
        run = approval.approve_run(
            run=run,
            by=user_of(request),
            typed_total=form.cleaned_data["typed_total"],
            content_hash=bytes.fromhex(form.cleaned_data["content_hash"]),
            at=timezone.now(),
            seen=presence_of(request),
        )
    if refused:
        run.refresh_from_db()
        # The hash that goes into the form again is the one that this page shows.
        fresh = ApproveForm(currency=run.currency, initial={"content_hash": run.hash_hex})
        return _approve_page(request, run, fresh, refused=refused, status=refused.status)
    if run.state == PayoutRun.State.APPROVED:
        done(request, "Approved. Nothing has been sent yet; the run can be executed now.")
    else:
        done(request, "Your approval is stored. A second person has to approve as well.")
    return redirect("payouts:run", run.public_id)


def _approve_page(
    request: HttpRequest, run: PayoutRun, form: ApproveForm, *, refused: Refused | None = None, status: int = 200
) -> HttpResponse:
    context = run_context(request, run)
    not_this_person = why_not_approve(run, user_of(request))
    context.update(
        form=form,
        refused=refused,
        not_this_person=not_this_person,
        in_review=run.state == PayoutRun.State.IN_REVIEW,
        stripe=control.stripe_available(run.currency),
    )
    return render(request, "payouts/console/approve.html", context, status=status)


@page_or_form
@actor_required
@recently_authenticated
@of_run
def execute(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    if request.method == "GET":
        return _confirm_page(request, run, "execute")
    sentence = "The run is executing. Transfers are sent in the background; this page follows them."
    return _confirmed(request, run, "execute", approval.start_execution, sentence)


@page_or_form
@actor_required
@of_run
def reject(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    return _with_reason(
        request,
        run,
        "reject",
        approval.reject_run,
        "reason",
        "Why you send it back",
        "Sent back with your reason. A new version can be built.",
    )


@page_or_form
@actor_required
@of_run
def pause(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    return _with_reason(
        request,
        run,
        "pause",
        approval.pause_run,
        "note",
        "Why you pause it",
        "Paused. No new transfer is sent; transfers under way are followed to their end.",
    )


@page_or_form
@actor_required
@recently_authenticated
@of_run
def resume(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    if request.method == "GET":
        return _confirm_page(request, run, "resume")
    return _confirmed(request, run, "resume", approval.resume_run, "The run goes on.")


@page_or_form
@actor_required
@of_run
def cancel(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    if request.method == "GET":
        return _confirm_page(request, run, "cancel")
    return _confirmed(request, run, "cancel", runs.cancel_run, "Cancelled. Everything stays payable.")


@page_or_form
@actor_required
@of_run
def exclude(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    """Split the run: those ticked wait in a run of their own, and both parts are reviewed again."""
    ticked = request.POST.getlist("contributor")
    chosen = [int(value) for value in ticked if value.isascii() and value.isdigit() and len(value) < 19]
    if request.method == "GET" or not chosen:
        return _confirm_page(request, run, "exclude", status=200 if request.method == "GET" else 422)
    with explained(request) as refused:
        run, _aside = runs.exclude(
            run=run, contributors=chosen, by=user_of(request), at=timezone.now(), seen=presence_of(request)
        )
    if refused:
        return redirect("payouts:exclude", run.public_id)
    done(request, f"{len(chosen)} taken out into a run of their own. This one is a draft again; submit it for review.")
    return redirect("payouts:run", run.public_id)


def _do(request: HttpRequest, run: PayoutRun, operation: Callable[..., Any], sentence: str) -> HttpResponse:
    with explained(request) as refused:
        operation(run=run, by=user_of(request), at=timezone.now(), seen=presence_of(request))
    if not refused:
        done(request, sentence)
    return redirect("payouts:run", run.public_id)


def _confirmed(
    request: HttpRequest, run: PayoutRun, action: str, operation: Callable[..., Any], sentence: str
) -> HttpResponse:
    with explained(request, silent=True) as refused:
        operation(run=run, by=user_of(request), at=timezone.now(), seen=presence_of(request))
    if refused:
        run.refresh_from_db()
        return _confirm_page(request, run, action, refused=refused, status=refused.status)
    done(request, sentence)
    return redirect("payouts:run", run.public_id)


def _with_reason(
    request: HttpRequest,
    run: PayoutRun,
    action: str,
    operation: Callable[..., Any],
    parameter: str,
    label: str,
    sentence: str,
) -> HttpResponse:
    form = ReasonForm(request.POST or None, label=label)
    if request.method == "GET" or not form.is_valid():
        return _confirm_page(request, run, action, form=form, status=200 if request.method == "GET" else 422)
    given = {parameter: form.cleaned_data["reason"]}
    with explained(request, silent=True) as refused:
        operation(run=run, by=user_of(request), at=timezone.now(), seen=presence_of(request), **given)
    if refused:
        run.refresh_from_db()
        return _confirm_page(request, run, action, form=form, refused=refused, status=refused.status)
    done(request, sentence)
    return redirect("payouts:run", run.public_id)


def _confirm_page(
    request: HttpRequest,
    run: PayoutRun,
    action: str,
    *,
    form: ReasonForm | None = None,
    refused: Refused | None = None,
    status: int = 200,
) -> HttpResponse:
    context = run_context(request, run)
    context.update(action=action, form=form, refused=refused, frozen=settings.PAYOUTS_FROZEN)
    if action == "execute":
        context["stripe"] = control.stripe_available(run.currency)
    if action == "exclude":
        context["members"] = run.payouts.select_related("contributor").order_by("-amount_minor", "pk")
    return render(request, "payouts/console/run_confirm.html", context, status=status)
