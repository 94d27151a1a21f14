"""A contributor's disputes of receipts that look wrong."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from contributors.portal.guard import ContributorRequest, contributor_required
from ledger.operations.disputes import UnableToDispute, dispute_receipt, withdraw_dispute
from ledger.queries import disputes, receipt


@contributor_required(change=True)
@require_POST
def dispute(request: ContributorRequest, generation_id: uuid.UUID) -> HttpResponse:
    if receipt.receipt_for_contributor(generation_id, request.contributor.pk) is None:
        raise Http404("You have no receipt for this generation.")
    words = request.POST.get("words", "")
    try:
        dispute_receipt(
            contributor=request.contributor,
            generation_id=generation_id,
            words=words,
            by=request.user,
            at=timezone.now(),
        )
    except UnableToDispute as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "Your dispute is recorded. The answer will stand on this page.")
    return redirect("ledger:receipt", generation_id)


@contributor_required(change=True)
@require_POST
def withdraw(request: ContributorRequest, generation_id: uuid.UUID, dispute_id: int) -> HttpResponse:
    found = disputes.disputes_of(request.contributor.pk, generation_id).filter(pk=dispute_id).first()
    if found is None:
        raise Http404("You have no such dispute.")
    try:
        withdraw_dispute(dispute=found, at=timezone.now())
    except UnableToDispute as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "Your dispute is withdrawn.")
    return redirect("ledger:receipt", generation_id)
