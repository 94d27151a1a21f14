"""Console pages of receipt disputes."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from ledger.console.books import READERS
from ledger.forms.disputes import AnswerDisputeForm
from ledger.models import ReceiptDispute
from ledger.operations.disputes import ANSWERERS, UnableToAnswerDispute, answer_dispute
from ledger.queries import disputes as disputes_queries
from ledger.queries import receipt
from people.console.guard import staff_required

DISPUTES_PAGE = 50


# --- disputes -----------------------------------------------------------------------------------------------------
DISPUTE_READERS = (*READERS, "compliance")


@staff_required(*DISPUTE_READERS)
@require_GET
def disputes(request: HttpRequest) -> HttpResponse:
    chosen = request.GET.get("state", ReceiptDispute.State.OPEN)
    chosen = chosen if chosen in ReceiptDispute.State.values else ReceiptDispute.State.OPEN
    page = Paginator(disputes_queries.disputes(chosen), DISPUTES_PAGE).get_page(request.GET.get("page"))
    context = {
        "page_obj": page,
        "chosen": chosen,
        "states": [(value, label.capitalize()) for value, label in ReceiptDispute.State.choices],
    }
    return render(request, "ledger/console/disputes.html", context)


@staff_required(*DISPUTE_READERS)
@require_http_methods(["GET", "POST"])
def answer(request: HttpRequest, dispute_id: int) -> HttpResponse:
    found = disputes_queries.disputes().filter(pk=dispute_id).select_related("raised_by").first()
    if found is None:
        raise Http404("There is no such dispute.")
    user = request.user
    assert user.is_authenticated
    may_act = user.has_role(*ANSWERERS)
    form = AnswerDisputeForm(request.POST or None)
    if request.method == "POST" and not may_act:
        raise PermissionDenied(f"A dispute is answered by {' or '.join(ANSWERERS)}.")
    if request.method == "POST" and form.is_valid():
        try:
            answer_dispute(
                dispute=found,
                upheld=form.cleaned_data["decision"] == "upheld",
                words=form.cleaned_data["words"],
                by=user,
                at=timezone.now(),
            )
        except UnableToAnswerDispute as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "The answer stands on the contributor's receipt.")
            return redirect("ledger:disputes")
    context = {
        "dispute": found,
        "form": form,
        "may_act": may_act,
        "receipt": receipt.receipt_for_contributor(found.generation_id, found.contributor_id),
    }
    return render(request, "ledger/console/dispute.html", context, status=422 if form.errors else 200)
