"""The board, a run in full, one payee of it, and both as CSV."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.paginator import Paginator
from django.db.models import Count, Q, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from ledger.models import Account
from ledger.money import ASSETS
from payouts.console import MAKER, actor_required, of_run, reader_required, run_or_404
from payouts.console.buttons import buttons, steps
from payouts.exports import remittance, tables
from payouts.forms.runs import BuildRunForm
from payouts.models import Payout, PayoutRun, Rail
from payouts.operations import building, control, reversals
from payouts.queries import balances, payees, records
from payouts.queries import runs as runs_queries
from people.console.guard import user_of
from people.console.presence import presence_of
from people.console.refusals import explained
from people.presentation import csv
from people.queries import audit as audit_queries

PAYEES_PAGE = 50
# The groups of the board, in the order in which they want attention.
GROUPS = [
    ("Needs attention", ("in_review", "approved", "paused", "draft", "calculating", "set_aside")),
    ("Under way", ("executing",)),
    ("Done", ("reconciled", "closed")),
    ("Stopped before anything was sent", ("rejected", "cancelled")),
]


@require_GET
@reader_required
def runs(request: HttpRequest) -> HttpResponse:
    return _board(request, _build_form())


@require_POST
@actor_required
def build(request: HttpRequest) -> HttpResponse:
    form = _build_form(request.POST)
    if not form.is_valid():
        return _board(request, form, status=422)
    with explained(request) as refused:
        run = building.build_run(
            currency=form.cleaned_data["currency"],
            rail=form.cleaned_data["rail"],
            cut_off=form.cleaned_data["cut_off"],
            by=user_of(request),
            at=timezone.now(),
            seen=presence_of(request),
        )
    return _board(request, form, status=refused.status) if refused else redirect("payouts:run", run.public_id)


def _board(request: HttpRequest, form: BuildRunForm, *, status: int = 200) -> HttpResponse:
    every = list(runs_queries.runs()[:200])
    summaries = runs_queries.run_summaries(every)
    groups = []
    for title, states in GROUPS:
        members = [(run, summaries[run.pk]) for run in every if run.state in states]
        totals: dict[str, int] = {}
        for run, summary in members:
            totals[run.currency] = totals.get(run.currency, 0) + summary.total_minor
        groups.append({"title": title, "runs": members, "totals": sorted(totals.items())})
    return render(
        request,
        "payouts/console/runs.html",
        {
            "groups": groups,
            "is_empty": not every,
            "form": form,
            "may_build": user_of(request).has_role(MAKER),
            "open_runs": [run for run in every if run.state in PayoutRun.OPEN],
            "frozen": settings.PAYOUTS_FROZEN,
        },
        status=status,
    )


@require_GET
@reader_required
@of_run
def run(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    return render(request, "payouts/console/run.html", run_context(request, run))


@require_GET
@reader_required
@of_run
def progress(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    """The part of the run's page that changes while it executes; asked for every two seconds."""
    return render(request, "payouts/console/run_progress.html", {"run": run, "summary": runs_queries.run_summary(run)})


@require_GET
@reader_required
@of_run
def stripe_balance(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    """A part of the run's page that is fetched by itself, because Stripe may take its time."""
    context = {"run": run, "stripe": control.stripe_available(run.currency), "controls": control.totals_of(run)}
    return render(request, "payouts/console/run_stripe.html", context)


@require_GET
@reader_required
def payee(request: HttpRequest, public_id: UUID, payout_id: UUID) -> HttpResponse:
    run = run_or_404(public_id)
    payout = run.payouts.select_related("contributor", "account", "bank_payout").filter(public_id=payout_id).first()
    if payout is None:
        raise Http404("This run has no such payout.")
    return render(
        request,
        "payouts/console/payee.html",
        {
            "run": run,
            "payout": payout,
            "attempts": payees.attempts_of(payout),
            "reversals": payout.reversals.order_by("pk"),
            "entries": remittance.entries_of(payout),
            "holds": payees.open_holds(payout.contributor),
            "events": audit_queries.audit_events(f"payout:{payout.public_id}")[:20],
            "paid_states": Payout.PAID,
            "can_reverse": payout.rail == Rail.STRIPE_TRANSFER
            and payout.state in reversals.REVERSIBLE
            and user_of(request).has_role("finance_checker", "admin"),
        },
    )


@require_GET
@reader_required
@of_run
def payouts_csv(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    return _csv(tables.run_payouts(run), f"run-{run.public_id}-payouts.csv")


@require_GET
@reader_required
@of_run
def left_out_csv(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    return _csv(tables.run_left_out(run), f"run-{run.public_id}-left-out.csv")


@require_GET
@reader_required
@of_run
def attempts_csv(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    return _csv(tables.run_attempts(run), f"run-{run.public_id}-attempts.csv")


@require_GET
@reader_required
def payee_pdf(request: HttpRequest, public_id: UUID, payout_id: UUID) -> HttpResponse:
    payout = run_or_404(public_id).payouts.filter(public_id=payout_id, state__in=Payout.PAID).first()
    if payout is None:
        raise Http404("There is no remittance before a transfer.")
    response = HttpResponse(remittance.pdf(payout), content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="remittance-{payout.public_id}.pdf"'
    return response


@require_GET
@reader_required
@of_run
def run_xlsx(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    return _file(tables.run_workbook(run), kind, f"run-{run.public_id}.xlsx")


@require_GET
@reader_required
@of_run
def run_jsonl(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    return _file(tables.run_json_lines(run), "application/jsonl; charset=utf-8", f"run-{run.public_id}.jsonl")


def run_context(request: HttpRequest, run: PayoutRun) -> dict[str, Any]:
    """All that the run's page and its review step show."""
    chosen = request.GET.get("state", "")
    search = request.GET.get("q", "").strip()
    payouts = run.payouts.select_related("contributor", "account").order_by("-amount_minor", "pk")
    if chosen:
        payouts = payouts.filter(state=chosen)
    if search:
        payouts = payouts.filter(
            Q(contributor__display_name__icontains=search) | Q(contributor__legal_name__icontains=search)
        )
    review = runs_queries.review(run)
    return {
        "run": run,
        "summary": runs_queries.run_summary(run),
        "review": review,
        "removed": control.removed_payees(run, review.previous),
        "ledger_stripe": balances.ledger_stripe_balance(run.currency),
        "controls": control.totals_of(run),
        "page_obj": Paginator(payouts, PAYEES_PAGE).get_page(request.GET.get("page")),
        "states_used": sorted(set(run.payouts.values_list("state", flat=True))),
        "chosen": chosen,
        "search": search,
        "left_out": run.left_out.select_related("contributor").order_by("reason", "-amount"),
        "left_out_sums": run.left_out.values("reason").annotate(n=Count("pk"), amount=Sum("amount")).order_by("reason"),
        "differences": records.open_differences(run),
        "events": audit_queries.audit_events(f"run:{run.public_id}")[:50],
        "steps": steps(run),
        "can": buttons(run, user_of(request)),
        "frozen": settings.PAYOUTS_FROZEN,
        "by_bank": run.rail == Rail.MANUAL_BANK_FILE,
        "n_to_export": run.payouts.filter(state=Payout.State.APPROVED).count()
        if run.rail != Rail.STRIPE_TRANSFER
        else 0,
    }


def _build_form(data: Any = None) -> BuildRunForm:
    """The currencies in which the ledger owes anything, those without an open run first; otherwise the first asset."""
    owed = Account.objects.filter(kind="contributor_payable", balance__posted__gt=0)
    busy = set(PayoutRun.objects.filter(state__in=PayoutRun.OPEN).values_list("currency", flat=True))
    currencies = sorted(set(owed.values_list("asset__code", flat=True)), key=lambda code: (code in busy, code))
    return BuildRunForm(data, currencies=currencies or [next(iter(ASSETS))], today=timezone.now())


def _csv(content: bytes, name: str) -> HttpResponse:
    return _file(content, csv.CONTENT_TYPE, name)


def _file(content: bytes, kind: str, name: str) -> HttpResponse:
    response = HttpResponse(content, content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
