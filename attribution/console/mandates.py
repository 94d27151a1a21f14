"""Staff record and revoke the mandates of organisations that register works for many."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from attribution.console.model_services import ACTORS, READERS, may_change
from attribution.forms.mandates import RecordMandateForm
from attribution.models import Mandate, ModelService
from attribution.operations import mandates
from people.actor import COMPLIANCE
from people.console.guard import recently_authenticated, staff_required, user_of


@staff_required(*READERS)
@recently_authenticated
@require_http_methods(["GET", "HEAD", "POST"])
def service_mandates(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The mandates of a service; administrators, the model team and compliance record another one."""
    service = get_object_or_404(ModelService, public_id=public_id)
    allowed = may_record(request)
    form = RecordMandateForm(request.POST or None) if allowed else None
    if request.method == "POST" and form is not None and form.is_valid():
        try:
            mandates.record_mandate(service=service, by=user_of(request), at=timezone.now(), **form.given())
        except mandates.UnableToRecordMandate as reason:
            form.add_error(None, str(reason))
        else:
            messages.success(request, "The mandate is recorded. The organisation's key needs the scope works:write.")
            return redirect("attribution:mandates", public_id)
    context = {
        "service": service,
        "mandates": Mandate.objects.filter(service=service).prefetch_related("contributors").order_by("-pk"),
        "form": form,
        "may_record": allowed,
    }
    status = 422 if form is not None and form.errors else 200
    return render(request, "attribution/console/mandates.html", context, status=status)


@staff_required(*ACTORS, COMPLIANCE)
@recently_authenticated
@require_POST
def revoke_mandate(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    mandate = get_object_or_404(Mandate.objects.select_related("service"), public_id=public_id)
    try:
        mandates.revoke_mandate(mandate=mandate, at=timezone.now(), by=user_of(request))
    except mandates.UnableToRevokeMandate as reason:
        messages.error(request, str(reason))
    else:
        messages.success(request, "The mandate ends now. Works and consents registered under it stay.")
    return redirect("attribution:mandates", mandate.service.public_id)


def may_record(request: HttpRequest) -> bool:
    return may_change(request) or (request.user.is_authenticated and request.user.has_role(COMPLIANCE))
