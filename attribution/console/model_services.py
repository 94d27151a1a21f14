"""The staff's pages about model services: their keys, their models, and how well these are attributed."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from attribution.forms.model_services import (
    BuildIndexForm,
    RegisterServiceForm,
    RetentionForm,
    RotateKeyForm,
    key_form,
)
from attribution.forms.model_versions import ManifestForm, SupersedeForm
from attribution.models import AttributionIndex, ManifestWork, ModelFault, ModelService, ModelVersion, ServiceKey
from attribution.operations import faults, model_services, retention
from attribution.operations.base_pool import KIND
from attribution.operations.manifests import Checked
from attribution.queries import model_services as model_services_queries
from attribution.queries import model_versions
from attribution.queries.indexes import audit_rows, build_progress, control_rows, paid_rows
from people.actor import ADMIN, MODEL_TEAM
from people.console.guard import recently_authenticated, staff_required, user_of
from people.models import FINANCE_ROLES, STAFF_ROLES

WORKS_SHOWN = 200
READERS = STAFF_ROLES
ACTORS = (ADMIN, MODEL_TEAM)


@staff_required(*READERS)
@require_http_methods(["GET", "HEAD", "POST"])
def services(request: HttpRequest) -> HttpResponse:
    """Every service; administrators register another one."""
    form = RegisterServiceForm(request.POST or None)
    if request.method == "POST":
        return _register(request, form)
    return _services_page(request, form)


def _register(request: HttpRequest, form: RegisterServiceForm) -> HttpResponse:
    if not may_change(request):
        raise PermissionDenied("Only an administrator or the model team registers a service.")
    if form.is_valid():
        try:
            service = model_services.register_service(
                name=form.cleaned_data["name"], at=timezone.now(), by=user_of(request)
            )
        except model_services.UnableToRegisterService as reason:
            form.add_error("name", str(reason))
        else:
            messages.success(request, f"{service.name} is registered. It needs a key before it can report.")
            return redirect("attribution:service", service.public_id)
    return _services_page(request, form, status=422)


def _services_page(request: HttpRequest, form: RegisterServiceForm, *, status: int = 200) -> HttpResponse:
    context = {
        "services": model_services_queries.services(at=timezone.now()),
        "form": form,
        "may_change": may_change(request),
    }
    return render(request, "attribution/console/services.html", context, status=status)


@staff_required(*READERS)
@require_safe
def service(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """One service: its keys and its model versions."""
    return _service_page(request, get_object_or_404(ModelService, public_id=public_id))


def _service_page(request: HttpRequest, service: ModelService, *, status: int = 200, **extra: Any) -> HttpResponse:
    context = {
        "service": service,
        "keys": model_services_queries.keys_of(service, at=timezone.now()),
        "versions": model_versions.model_versions_of(service),
        "key_form": key_form(),
        "rotate_form": RotateKeyForm(),
        "retention_form": RetentionForm(initial={"days": service.text_retention_days}),
        "may_set_retention": request.user.is_authenticated and request.user.has_role("admin"),
        "may_change": may_change(request),
        "may_read_money": request.user.is_authenticated and request.user.has_role(*FINANCE_ROLES),
        **extra,
    }
    return render(request, "attribution/console/service.html", context, status=status)


@staff_required(*ACTORS)
@recently_authenticated
@require_POST
@never_cache
def issue_key(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The answer to this POST is the only page that ever shows the key."""
    service = get_object_or_404(ModelService, public_id=public_id)
    form, at = key_form(request.POST), timezone.now()
    if form.is_valid():
        try:
            key, text = model_services.issue_key(
                service=service,
                scopes=form.cleaned_data["scopes"],
                expires_at=form.expires_at(at),
                by=user_of(request),
                at=at,
            )
        except model_services.UnableToIssueKey as reason:
            form.add_error(None, str(reason))
        else:
            return render(
                request, "attribution/console/service_key.html", {"service": service, "key": key, "text": text}
            )
    return _service_page(request, service, status=422, key_form=form)


@staff_required(*ACTORS)
@recently_authenticated
@require_POST
@never_cache
def rotate_key(request: HttpRequest, public_id: uuid.UUID, prefix: str) -> HttpResponse:
    old = get_object_or_404(ServiceKey.objects.select_related("service"), service__public_id=public_id, prefix=prefix)
    form = RotateKeyForm(request.POST)
    if form.is_valid():
        try:
            key, text = model_services.rotate_key(
                key=old, overlap=form.overlap(), by=user_of(request), at=timezone.now()
            )
        except model_services.UnableToRotateKey as reason:
            form.add_error(None, str(reason))
        else:
            old.refresh_from_db()
            context = {"service": old.service, "key": key, "text": text, "old": old}
            return render(request, "attribution/console/service_key.html", context)
    return _service_page(request, old.service, status=422, rotate_form=form, rotating=old)


@staff_required(*ACTORS)
@require_POST
def revoke_key(request: HttpRequest, public_id: uuid.UUID, prefix: str) -> HttpResponse:
    key = get_object_or_404(ServiceKey, service__public_id=public_id, prefix=prefix)
    try:
        model_services.revoke_key(key=key, at=timezone.now(), by=user_of(request))
    except model_services.UnableToRevokeKey as reason:
        messages.error(request, str(reason))
    else:
        messages.success(request, f"The key {key.prefix} is revoked. Requests with it are refused from now on.")
    return redirect("attribution:service", public_id)


@staff_required(*ACTORS)
@require_POST
def set_active(request: HttpRequest, public_id: uuid.UUID, *, active: bool) -> HttpResponse:
    service = get_object_or_404(ModelService, public_id=public_id)
    change = model_services.resume_service if active else model_services.suspend_service
    try:
        change(service=service, at=timezone.now(), by=user_of(request))
    except model_services.UnableToSuspendService as reason:
        messages.error(request, str(reason))
    else:
        messages.success(request, f"{service.name} is {'active again' if active else 'suspended: no key works'}.")
    return redirect("attribution:service", public_id)


@staff_required("admin")
@require_POST
def set_shows_outputs(request: HttpRequest, public_id: uuid.UUID, *, shown: bool) -> HttpResponse:
    service = get_object_or_404(ModelService, public_id=public_id)
    model_services.show_outputs(service=service, shown=shown, at=timezone.now(), by=user_of(request))
    said = "show its pictures from now on" if shown else "show its pictures no more"
    messages.success(request, f"Receipts of {service.name} {said}.")
    return redirect("attribution:service", public_id)


@staff_required("admin")
@recently_authenticated
@require_POST
def set_retention(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Set the days after which prompts and outputs of a service are deleted."""
    service = get_object_or_404(ModelService, public_id=public_id)
    form = RetentionForm(request.POST)
    if form.is_valid():
        try:
            days = form.cleaned_data["days"]
            retention.set_retention(service=service, days=days, at=timezone.now(), by=user_of(request))
        except retention.UnableToSetRetention as reason:
            form.add_error("days", str(reason))
        else:
            said = f"are deleted {days} days after their report" if days else "are kept without an end"
            messages.success(request, f"Prompts and outputs of {service.name} {said}.")
            return redirect("attribution:service", public_id)
    return _service_page(request, service, status=422, retention_form=form)


@staff_required(*READERS)
@require_safe
def model_version(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """One model version: checkpoint, training manifest with consents, every index with its audit."""
    version = get_object_or_404(ModelVersion.objects.select_related("service"), public_id=public_id)
    return model_version_page(request, version)


def model_version_page(
    request: HttpRequest,
    version: ModelVersion,
    *,
    form: BuildIndexForm | None = None,
    manifest_form: ManifestForm | None = None,
    checked: Checked | None = None,
    status: int = 200,
) -> HttpResponse:
    """`form` and `manifest_form` where one was refused; `checked` after a dry run of a manifest."""
    (summary,) = model_versions.model_versions_of(version.service, name=version.name)
    works = (
        ManifestWork.objects.filter(manifest__model_version=version)
        .select_related("work__holder", "consent")
        .order_by("work__title", "pk")
    )
    indexes = AttributionIndex.objects.filter(model_version=version).order_by("-pk")
    context = {
        "summary": summary,
        "version": version,
        "service": version.service,
        "works": works[:WORKS_SHOWN],
        "n_works": summary.manifest.n_works if summary.manifest else 0,
        "indexes": [
            (index, audit_rows(index), paid_rows(index), control_rows(index), build_progress(index))
            for index in indexes
        ],
        "build_form": form or BuildIndexForm(version),
        "manifest_form": manifest_form or ManifestForm(),
        "checked": checked,
        "retire_form": SupersedeForm(model_versions.successors_of(version)),
        "may_change": may_change(request),
        "may_propose": request.user.is_authenticated and request.user.has_role(*KIND.proposers),
        "fault": ModelFault.objects.filter(model_version=version, set_aside_at__isnull=False).first(),
    }
    return render(request, "attribution/console/service_model.html", context, status=status)


@staff_required(*ACTORS)
@recently_authenticated
@require_POST
def take_up(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Take up a model version again that was set aside because its code failed."""
    version = get_object_or_404(ModelVersion, public_id=public_id)
    try:
        faults.take_up(model_version=version, at=timezone.now(), by=user_of(request))
    except faults.UnableToTakeUp as reason:
        messages.error(request, str(reason))
    else:
        messages.success(request, f"{version.name} is taken up again. Its generations are tried from now on.")
    return redirect("attribution:model_version", public_id)


def may_change(request: HttpRequest) -> bool:
    return request.user.is_authenticated and request.user.has_role(*ACTORS)
