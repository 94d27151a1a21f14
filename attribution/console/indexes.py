"""Work that administrators queue from a model version's page: builds, refits and evaluations of its indexes."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from attribution.console.model_services import ACTORS, model_version_page
from attribution.forms.model_services import BuildIndexForm
from attribution.models import AttributionIndex, ModelVersion
from attribution.operations import base_pool, builds, evaluations, indexes, manifest_items, revisions
from people.console.guard import recently_authenticated, staff_required, user_of

REFUSALS = (manifest_items.UnableToBuild, indexes.UnableToAuditIndex, base_pool.UnableToPayByBasePool)
# The roles that propose a payment by the base pool.
DECIDERS = base_pool.KIND.proposers


@staff_required(*ACTORS)
@recently_authenticated
@require_POST
def queue_build(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """An index of a model version, of the configuration that the form says."""
    version = get_object_or_404(ModelVersion.objects.select_related("service"), public_id=public_id)
    form = BuildIndexForm(version, request.POST)
    if form.is_valid():
        try:
            builds.queue_build(model_version=version, config=form.config(), at=timezone.now(), by=user_of(request))
        except manifest_items.UnableToBuild as reason:
            form.add_error(None, str(reason))
        else:
            messages.success(request, "The build is queued. This page shows how far the workers are.")
            return redirect("attribution:model_version", public_id)
    return model_version_page(request, version, form=form, status=422)


@staff_required(*ACTORS)
@recently_authenticated
@require_POST
def queue_again(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Queue a build that nobody queued, or that failed too often: finished steps stay done."""

    def again(index: AttributionIndex) -> None:
        builds.queue_build(
            model_version=index.model_version, config=index.config, at=timezone.now(), by=user_of(request)
        )

    return _hand_over(
        request, public_id, again, "The build is queued again; finished steps of the same items are not repeated."
    )


@staff_required(*ACTORS)
@recently_authenticated
@require_POST
def refit(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    def refitted(index: AttributionIndex) -> None:
        revisions.refit_index(index=index, at=timezone.now(), by=user_of(request))

    said = "An index with a basis fitted again is queued. It takes over when it passes its audit."
    return _hand_over(request, public_id, refitted, said)


@staff_required(*ACTORS)
@recently_authenticated
@require_POST
def queue_audit(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    def audited(index: AttributionIndex) -> None:
        evaluations.queue_audit(index=index, at=timezone.now(), by=user_of(request))

    return _hand_over(request, public_id, audited, "The audit is queued. It retrains models, which takes its time.")


@staff_required(*DECIDERS)
@recently_authenticated
@require_POST
def propose_base_pool(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Propose that the base pool pays the generations that wait for the evaluation of an index."""

    def proposed(index: AttributionIndex) -> None:
        base_pool.propose_base_pool(
            index=index, reason=request.POST.get("reason", ""), by=user_of(request), at=timezone.now()
        )

    said = "Proposed. It takes effect when another person approves it."
    return _hand_over(request, public_id, proposed, said)


def _hand_over(
    request: HttpRequest, public_id: uuid.UUID, act: Callable[[AttributionIndex], None], said: str
) -> HttpResponse:
    index = get_object_or_404(AttributionIndex.objects.select_related("model_version"), public_id=public_id)
    try:
        act(index)
    except REFUSALS as reason:
        messages.error(request, str(reason))
    else:
        messages.success(request, said)
    return redirect("attribution:model_version", index.model_version.public_id)
