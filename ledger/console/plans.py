"""Royalty plans in the console: proposed, and previewed on a month; the pools of months."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from attribution.models import AttributionIndex, ModelService, ModelVersion
from contributors.models import Contributor
from ledger.forms.plans import PlanForm, PoolForm, RestatementForm
from ledger.models import Period, PlanPreview, Restatement, RoyaltyPlan
from ledger.money import ASSETS, format_amount
from ledger.operations import corrections, previews
from ledger.operations import pools as pools_operations
from ledger.operations.plans import UnableToProposePlan, propose_plan
from ledger.queries import books
from ledger.queries.plan_months import not_void_in, previewed_periods
from people.console.confirmation import SecondLook, asked_again, is_sent
from people.console.guard import staff_required, user_of
from people.presentation import amounts, csv
from people.queries.proposals import FINANCE, READERS

# A month of up to so many generations is previewed at once; a larger one in the background.
INLINE_GENERATIONS_MAX = 2000
ROWS_SHOWN_MAX = 100
LABELS = {
    "gross": "Gross of the generations",
    "take": "The platform's take",
    "attributed": "To contributors, by attribution",
    "floor_in": "Into the base pool",
    "floor_out": "To contributors, from the base pool",
    "floor_kept": "Kept in the base pool (cap, nobody qualifies)",
    "contributors": "To contributors in all",
}


@staff_required(*READERS)
@require_GET
def plans(request: HttpRequest) -> HttpResponse:
    may_propose = user_of(request).has_role(*FINANCE)
    return render(request, "ledger/console/journal_plans.html", {"plans": books.plans(), "may_propose": may_propose})


@staff_required(*FINANCE)
@require_http_methods(["GET", "POST"])
def propose(request: HttpRequest) -> HttpResponse:
    form = PlanForm(request.POST or None, services=_services(), models=_models())
    if is_sent(request) and form.is_valid():
        if asked := asked_again(request, SecondLook("Propose this plan?", "Propose it"), form.facts()):
            return asked
        try:
            made = propose_plan(
                by=user_of(request),
                currency=form.cleaned_data["currency"],
                at=timezone.now(),
                terms=form.terms(),
                effective_from=datetime.combine(form.cleaned_data["effective_from"], time(), tzinfo=UTC),
            )
        except UnableToProposePlan as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{made} is proposed. Preview it on a past month; somebody else approves it.")
            return redirect("ledger:plan", made.pk)
    return render(request, "ledger/console/plan_propose.html", {"form": form}, status=422 if form.errors else 200)


def _services() -> list[tuple[str, str]]:
    return [(str(service.pk), str(service)) for service in ModelService.objects.order_by("name")]


def _models() -> list[tuple[str, str]]:
    rows = ModelVersion.objects.exclude(state=ModelVersion.State.RETIRED).select_related("service")
    return [(str(row.pk), f"{row} of {row.service}") for row in rows.order_by("service__name", "name")]


def _plan(plan_id: int) -> RoyaltyPlan:
    found = books.plans().filter(pk=plan_id).first()
    if found is None:
        raise Http404("There is no such plan.")
    return found


@staff_required(*READERS)
@require_GET
def plan(request: HttpRequest, plan_id: int) -> HttpResponse:
    return _plan_page(request, _plan(plan_id))


def _plan_page(request: HttpRequest, found: RoyaltyPlan, form: PoolForm | None = None) -> HttpResponse:
    user = user_of(request)
    pools = found.pools.select_related("period", "proposed_by", "decided_by").order_by("-period_id", "-id")
    pooled = found.basis == RoyaltyPlan.Basis.PERIOD_POOL and found.state == RoyaltyPlan.State.APPROVED
    context = {
        "plan": found,
        "previews": found.previews.select_related("period", "asked_by").order_by("-id")[:20],
        "months": previewed_periods(timezone.now()),
        "may_preview": user.has_role(*FINANCE) and found.state == RoyaltyPlan.State.PROPOSED,
        "pooled": pooled,
        "pools": pools[:36],
        "pool_form": (form or _pool_form(found)) if pooled and user.has_role(*FINANCE) else None,
    }
    return render(request, "ledger/console/plan.html", context, status=422 if form is not None else 200)


def _pool_form(found: RoyaltyPlan, data: Any = None) -> PoolForm:
    periods = Period.objects.filter(state=Period.State.OPEN).order_by("id")
    months = [(str(period.pk), period.code) for period in periods]
    return PoolForm(data, months=months, currency=found.currency)


# --- previews -----------------------------------------------------------------------------------------------------
@staff_required(*FINANCE)
@require_POST
def ask_preview(request: HttpRequest, plan_id: int) -> HttpResponse:
    found = _plan(plan_id)
    number = books.period_number(request.POST.get("month", ""))
    period = Period.objects.filter(pk=number).first() if number else None
    if period is None:
        messages.error(request, "Choose a month that has begun.")
        return redirect("ledger:plan", plan_id)
    at = timezone.now()
    try:
        made = previews.request_preview(plan=found, period=period, by=user_of(request), at=at)
    except previews.UnableToPreview as error:
        messages.error(request, str(error))
        return redirect("ledger:plan", plan_id)
    if not_void_in(period, found.currency, limit=INLINE_GENERATIONS_MAX + 1) <= INLINE_GENERATIONS_MAX:
        previews.compute_preview(preview=made, at=at)
    return redirect("ledger:plan_preview", plan_id, made.pk)


@dataclass(frozen=True, slots=True)
class PreviewLine:
    label: str
    before: int
    after: int

    @property
    def change(self) -> int:
        return self.after - self.before


@staff_required(*READERS)
@require_GET
def preview(request: HttpRequest, plan_id: int, preview_id: int) -> HttpResponse:
    found = _preview(plan_id, preview_id)
    rows = _rows(found)
    rows.sort(key=lambda row: (-abs(row[1].change), row[0]))
    context = {
        "preview": found,
        "plan": found.plan,
        "totals": [PreviewLine(label, *found.totals[name]) for name, label in LABELS.items()] if found.totals else [],
        "generations": found.totals.get("generations", [0, 0])[0],
        "refused": found.totals.get("refused", [0, 0]),
        "rows": [row for _, row in rows[:ROWS_SHOWN_MAX]],
        "n_rows": len(rows),
        "gaining": sum(row.change > 0 for _, row in rows),
        "losing": sum(row.change < 0 for _, row in rows),
        "total": PreviewLine("Sum of all contributors", sum(found.before), sum(found.after)),
    }
    return render(request, "ledger/console/plan_preview.html", context)


@staff_required(*READERS)
@require_GET
def preview_csv(request: HttpRequest, plan_id: int, preview_id: int) -> HttpResponse:
    found = _preview(plan_id, preview_id)
    header = ("period", "currency", "contributor", "before", "after", "change")
    code = found.plan.currency
    lines = (
        (
            found.period.code,
            code,
            public_id,
            *(format_amount(units, code) for units in (row.before, row.after, row.change)),
        )
        for public_id, row in _rows(found)
    )
    response = HttpResponse(csv.table(header, lines), content_type=csv.CONTENT_TYPE)
    response["Content-Disposition"] = f'attachment; filename="preview-{found.plan_id}-{found.period.code}.csv"'
    return response


def _preview(plan_id: int, preview_id: int) -> PlanPreview:
    rows = PlanPreview.objects.select_related("plan", "period", "asked_by")
    found = rows.filter(plan_id=plan_id, pk=preview_id).first()
    if found is None:
        raise Http404("There is no such preview.")
    return found


def _rows(found: PlanPreview) -> list[tuple[str, PreviewLine]]:
    """(public id, line) of every contributor that either side pays, in the order of their numbers."""
    names = {
        number: (str(public_id), name)
        for number, public_id, name in Contributor.objects.filter(pk__in=found.contributor_ids).values_list(
            "pk", "public_id", "display_name"
        )
    }
    return [
        (names[c][0], PreviewLine(names[c][1], before, after))
        for c, before, after in zip(found.contributor_ids, found.before, found.after, strict=True)
    ]


# --- pools --------------------------------------------------------------------------------------------------------
@staff_required(*FINANCE)
@require_POST
def propose_pool(request: HttpRequest, plan_id: int) -> HttpResponse:
    found = _plan(plan_id)
    form = _pool_form(found, request.POST)
    if not form.is_valid() or not is_sent(request):
        return _plan_page(request, found, form)
    pool = amounts.text(form.cleaned_data["amount"], ASSETS[found.currency])
    if asked := asked_again(request, SecondLook("Propose this pool?", "Propose it"), [(form.month_name, pool)]):
        return asked
    try:
        pools_operations.propose_pool(
            plan=found,
            period=Period.objects.get(pk=form.cleaned_data["month"]),
            amount=form.cleaned_data["amount"],
            by=user_of(request),
            at=timezone.now(),
            note=form.cleaned_data["note"],
        )
    except pools_operations.UnableToProposePool as error:
        form.add_error(None, str(error))
        return _plan_page(request, found, form)
    messages.success(request, "The pool is proposed; somebody else approves it.")
    return redirect("ledger:plan", plan_id)


# --- restatements -------------------------------------------------------------------------------------------------
@staff_required(*READERS)
@require_http_methods(["GET", "POST"])
def restatements(request: HttpRequest) -> HttpResponse:
    """Every restatement, and the form that proposes one."""
    user = user_of(request)
    indexes = AttributionIndex.objects.filter(serving=True, state="audited").select_related("model_version__service")
    choices = [(str(i.pk), f"{i.model_version.service}, {i.model_version}: {i}") for i in indexes.order_by("id")]
    form = RestatementForm(request.POST or None, indexes=choices)
    if request.method == "POST":
        if not user.has_role(*FINANCE):
            raise PermissionDenied("Finance staff propose restatements.")
        if form.is_valid():
            try:
                corrections.propose_restatement(
                    index=indexes.get(pk=form.cleaned_data["index"]),
                    reason=form.cleaned_data["reason"],
                    by=user,
                    since=datetime.combine(form.cleaned_data["since"], time(), tzinfo=UTC),
                    at=timezone.now(),
                )
            except corrections.UnableToRestate as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, "Proposed; somebody else approves it.")
                return redirect("ledger:restatements")
    rows = Restatement.objects.select_related(
        "index__model_version__service", "proposed_by", "decided_by", "generation"
    )
    context = {
        "rows": rows.order_by("-id")[:50],
        "form": form,
        "may_propose": user.has_role(*FINANCE),
        "any_index": bool(choices),
    }
    return render(request, "ledger/console/restatements.html", context, status=422 if form.errors else 200)
