"""Split sheets: a contributor's sheets, its pending answers, a new proposal, a disputed share."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from contributors.forms.fields import begin
from contributors.forms.splits import ContestForm, SplitForm
from contributors.forms.works import SplitParts
from contributors.models import Contributor, Holder, Membership, SplitDispute, SplitProposal, Work
from contributors.operations.splits import (
    UnableToAnswerSplit,
    UnableToContestShare,
    UnableToProposeSplit,
    answer_split_sheet,
    contest_share,
    propose_split_sheet,
    withdraw_split_proposal,
)
from contributors.portal.guard import ContributorRequest, contributor_required
from contributors.queries import links
from contributors.queries.splits import named_split, shared_holders, split_of

PROPOSAL_TONES = {"open": "info", "agreed": "good", "refused": "bad", "withdrawn": "neutral"}
DISPUTE_TONES = {"open": "warn", "upheld": "info", "declined": "info", "withdrawn": "neutral"}


@dataclass(frozen=True, slots=True)
class Sheet:
    holder: Holder
    parts: list[tuple[str, int]]
    own: int


@require_GET
@contributor_required
def splits(request: ContributorRequest) -> HttpResponse:
    own, at = request.contributor, timezone.now()
    proposals = SplitProposal.objects.filter(parts__contributor=own).select_related("holder", "work", "proposed_for")
    disputes = SplitDispute.objects.filter(claimant=own) | SplitDispute.objects.filter(against=own)
    shown = [
        (proposal, PROPOSAL_TONES[proposal.state], list(proposal.parts.select_related("contributor").order_by("-ppb")))
        for proposal in proposals.distinct().order_by("-id")[:50]
    ]
    context = {
        "sheets": [_sheet(holder, own, at) for holder in shared_holders(own, at)],
        "waiting": [(p, parts) for p, _, parts in shown if p.state == "open" and _waits(parts, own)],
        "proposals": [row for row in shown if not (row[0].state == "open" and _waits(row[2], own))],
        "disputes": [
            (dispute, DISPUTE_TONES[dispute.state])
            for dispute in disputes.select_related("holder", "claimant", "against").order_by("-id")[:50]
        ],
        "counted_as_one": links.linked_with(own, at),
        "may_change": request.membership.role != Membership.Role.VIEWER,
    }
    return render(request, "contributors/portal/splits.html", context)


def _waits(parts: list[Any], own: Contributor) -> bool:
    return any(part.contributor_id == own.pk and part.answer == "waiting" for part in parts)


def _sheet(holder: Holder, own: Contributor, at: datetime) -> Sheet:
    sheet = dict(split_of([holder.pk], at)[holder.pk])
    return Sheet(holder, named_split(holder, at), sheet.get(own.pk, 0))


def _own_holder(request: ContributorRequest, public_id: uuid.UUID) -> Holder:
    holder = get_object_or_404(Holder, public_id=public_id)
    sheet = dict(split_of([holder.pk], timezone.now())[holder.pk])
    if request.contributor.pk not in sheet:
        raise Http404("You have no part in this.")
    return holder


@contributor_required(change=True)
def propose(request: ContributorRequest, public_id: uuid.UUID) -> HttpResponse:
    return _propose(request, holder=_own_holder(request, public_id), work=None)


@contributor_required(change=True)
def propose_for_work(request: ContributorRequest, public_id: uuid.UUID) -> HttpResponse:
    work = get_object_or_404(Work, public_id=public_id, dataset__contributor=request.contributor)
    return _propose(request, holder=None, work=work)


def _propose(request: ContributorRequest, *, holder: Holder | None, work: Work | None) -> HttpResponse:
    at = timezone.now()
    owner = holder or (work.holder if work else None)
    assert owner is not None
    names = [
        {"contributor": name, "share": f"{ppb / 10**7:.7f}".rstrip("0").rstrip(".")}
        for name, ppb in named_split(owner, at)
    ]
    form = SplitForm(request.POST or None)
    parts = SplitParts(request.POST or None, prefix="part", initial=names)
    if request.method == "POST" and form.is_valid() and parts.is_valid():
        try:
            made = propose_split_sheet(
                contributor=request.contributor,
                holder=holder,
                work=work,
                parts=_parts(parts),
                effective_from=begin(form.cleaned_data["effective_from"], at),
                by=request.user,
                at=at,
                note=form.cleaned_data["note"],
            )
        except (UnableToProposeSplit, forms.ValidationError) as error:
            form.add_error(None, error if isinstance(error, forms.ValidationError) else str(error))
        else:
            words = "The sheet is in force." if made.state == "agreed" else "Proposed. It waits for the others."
            messages.success(request, words)
            return redirect("contributors:splits")
    wrong = bool(form.errors or any(parts.errors))
    context = {"form": form, "parts": parts, "holder": owner, "work": work}
    return render(request, "contributors/portal/split_propose.html", context, status=422 if wrong else 200)


def _parts(parts: Any) -> dict[Contributor, int]:
    found: dict[Contributor, int] = {}
    for row in parts:
        contributor, ppb = row.cleaned_data.get("contributor"), row.cleaned_data.get("share")
        if contributor is None:
            continue
        if contributor in found:
            raise forms.ValidationError(f"{contributor} stands there twice.")
        found[contributor] = ppb
    return found


@require_POST
@contributor_required(change=True)
def answer(request: ContributorRequest, public_id: uuid.UUID) -> HttpResponse:
    proposal = get_object_or_404(SplitProposal, public_id=public_id, parts__contributor=request.contributor)
    said, at = request.POST.get("answer", ""), timezone.now()
    try:
        if said == "withdraw":
            withdraw_split_proposal(proposal=proposal, contributor=request.contributor, by=request.user, at=at)
            messages.success(request, "Taken back. The sheet in force stays.")
        elif said in {"agree", "refuse"}:
            made = answer_split_sheet(
                proposal=proposal, contributor=request.contributor, agrees=said == "agree", by=request.user, at=at
            )
            words = {
                "agreed": "All have agreed: the sheet takes effect.",
                "refused": "Refused. The sheet in force stays.",
                "open": "You have agreed. It waits for the others.",
            }
            messages.success(request, words[made.state])
    except UnableToAnswerSplit as error:
        messages.error(request, str(error))
    return redirect("contributors:splits")


@contributor_required(change=True)
def contest(request: ContributorRequest, public_id: uuid.UUID) -> HttpResponse:
    holder, at = _own_holder(request, public_id), timezone.now()
    sheet = dict(split_of([holder.pk], at)[holder.pk])
    others = Contributor.objects.filter(pk__in=sheet).exclude(pk=request.contributor.pk).order_by("display_name")
    form = ContestForm(others, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            contest_share(
                holder=holder,
                claimant=request.contributor,
                against=form.cleaned_data["against"],
                ppb=form.cleaned_data["share"],
                reason=form.cleaned_data["reason"],
                by=request.user,
                at=at,
            )
        except UnableToContestShare as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "The earnings of this share are held until the decision.")
            return redirect("contributors:splits")
    context = {"form": form, "holder": holder, "parts": named_split(holder, at)}
    return render(request, "contributors/portal/split_contest.html", context, status=422 if form.errors else 200)
