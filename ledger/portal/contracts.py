"""A contributor's contracts in plain words: coverage, guarantees, and reserves with the days on which they are
released.
"""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from contributors.portal.guard import ContributorRequest, contributor_required
from ledger.models import ContractTerms
from ledger.queries.accounts import open_advances
from ledger.queries.contract_words import terms_in_words
from ledger.queries.contracts import reserves_of, versions_in_force


@contributor_required
@require_GET
def contracts(request: ContributorRequest) -> HttpResponse:
    contributor = request.contributor
    today = timezone.now().date()
    in_force = versions_in_force(today.year * 100 + today.month, [contributor.pk])
    coming = ContractTerms.objects.filter(
        contract__contributor=contributor, state=ContractTerms.State.APPROVED, effective_from__gt=today
    ).select_related("contract", "guarantee_service")
    context = {
        "in_force": [(row, terms_in_words(row)) for row in in_force],
        "coming": [(row, terms_in_words(row)) for row in coming.order_by("effective_from")],
        "advances": open_advances(contributor.pk),
        "reserves": reserves_of(contributor.pk),
    }
    return render(request, "ledger/portal/contracts.html", context)
