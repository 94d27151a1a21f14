"""The staff's page of a service's gateways: names of models, waiting reports, and arrivals."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from attribution.console.model_services import READERS, may_change
from attribution.forms.gateways import ModelNameForm
from attribution.models import ModelName, ModelService
from attribution.operations import gateways as gateway_operations
from attribution.operations import model_names
from attribution.queries import gateways as gateway_queries
from people.console.guard import staff_required, user_of

NAMES_SHOWN = 200


@staff_required(*READERS)
@require_http_methods(["GET", "HEAD", "POST"])
def gateways(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The names of one service; administrators add one."""
    service = get_object_or_404(ModelService, public_id=public_id)
    if request.method == "POST":
        return _name(request, service)
    return _page(request, service, ModelNameForm(service, pattern=request.GET.get("name", "")))


def _name(request: HttpRequest, service: ModelService) -> HttpResponse:
    if not may_change(request):
        raise PermissionDenied("Only an administrator names a model.")
    form = ModelNameForm(service, request.POST)
    if form.is_valid():
        try:
            name = model_names.name_model(service=service, at=timezone.now(), by=user_of(request), **form.cleaned_data)
        except model_names.UnableToNameModel as reason:
            form.add_error("pattern", str(reason))
        else:
            words = f"{name} leads to {name.model_version.name}. Waiting reports of it become generations in a moment."
            messages.success(request, words)
            return redirect("attribution:gateways", service.public_id)
    return _page(request, service, form, status=422)


def _page(request: HttpRequest, service: ModelService, form: ModelNameForm, *, status: int = 200) -> HttpResponse:
    at = timezone.now()
    context = {
        "service": service,
        "names": gateway_queries.names_of(service)[:NAMES_SHOWN],
        "waiting": gateway_queries.waiting_names([service], limit=NAMES_SHOWN),
        "tallies": gateway_queries.tallies_of(service, at=at),
        "tally_days": gateway_queries.TALLY_DAYS,
        "waiting_days": gateway_operations.WAITING_AGE_MAX.days,
        "form": form,
        "may_change": may_change(request),
    }
    return render(request, "attribution/console/service_gateways.html", context, status=status)


@staff_required("admin")
@require_POST
def end_name(request: HttpRequest, public_id: uuid.UUID, name_id: uuid.UUID) -> HttpResponse:
    name = get_object_or_404(
        ModelName.objects.select_related("service", "model_version"), public_id=name_id, service__public_id=public_id
    )
    try:
        model_names.end_name(name=name, at=timezone.now(), by=user_of(request))
    except model_names.UnableToEndName as reason:
        messages.error(request, str(reason))
    else:
        messages.success(request, f"{name} has ended. Earlier generations keep {name.model_version.name}.")
    return redirect("attribution:gateways", public_id)
