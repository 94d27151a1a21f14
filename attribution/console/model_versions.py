"""Staff register model versions, check and store their manifests, and retire them."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from attribution.console.model_services import ACTORS, model_version_page
from attribution.forms.model_versions import ManifestForm, RegisterVersionForm, SupersedeForm
from attribution.models import ModelService, ModelVersion
from attribution.operations import manifests, model_versions
from attribution.operations.manifest_lines import JSON_LINES, PARQUET, UnableToReadManifest, read_lines
from attribution.queries.model_versions import successors_of
from people.console.guard import recently_authenticated, staff_required, user_of


@staff_required(*ACTORS)
@recently_authenticated
@require_http_methods(["GET", "HEAD", "POST"])
def register_version(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Register a model version of a service; the model is loaded before it is stored."""
    service = get_object_or_404(ModelService, public_id=public_id)
    form = RegisterVersionForm(service, request.POST or None)
    if request.method == "POST" and form.is_valid():
        given: dict[str, Any] = dict(form.cleaned_data)
        digest = form.digest()
        del given["checkpoint"], given["checkpoint_sha256"]
        try:
            checkpoint = model_versions.find_checkpoint(service=service, sha256=digest) if digest else None
            version = model_versions.register_model_version(
                service=service, checkpoint=checkpoint, at=timezone.now(), by=user_of(request), **given
            )
        except model_versions.UnableToRegisterModelVersion as reason:
            field = str(reason.members["field"]).partition(".")[0]
            form.add_error(field if field in form.fields else None, str(reason))
        else:
            messages.success(request, f"{version.name} is registered. Its training manifest comes next.")
            return redirect("attribution:model_version", version.public_id)
    context = {"service": service, "form": form}
    return render(request, "attribution/console/register_version.html", context, status=422 if form.errors else 200)


@staff_required(*ACTORS)
@recently_authenticated
@require_POST
def hand_over_manifest(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Check a manifest and show every refused work, or store it."""
    version = get_object_or_404(ModelVersion.objects.select_related("service"), public_id=public_id)
    form = ManifestForm(request.POST, request.FILES)
    checked = None
    if form.is_valid():
        file = form.cleaned_data["manifest"]
        media_type = PARQUET if str(file.name).endswith(".parquet") else JSON_LINES
        try:
            with read_lines(file, media_type=media_type) as lines:
                if "store" in request.POST:
                    manifest = manifests.store_manifest(
                        model_version=version, lines=lines, at=timezone.now(), by=user_of(request)
                    )
                    messages.success(request, f"{manifest.n_items} items of {manifest.n_works} works are stored.")
                    return redirect("attribution:model_version", public_id)
                checked = manifests.check_manifest(model_version=version, lines=lines)
        except (UnableToReadManifest, manifests.UnableToRegisterManifest) as reason:
            form.add_error("manifest", str(reason))
    return model_version_page(request, version, manifest_form=form, checked=checked, status=422 if form.errors else 200)


@staff_required(*ACTORS)
@recently_authenticated
@require_POST
def retire_version(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Retire a version, in favour of another one where the form names it."""
    version = get_object_or_404(ModelVersion.objects.select_related("service"), public_id=public_id)
    form = SupersedeForm(successors_of(version), request.POST)
    if not form.is_valid():
        messages.error(request, "The version in its place is none of this service.")
        return redirect("attribution:model_version", public_id)
    successor, at, by = form.cleaned_data["successor"], timezone.now(), user_of(request)
    try:
        if successor is None:
            model_versions.retire_model_version(model_version=version, at=at, by=by)
        else:
            model_versions.supersede_model_version(model_version=version, successor=successor, at=at, by=by)
    except model_versions.UnableToRetireModelVersion as reason:
        messages.error(request, str(reason))
    else:
        messages.success(request, f"{version.name} is retired: no new generation of it is taken.")
    return redirect("attribution:model_version", public_id)
