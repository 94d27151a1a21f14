"""Why was I paid: the list, and the receipt of one generation with its arithmetic."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from attribution.models import Attribution, AttributionIndex, Generation
from attribution.operations.recomputations import Recomputed
from attribution.operations.recomputations import recompute as recompute_attribution
from attribution.queries.generations import top_works
from attribution.queries.indexes import agreement
from contributors.models import Contributor, Membership, Work
from contributors.operations import contents
from contributors.portal.guard import ContributorRequest, contributor_required
from contributors.queries.contents import OUTPUTS
from contributors.queries.works import works_of
from ledger.models import ReceiptDispute, RoyaltyPlan, Void
from ledger.money import PPB, asset
from ledger.operations import pools
from ledger.queries import books, disputes
from ledger.queries.archived import ArchivedReceipt, archived_receipt
from ledger.queries.receipt import ContributorReceipt, OwnShare, receipt_for_contributor
from ledger.queries.receipts import models_of, months_of, receipts_of
from people.presentation import dates, percent, pictures
from people.presentation.amounts import grouped, text_in_minor

WORKS_OFFERED_MAX = 500
DISPUTES_SHOWN_MAX = 20


def month_code(number: int) -> str:
    return f"{number // 100}-{number % 100:02d}"


@contributor_required
@require_GET
def receipts(request: ContributorRequest) -> HttpResponse:
    contributor = request.contributor
    chosen = {name: request.GET.get(name, "") for name in ("month", "service", "model", "work")}
    work = _own_work(request, chosen["work"])
    after = request.GET.get("after", "")
    models = models_of(contributor.pk)
    page = receipts_of(
        contributor.pk,
        month=books.period_number(chosen["month"]),
        service=_uuid(chosen["service"]),
        model=_uuid(chosen["model"]),
        work=work.pk if work else None,
        after=after,
    )
    context = {
        "page": page,
        "archived": [(month_code(number), dates.month_of_number(number)) for number in page.archived],
        "after": after,
        "chosen": chosen,
        "filtered": any(chosen.values()),
        "months": [(month_code(number), dates.month_of_number(number)) for number in months_of(contributor.pk)],
        "models": models,
        "services": sorted({model.service for model in models}, key=lambda service: service.name),
        "works": works_of(contributor).order_by("title", "pk")[:WORKS_OFFERED_MAX],
        "disputes": disputes.disputes_of(contributor.pk)[:DISPUTES_SHOWN_MAX],
    }
    return render(request, "ledger/portal/receipts.html", context)


def _own_work(request: ContributorRequest, public_id: str) -> Work | None:
    """The work that the list is narrowed to. Another's work is as unknown as one that does not exist."""
    if (wanted := _uuid(public_id)) is None:
        return None
    work = works_of(request.contributor).filter(public_id=wanted).first()
    if work is None:
        raise Http404("You have no such work.")
    return work


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if text else None
    except ValueError:
        raise Http404("There is nothing of this name.") from None


# --- one receipt --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Step:
    """A line of the arithmetic: its title, its method and its result in units of the currency."""

    title: str
    how: str
    amount: int


@contributor_required
@require_GET
def receipt(request: ContributorRequest, generation_id: uuid.UUID) -> HttpResponse:
    found = _found(request, generation_id)
    if isinstance(found, ArchivedReceipt):
        return _archived(request, found)
    return render(request, "ledger/portal/receipt.html", _context(request, found))


@contributor_required
@require_GET
def output(request: ContributorRequest, generation_id: uuid.UUID, position: int) -> HttpResponse:
    """A small picture of an output, to the contributors with a receipt of it, if its service lets it be shown."""
    found = _found(request, generation_id)
    if isinstance(found, ArchivedReceipt) or not found.standing.generation.service.shows_outputs:
        raise Http404("The output itself is not shown.")
    part = found.standing.generation.media.filter(position=position, modality="image", is_kept=True).first()
    if part is None or found.standing.generation.texts_deleted_at is not None:
        raise Http404("There is no picture in this place of the output.")
    try:
        return pictures.answer(contents.thumbnail(OUTPUTS, bytes(part.sha256)), "image/webp")
    except contents.UnableToDraw as reason:
        raise Http404(str(reason)) from reason


@contributor_required
@require_http_methods(["GET", "POST"])
def recompute(request: ContributorRequest, generation_id: uuid.UUID) -> HttpResponse:
    """Do the arithmetic again from the stored scores, both of the shares and of the division, and show the result."""
    if request.method == "GET":
        # The contributor came back to the address of an answer: the button asks the same question again.
        return redirect("ledger:receipt", generation_id)
    found = _found(request, generation_id)
    if isinstance(found, ArchivedReceipt):
        return _archived(request, found)
    context = _context(request, found)
    assert found.standing.attribution is not None
    again = recompute_attribution(attribution=found.standing.attribution)
    context |= {"recomputed": again, "identical": again.agrees and found.agrees}
    name = "receipt_recomputed" if request.headers.get("HX-Request") else "receipt"
    return render(request, f"ledger/portal/{name}.html", context)


def _found(request: ContributorRequest, generation_id: uuid.UUID) -> ContributorReceipt | ArchivedReceipt:
    found = receipt_for_contributor(generation_id, request.contributor.pk)
    if found is None and (archived := archived_receipt(generation_id, request.contributor.pk)) is not None:
        return archived
    if found is None and (generation := Generation.objects.filter(pk=generation_id).first()) is not None:
        gross = pools.estimated_gross(generation=generation)
        if gross is not None:
            found = receipt_for_contributor(generation_id, request.contributor.pk, estimated_gross=gross)
    if found is None:
        raise Http404("You have no receipt for this generation.")
    return found


def _archived(request: ContributorRequest, found: ArchivedReceipt) -> HttpResponse:
    """Show the facts still known of it and their proof, in place of the arithmetic."""
    void = getattr(found.generation, "void", None)
    context = {
        "generation": found.generation,
        "period": found.period,
        "month": dates.month_of_number(found.period.pk),
        "credited": found.credited,
        "voided": _voided(void, found.generation.model_version.name) if void is not None else "",
    }
    return render(request, "ledger/portal/receipt_archived.html", context, status=410)


def _context(request: ContributorRequest, found: ContributorReceipt) -> dict[str, object]:
    attribution, accrual = found.standing.attribution, found.standing.accrual
    assert attribution is not None
    assert accrual is not None
    disputed = list(disputes.disputes_of(request.contributor.pk, found.standing.generation.pk)[:DISPUTES_SHOWN_MAX])
    recomputed: Recomputed | None = None
    return {
        "receipt": found,
        "generation": found.standing.generation,
        "media": list(found.standing.generation.media.order_by("position")),
        "entry": found.standing.entry,
        "plan": accrual.plan,
        "plan_rule": _plan_rule(accrual.plan),
        "attribution": attribution,
        "index": attribution.index,
        "audit": audit_score(attribution.index),
        "currency": found.currency,
        "sentence": _sentence(found),
        "steps": _steps(found, accrual.plan),
        "evidence": _evidence(found, attribution, request.contributor),
        "unattributed_ppb": attribution.unattributed_ppb,
        "by_items": attribution.rule == Attribution.Rule.ITEMS,
        "parts_of_all": sum(attribution.parts),
        "recomputed": recomputed,
        "disputes": disputed,
        "may_dispute": request.membership.role != Membership.Role.VIEWER
        and not any(dispute.state == ReceiptDispute.State.OPEN for dispute in disputed),
    }


def _voided(void: Void, model: str) -> str:
    who = "Its service" if void.voided_by_id is None else "The programme's finance staff"
    return (
        f"{who} voided this output of {model} on {dates.day(void.voided_at)}, "
        f"because {void.words}. Your earnings from it were reversed."
    )


def _sentence(found: ContributorReceipt) -> str:
    """The first sentence of the page: the amount, its purpose and the work that earned it."""
    standing = found.standing
    version = standing.generation.model_version
    if standing.state == "estimated":
        amount = text_in_minor(found.credited, asset(found.currency))
        return (
            f"Estimate until the month closes: {amount}. The pool of {dates.month(standing.generation.occurred_at)} is "
            "divided among all generations of the month, so that the figure changes with every further one."
        )
    if standing.void is not None:
        return _voided(standing.void, version.name)
    if not found.credited:
        return f"You earned nothing by attribution from this output of {version.name}. {_why_nothing(found)}"
    ppb = sum(share.ppb * share.split_ppb // PPB for share in found.shares)
    chief = f" Most of it came from “{found.works[0].work.title}”." if found.works else ""
    # The errors of several shares depend on each other, so that only a single one has an interval.
    alone = found.shares[0] if len(found.shares) == 1 and found.shares[0].split_ppb == PPB else None
    # Rule 2 has no standard error.
    sure = standing.attribution is not None and standing.attribution.rule == Attribution.Rule.ITEMS
    likely = f" (likely {percent.likely(alone.ppb, alone.se_ppb)})" if alone and not sure else ""
    return (
        f"You earned {text_in_minor(found.credited, asset(found.currency))}. About {percent.short(ppb)} of the "
        f"contributors' influence on this output of {version.name} came from your works{likely}.{chief}"
    )


def _why_nothing(found: ContributorReceipt) -> str:
    if found.division.direct == 0:
        return "Its index has not passed an evaluation, so that the whole pool went into the base pool."
    attribution = found.standing.attribution
    if attribution is not None and attribution.rule == Attribution.Rule.ITEMS:
        return _why_no_item(attribution)
    if any(share.below_noise for share in found.shares):
        return "Your works' influence on it could not be told from chance; that part went to the base pool."
    return "Your works made this output no more likely than the average output."


def _why_no_item(attribution: Attribution) -> str:
    if not attribution.parts:
        return (
            f"None of the {attribution.items_counted:,} judged training items explains it better than the others, so "
            "that the whole part went to the base pool."
        )
    return (
        f"None of your training items was among the {attribution.items_paid} that explain it best, "
        f"of {attribution.items_counted:,} that were judged."
    )


def _plan_rule(plan: RoyaltyPlan) -> str:
    scale = asset(plan.currency).scale
    if plan.price is not None:
        return f"{plan.currency} {grouped(plan.price, scale)} for each generation"
    if plan.rate_ppb is not None:
        return f"{percent.text(plan.rate_ppb)} of the revenue of each generation"
    if plan.pool is None:
        return "a pool that is declared for each month, divided equally among its generations"
    return f"{plan.currency} {grouped(plan.pool, scale)} for each month, divided equally among its generations"


def _gross_rule(found: ContributorReceipt, plan: RoyaltyPlan) -> str:
    if plan.basis != RoyaltyPlan.Basis.PERIOD_POOL:
        return _plan_rule(plan)
    return f"one generation's equal part of the pool of {dates.month(found.standing.generation.occurred_at)}"


def _steps(found: ContributorReceipt, plan: RoyaltyPlan) -> list[Step]:
    """The division so that a payee can redo it with a calculator: each step from figures that stand above it."""
    division, scale = found.division, asset(found.currency).scale

    def shown(units: int) -> str:
        return grouped(units, scale)

    steps = [
        Step("Gross of this generation", f"Plan {plan.version}: {_gross_rule(found, plan)}", division.gross),
        Step("The platform's take", f"{shown(division.gross)} × {percent.text(plan.take_ppb)}, cut", division.take),
        Step("Pool", f"{shown(division.gross)} − {shown(division.take)}", division.pool),
        Step("Base part", f"{shown(division.pool)} × {percent.text(plan.floor_ppb)}, cut", division.floor_part),
        Step("Open to attribution", f"{shown(division.pool)} − {shown(division.floor_part)}", division.rest),
        Step(
            "Goes by attribution",
            f"{shown(division.rest)} × {percent.text(division.weight_ppb)}, the weight of the evaluated index, cut",
            division.direct,
        ),
    ]
    for share in found.shares:
        steps += _share_steps(found, share, scale, blended=plan.general_ppb)
    return steps


def _share_steps(found: ContributorReceipt, share: OwnShare, scale: int, *, blended: int) -> list[Step]:
    division = found.division
    weight = percent.text(share.ppb)
    if blended:
        own, general = f"{weight} × {percent.text(PPB - blended)}", percent.text(share.general_ppb)
        weight = f"({own} + {general} × {percent.text(blended)})"
    quota = share.quota.numerator * 10**3 // share.quota.denominator
    exact = f"{grouped(quota, scale + 3)}"
    rounding = "rounded up to the next unit" if share.rounded_up else "rounded down to a whole unit"
    if share.quota.denominator == 1:
        rounding = "a whole number of units already"
    name = "Your share" if len(found.shares) == 1 else f"Share of {share.holder.label}"
    steps = [
        Step(
            name,
            f"{grouped(division.direct, scale)} × {weight} = {exact}…, {rounding} by the largest remainder",
            share.units,
        )
    ]
    if share.split_ppb != PPB:
        steps.append(
            Step(
                f"Your part of {share.holder.label}",
                f"{grouped(share.units, scale)} × {percent.text(share.split_ppb)} of the split sheet",
                share.credited,
            )
        )
    return steps


@dataclass(frozen=True, slots=True)
class AuditScore:
    """The index's evaluation for a reader: the LDS on the model's own generations with its interval."""

    passed: bool
    lds: float | None
    low: float | None
    high: float | None
    coalitions: int | None


def audit_score(index: AttributionIndex) -> AuditScore | None:
    audit = index.audit
    if not audit:
        return None
    # Of the paid shares: the weight rests on it, and a receipt quotes it.
    measured = agreement(index)
    return AuditScore(
        passed=bool(audit.get("passed")),
        lds=measured.get("lds"),
        low=measured.get("low", audit.get("lds_low")),
        high=measured.get("high"),
        coalitions=audit.get("coalitions"),
    )


@dataclass(frozen=True, slots=True)
class ShownWork:
    work: Work
    score: float
    amount: int
    part_percent: int
    # (text, is shared with the output) of the passage, with whether it is cut before and after.
    parts: tuple[tuple[str, bool], ...]
    cut_before: bool
    cut_after: bool
    # Whether the reader registered it, and so has a page and a picture of it.
    is_own: bool


def _evidence(found: ContributorReceipt, attribution: Attribution, reader: Contributor) -> list[ShownWork]:
    """The contributor's works behind the share, strongest first, each with the passage nearest to the output."""
    holder_ids = [share.holder.pk for share in found.shares]
    by_work = {
        evidence.work.pk: evidence
        for ranked in top_works(attribution, holder_ids=holder_ids, with_passages=True).values()
        for evidence in ranked
    }
    shown = []
    for own in found.works:
        passage = by_work[own.work.pk].passage if own.work.pk in by_work else None
        shown.append(
            ShownWork(
                work=own.work,
                score=own.score,
                amount=own.amount,
                part_percent=round(100 * own.amount / found.credited) if found.credited else 0,
                parts=passage.parts if passage else (),
                cut_before=bool(passage and passage.cut_before),
                cut_after=bool(passage and passage.cut_after),
                is_own=own.work.dataset.contributor_id == reader.pk,
            )
        )
    return shown
