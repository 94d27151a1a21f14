"""A contributor's view of the models trained on their works: a card on other apps' pages, or a page alone."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from attribution.queries import model_versions
from contributors.models import Work
from contributors.portal.guard import ContributorRequest, contributor_required


@contributor_required
@require_GET
def trained_models(request: ContributorRequest) -> HttpResponse:
    models = model_versions.trained_models(contributor=request.contributor, at=timezone.now())
    return _shown(request, models, "Models already trained")


@contributor_required
@require_GET
def work_models(request: ContributorRequest, public_id: uuid.UUID) -> HttpResponse:
    work = get_object_or_404(Work, public_id=public_id, dataset__contributor=request.contributor)
    models = model_versions.trained_models(contributor=request.contributor, at=timezone.now(), work=work)
    return _shown(request, models, "Models that contain this work")


def _shown(request: HttpRequest, models: list[model_versions.TrainedModel], title: str) -> HttpResponse:
    name = "models_card" if getattr(request, "htmx", False) else "models"
    template = f"attribution/portal/{name}.html"
    context = {
        "models": models,
        "title": title,
        "withdrawn_works_leave": settings.WITHDRAWN_WORKS_LEAVE_INDEXES,
    }
    return render(request, template, context)
