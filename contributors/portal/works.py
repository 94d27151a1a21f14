"""A contributor's works: the list, one work, the upload, the datasets."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from contributors.formats import kind_of
from contributors.forms.works import LICENCES, DatasetForm, UploadForm
from contributors.models import DuplicatePair, Work
from contributors.operations import contents
from contributors.operations.works import (
    UnableToRegisterDataset,
    UnableToRegisterWorks,
    register_dataset,
    register_works,
    upload_turn,
)
from contributors.portal.guard import ContributorRequest, contributor_required
from contributors.queries import consents, splits
from contributors.queries import works as works_queries
from contributors.queries.contents import WORKS, DamagedContent
from people.console.guard import user_of
from people.presentation import pictures

PAGE = 50
EXCERPT_CHARACTERS = 1_200


@require_GET
@contributor_required
def works(request: ContributorRequest) -> HttpResponse:
    search = request.GET.get("q", "").strip()[:200]
    datasets = list(works_queries.datasets_of(request.contributor))
    chosen = next((dataset for dataset in datasets if str(dataset.public_id) == request.GET.get("dataset")), None)
    found = works_queries.works_of(request.contributor, search=search, dataset=chosen)
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    allowed = consents.consents_in_force(
        work_ids=[work.pk for work in page], scope="train_generative", at=timezone.now()
    )
    clusters = works_queries.copies_of(work.cluster_id for work in page)
    rows = [(work, work.pk in allowed, clusters.get(work.cluster_id or 0, 1) - 1) for work in page]
    context = {"page_obj": page, "rows": rows, "search": search, "datasets": datasets, "dataset": chosen}
    return render(request, "contributors/portal/works.html", context)


@require_GET
@contributor_required
def work(request: ContributorRequest, public_id: uuid.UUID) -> HttpResponse:
    found = _own_work(request, public_id)
    excerpt, damaged = "", ""
    try:
        data = works_queries.content(found)
    except DamagedContent as error:
        damaged = str(error)
    else:
        if found.modality == Work.Modality.TEXT:
            excerpt = data[: EXCERPT_CHARACTERS * 4].decode(errors="ignore")[:EXCERPT_CHARACTERS]
    at = timezone.now()
    context = {
        "work": found,
        "excerpt": excerpt,
        "damaged": damaged,
        "copies": [_copy(pair, found) for pair in works_queries.duplicates_of_work(found)[:50]],
        "consents": consents.work_consents(found, at),
        "splits": splits.named_split(found.holder, at),
    }
    return render(request, "contributors/portal/work.html", context)


@require_GET
@contributor_required
def content(request: ContributorRequest, public_id: uuid.UUID) -> HttpResponse:
    """The work as it was registered, to its own contributor only."""
    found = _own_work(request, public_id)
    try:
        data = works_queries.content(found)
    except DamagedContent as damage:
        raise Http404(str(damage)) from damage
    if found.modality == Work.Modality.TEXT:
        return pictures.answer(data, "text/plain; charset=utf-8")
    # The type by its content, and not by anybody's word.
    kind = kind_of(data)
    return pictures.answer(data, kind.media_type if kind else "application/octet-stream")


@require_GET
@contributor_required
def thumbnail(request: ContributorRequest, public_id: uuid.UUID) -> HttpResponse:
    """A small picture of the work, drawn anew, to its own contributor only."""
    found = _own_work(request, public_id)
    if found.modality != Work.Modality.IMAGE:
        raise Http404(f"“{found}” is {found.kind_words}, and has no thumbnail.")
    try:
        return pictures.answer(contents.thumbnail(WORKS, bytes(found.sha256)), "image/webp")
    except contents.UnableToDraw as reason:
        raise Http404(str(reason)) from reason


@contributor_required(change=True)
def upload(request: ContributorRequest) -> HttpResponse:
    if not request.contributor.datasets.exists():
        messages.info(request, "Works belong to a dataset. Open one first; you can upload in the next step.")
        return redirect("contributors:dataset_new")
    initial = {"dataset": request.GET.get("dataset")}
    form = UploadForm(request.contributor, request.POST or None, request.FILES or None, initial=initial)
    refused = []
    if request.method == "POST" and form.is_valid():
        try:
            at = timezone.now()
            with upload_turn(user=user_of(request), contributor=request.contributor, at=at):
                registered = register_works(dataset=form.cleaned_data["dataset"], works=form.works(), at=at)
        except UnableToRegisterWorks as error:
            refused = error.members["works"]
            form.add_error(None, str(error) if not refused else "Nothing was registered. Fix or remove these files.")
        else:
            copies = sum(1 for work in registered if work.cluster_id is not None)
            messages.success(
                request,
                f"{len(registered)} work{'s' if len(registered) != 1 else ''} registered."
                + (
                    f" {copies} of them resemble works that were there before; each says so on its page."
                    if copies
                    else ""
                ),
            )
            return redirect("contributors:works")
    context = {"form": form, "refused": refused}
    return render(request, "contributors/portal/upload.html", context, status=422 if form.errors else 200)


@require_GET
@contributor_required
def datasets(request: ContributorRequest) -> HttpResponse:
    return render(
        request, "contributors/portal/datasets.html", {"datasets": works_queries.datasets_of(request.contributor)}
    )


@contributor_required(change=True)
def dataset_new(request: ContributorRequest) -> HttpResponse:
    form = DatasetForm(request.POST or None)
    if form.is_valid():
        try:
            made = register_dataset(contributor=request.contributor, at=timezone.now(), **form.cleaned_data)
        except UnableToRegisterDataset as error:
            form.add_error("name", str(error))
        else:
            messages.success(request, f"The dataset “{made}” is open.")
            return redirect(f"{reverse('contributors:upload')}?dataset={made.public_id}")
    context = {"form": form, "licences": LICENCES}
    return render(request, "contributors/portal/dataset_new.html", context, status=422 if form.errors else 200)


def _own_work(request: ContributorRequest, public_id: uuid.UUID) -> Work:
    return get_object_or_404(works_queries.works_of(request.contributor), public_id=public_id)


def _copy(pair: DuplicatePair, of: Work) -> dict[str, object]:
    """The other work of a pair as its reader may know it: by name where it is the reader's own or in public."""
    other = pair.second if pair.first_id == of.pk else pair.first
    own = other.dataset.contributor_id == of.dataset.contributor_id
    known = own or other.dataset.contributor.public_profile
    return {
        "kind": pair.kind,
        "similarity_ppb": pair.similarity_ppb,
        "registered_at": other.created_at,
        "work": other if own else None,
        "title": other.title if known else "A work of another contributor",
        "contributor": other.dataset.contributor.display_name if known else "name hidden",
        "was_first": other.pk < of.pk,
    }
