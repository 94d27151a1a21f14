"""A run by bank transfer: its files, handing them over, and the bank's report on each order."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from payouts.console import ADMIN, CHECKER, COMPLIANCE, MAKER, actor_required, done, of_run, reader_required
from payouts.exports import tables
from payouts.forms.fields import ReasonForm, SureForm
from payouts.forms.runs import BankLinesForm, ExportForm
from payouts.models import BankFile, BankLine, Payout, PayoutRun, Rail
from payouts.operations import bank_lines, bank_reports
from payouts.operations.bank_files import export_bank_file, mark_bank_file_sent, read_bank_file, withdraw_bank_file
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of
from people.console.refusals import explained
from people.presentation import csv, dates


@require_GET
@reader_required
@of_run
def bank_files(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    """Show the state of a run by bank transfer, and the next step."""
    if run.rail != Rail.MANUAL_BANK_FILE:
        raise Http404("This run is paid through Stripe.")
    return render(request, "payouts/console/bank_files.html", bank_context(request, run))


def bank_context(request: HttpRequest, run: PayoutRun) -> dict[str, Any]:
    user = user_of(request)
    may_act = user.has_role(MAKER, CHECKER, ADMIN)
    return {
        "run": run,
        "files": run.bank_files.select_related("made_by", "sent_by", "withdrawn_by").order_by("number"),
        "lines": BankLine.objects.filter(attempt__payout__run=run)
        .select_related("attempt__payout__contributor", "recorded_by")
        .order_by("-pk")[:200],
        "n_to_export": run.payouts.filter(state=Payout.State.APPROVED).count(),
        "n_to_confirm": run.payouts.filter(state=Payout.State.SENDING).count(),
        "n_to_hand_over": run.bank_files.filter(state=BankFile.State.MADE).count(),
        "is_executing": run.state == PayoutRun.State.EXECUTING,
        "may_act": may_act,
        "may_confirm": user.has_role(CHECKER, COMPLIANCE, ADMIN),
    }


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
@of_run
def export_file(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    back = reverse("payouts:bank_files", args=[run.public_id])
    form = ExportForm(request.POST or None, today=dates.today(timezone.now()), currency=run.currency)
    page = Act(
        "Write the bank file",
        "Every approved payout of the run becomes an order in a file of the format ISO 20022 "
        "pain.001. The money is in transit from then on. Next, you or somebody else downloads the file, hands it to "
        "the bank and marks it as sent.",
        "Write the file",
        back,
        "Bank files",
        facts=[("Run", run), ("Payouts to order", run.payouts.filter(state=Payout.State.APPROVED).count())],
    )

    def do(given: dict[str, Any]) -> str:
        file = export_bank_file(
            run=run,
            by=user_of(request),
            at=timezone.now(),
            execution_on=given["execution_on"],
            seen=presence_of(request),
        )
        return f"The file {file.message_id} orders {file.n_payments} transfers. Download it and hand it to the bank."

    return act(request, page, form, do)


@require_POST
@actor_required
@recently_authenticated
def download_file(request: HttpRequest, file_id: UUID) -> HttpResponse:
    file = _file_or_404(file_id)
    with explained(request) as refused:
        content = read_bank_file(file=file, by=user_of(request), at=timezone.now(), seen=presence_of(request))
    if refused:
        return redirect("payouts:bank_files", file.run.public_id)
    response = HttpResponse(content, content_type="application/xml")
    response["Content-Disposition"] = f'attachment; filename="{file.message_id}.xml"'
    response["Cache-Control"] = "no-store"
    return response


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def mark_sent(request: HttpRequest, file_id: UUID) -> HttpResponse:
    file = _file_or_404(file_id)
    page = Act(
        "The bank has the file",
        "Say so only once the bank has taken it. From then on it cannot be withdrawn, "
        "and somebody other than you confirms the result of each transfer.",
        "Mark as sent",
        reverse("payouts:bank_files", args=[file.run.public_id]),
        "Bank files",
        facts=_facts(file),
    )

    def do(_given: dict[str, Any]) -> str:
        mark_bank_file_sent(file=file, by=user_of(request), at=timezone.now(), seen=presence_of(request))
        return "Marked as sent. Somebody else records the bank's report."

    return act(request, page, SureForm(request.POST or None, label="I handed this file to the bank"), do)


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def withdraw(request: HttpRequest, file_id: UUID) -> HttpResponse:
    file = _file_or_404(file_id)
    refusal = ""
    if file.made_by_id == user_of(request).pk:
        refusal = "You wrote this file, so somebody else has to withdraw it."
    elif not user_of(request).has_role(CHECKER, ADMIN):
        refusal = "Withdrawing a file takes a finance checker."
    page = Act(
        "Withdraw the file",
        "Only if the bank never got it: otherwise its orders would be paid a second time. Its "
        "payouts go into the next file.",
        "Withdraw it",
        reverse("payouts:bank_files", args=[file.run.public_id]),
        "Bank files",
        facts=_facts(file),
        is_danger=True,
        not_this_person=refusal,
    )

    def do(given: dict[str, Any]) -> str:
        withdraw_bank_file(
            file=file, by=user_of(request), reason=given["reason"], at=timezone.now(), seen=presence_of(request)
        )
        return "Withdrawn. Its payouts can be ordered again."

    return act(request, page, ReasonForm(request.POST or None, label="How you know that the bank never got it"), do)


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
@of_run
def record_lines(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    """Read the bank's report: all lines at once, each believed once. Lines that fit nothing are shown one by one."""
    form = BankLinesForm(request.POST or None, request.FILES or None)
    context: dict[str, Any] = {"run": run, "form": form, "columns": bank_reports.COLUMNS, "refused": None}
    context["not_this_person"] = (
        "" if user_of(request).has_role(CHECKER, COMPLIANCE, ADMIN) else "Confirming transfers takes a finance checker."
    )
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            with explained(request, silent=True) as refused:
                report = bank_reports.report_of(form.cleaned_data["file"].read(), form.reading)
                results = bank_lines.record_bank_lines(
                    lines=report.lines, by=user_of(request), at=timezone.now(), seen=presence_of(request)
                )
                context |= {"results": results, "others": report.others}
            context["refused"], status = refused, refused.status
            if not refused and all(result.outcome in ("recorded", "known") for result in results):
                if not report.others:
                    done(request, f"{len(results)} lines were read, and all of them fit.")
                    return redirect("payouts:bank_files", run.public_id)
                status = 200
    return render(request, "payouts/console/bank_lines.html", context, status=status)


@require_GET
@reader_required
@of_run
def lines_template(request: HttpRequest, run: PayoutRun) -> HttpResponse:
    """The table to fill in: a line for each order that waits, the outcome and the reference left empty."""
    response = HttpResponse(tables.bank_lines_to_fill(run), content_type=csv.CONTENT_TYPE)
    response["Content-Disposition"] = f'attachment; filename="run-{run.pk}-confirmations.csv"'
    return response


def _file_or_404(file_id: UUID) -> BankFile:
    file = BankFile.objects.select_related("run", "made_by").filter(public_id=file_id).first()
    if file is None:
        raise Http404
    return file


def _facts(file: BankFile) -> list[tuple[str, Any]]:
    return [
        ("File", file.message_id),
        ("Orders", file.n_payments),
        ("SHA-256", bytes(file.sha256).hex()),
        ("Written by", file.made_by),
    ]
