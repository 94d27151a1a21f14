"""Contracts in the console: their terms in words, a new version proposed, and previewed on a past month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from attribution.models import ModelService
from contributors.models import Holder
from ledger.forms.contracts import ContractForm, TermsForm
from ledger.models import Contract, ContractTerms, Period
from ledger.operations.contracts import (
    UnableToProposeTerms,
    UnableToRecordContract,
    propose_terms,
    record_contract,
)
from ledger.queries import books
from ledger.queries.accounts import open_advances
from ledger.queries.contract_words import per_cent, terms_in_words
from ledger.queries.contracts import contracts as all_contracts
from ledger.queries.contracts import reserves_of, versions_in_force, versions_of
from ledger.queries.parties import months_after
from ledger.queries.previews import preview_terms
from ledger.typed_amounts import typed_of_units
from people.console.confirmation import SecondLook, asked_again, is_sent
from people.console.guard import staff_required, user_of
from people.presentation import dates
from people.queries.proposals import FINANCE, READERS

PAGE = 50
MONTHS_AHEAD = 12


@dataclass(frozen=True, slots=True)
class Version:
    terms: ContractTerms
    words: list[tuple[str, str]]
    in_force: bool


def _this_month() -> int:
    today = timezone.now().date()
    return today.year * 100 + today.month


def _contract(contract_id: int) -> Contract:
    found = all_contracts().filter(pk=contract_id).first()
    if found is None:
        raise Http404("There is no such contract.")
    return found


@staff_required(*READERS)
@require_GET
def contracts(request: HttpRequest) -> HttpResponse:
    page = Paginator(all_contracts(), PAGE).get_page(request.GET.get("page"))
    ids = {contract.contributor_id for contract in page}
    in_force = {row.contract_id: row for row in versions_in_force(_this_month(), ids)}
    waiting = set(
        ContractTerms.objects.filter(contract__in=list(page), state="proposed").values_list("contract_id", flat=True)
    )
    rows = [(contract, in_force.get(contract.pk), contract.pk in waiting) for contract in page]
    return render(request, "ledger/console/contracts.html", {"page_obj": page, "rows": rows})


@staff_required(*FINANCE)
@require_http_methods(["GET", "POST"])
def contract_new(request: HttpRequest) -> HttpResponse:
    form = ContractForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = record_contract(**form.cleaned_data, by=user_of(request), at=timezone.now())
        except UnableToRecordContract as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "The contract is recorded. It has no effect until its terms are approved.")
            return redirect("ledger:terms_propose", made.pk)
    return render(request, "ledger/console/contract_new.html", {"form": form}, status=422 if form.errors else 200)


@staff_required(*READERS)
@require_GET
def contract(request: HttpRequest, contract_id: int) -> HttpResponse:
    found = _contract(contract_id)
    in_force = {row.pk for row in versions_in_force(_this_month(), [found.contributor_id])}
    versions = [Version(row, terms_in_words(row), row.pk in in_force) for row in versions_of(found)]
    context = {
        "contract": found,
        "versions": versions,
        "advances": [row for row in open_advances(found.contributor_id) if row.contract == found.code],
        "proposals": found.advance_proposals.select_related("proposed_by", "decided_by").order_by("-id")[:PAGE],
        "reserves": [row for row in reserves_of(found.contributor_id) if row.contract_id == found.pk],
    }
    return render(request, "ledger/console/contract.html", context)


@staff_required(*FINANCE)
@require_http_methods(["GET", "POST"])
def propose(request: HttpRequest, contract_id: int) -> HttpResponse:
    found = _contract(contract_id)
    latest = found.versions.filter(state=ContractTerms.State.APPROVED).order_by("-effective_from").first()
    form = TermsForm(request.POST or None, initial=_initial(latest), **_choices(found))
    if is_sent(request) and form.is_valid():
        facts = form.facts()
        if facts and (asked := asked_again(request, SecondLook("Propose these terms?", "Propose them"), facts)):
            return asked
        try:
            made = propose_terms(
                contract=found,
                effective_from=date.fromisoformat(form.cleaned_data["effective_from"]),
                by=user_of(request),
                at=timezone.now(),
                terms=form.terms(),
            )
        except UnableToProposeTerms as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "Proposed. Look at its effect on a past month; somebody else approves it.")
            return redirect("ledger:terms", found.pk, made.version)
    return render(
        request,
        "ledger/console/terms_propose.html",
        {"contract": found, "form": form},
        status=422 if form.errors else 200,
    )


def _choices(found: Contract) -> dict[str, list[tuple[str, str]]]:
    first = timezone.now().date().replace(day=1)
    months = [months_after(first, n) for n in range(MONTHS_AHEAD + 1)]
    holders = Holder.objects.filter(splits__contributor=found.contributor_id).distinct().order_by("label")
    return {
        "months": [(day.isoformat(), dates.month(day)) for day in months],
        "holders": [(str(holder.pk), holder.label) for holder in holders],
        "services": [(str(service.pk), str(service)) for service in ModelService.objects.order_by("name")],
    }


def _initial(latest: ContractTerms | None) -> dict[str, Any]:
    """A new version begins as the last one: a person that changes one thing sees that one thing change."""
    if latest is None:
        return {"covers": "rest"}
    code = latest.guarantee_currency
    return {
        "covers": "rest" if latest.covers_rest else "holders" if latest.holder_ids else "nothing",
        "holders": [str(holder) for holder in latest.holder_ids],
        "guarantee": typed_of_units(latest.guarantee, code) if latest.guarantee else "",
        "guarantee_currency": code or "USD",
        "guarantee_payer": str(latest.guarantee_service_id or "programme"),
        "recoup_order": latest.recoup_order,
        "recoup_group": latest.recoup_group,
        "cross_recoup": latest.cross_recoup,
        "reserve": per_cent(latest.reserve_ppb).removesuffix("\u00a0%") if latest.reserve_ppb else "",
        "schedule": ", ".join(f"{months}: {per_cent(ppb)}" for months, ppb in latest.schedule),
    }


def _terms(contract_id: int, version: int) -> ContractTerms:
    rows = ContractTerms.objects.select_related("contract__contributor", "proposed_by", "decided_by")
    found = rows.filter(contract_id=contract_id, version=version).first()
    if found is None:
        raise Http404("There is no such version.")
    return found


@staff_required(*READERS)
@require_GET
def terms(request: HttpRequest, contract_id: int, version: int) -> HttpResponse:
    """One version, with its would-be effect on a past month, and its decision."""
    found = _terms(contract_id, version)
    begun = list(Period.objects.filter(starts__lte=timezone.now().date()).order_by("-id")[:36])
    asked = books.period_number(request.GET.get("month", ""))
    closed = next((p for p in begun if p.state in (Period.State.CLOSED, Period.State.SEALED)), None)
    period = next((p for p in begun if p.pk == asked), closed or (begun[0] if begun else None))
    context = {"terms": found, "months": begun, "preview": preview_terms(found, period) if period else None}
    return render(request, "ledger/console/terms.html", context)
