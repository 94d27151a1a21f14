"""Entries by hand in the console: proposed on one page, posted or rejected by somebody else on another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from ledger import journal
from ledger.console.books import kind_title, owners_in_words
from ledger.forms.manual import ManualEntryForm, ManualLines
from ledger.journal import AccountKey, UnableToPost
from ledger.models import ManualEntry
from ledger.operations import manual
from ledger.operations.manual import POSTERS, PROPOSERS
from people.console.guard import recently_authenticated, staff_required, user_of

READERS = ("finance_maker", "finance_checker", "auditor", "admin")
TONES = {"proposed": "info", "posted": "good", "rejected": "neutral"}
PAGE = 50


@dataclass(frozen=True, slots=True)
class ShownLine:
    title: str
    owner: str
    currency: str
    amount: int
    # On the account's normal side, in units: the balance now, and the balance after this line.
    now: int
    after: int

    @property
    def absolute(self) -> int:
        return abs(self.amount)


@staff_required(*READERS)
@require_GET
def manual_entries(request: HttpRequest) -> HttpResponse:
    rows = ManualEntry.objects.select_related("proposed_by", "decided_by").order_by("-id")
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    context = {"page_obj": page, "rows": [(row, TONES[row.state]) for row in page]}
    return render(request, "ledger/console/manual_entries.html", context)


@staff_required(*PROPOSERS)
@require_http_methods(["GET", "POST"])
@recently_authenticated
def manual_entry_new(request: HttpRequest) -> HttpResponse:
    form = ManualEntryForm(request.POST or None)
    lines = ManualLines(request.POST or None, prefix="line")
    if request.method == "POST" and form.is_valid() and lines.is_valid():
        read = _read(lines, form.cleaned_data["currency"])
        if read is not None:
            try:
                made = manual.propose_manual_entry(
                    lines=read,
                    reason=form.cleaned_data["reason"],
                    reference=form.cleaned_data["reference"],
                    by=user_of(request),
                    at=timezone.now(),
                )
            except (manual.UnableToProposeManualEntry, UnableToPost) as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, "Proposed. Nothing is posted until somebody else does it.")
                return redirect("ledger:manual_entry", made.pk)
    wrong = bool(form.errors or any(lines.errors))
    context = {"form": form, "lines": lines}
    return render(request, "ledger/console/manual_entry_new.html", context, status=422 if wrong else 200)


def _read(lines: Any, currency: str) -> list[tuple[AccountKey, int]] | None:
    """The lines that were filled in; None where one cannot be read, which its form then says."""
    read, wrong = [], False
    for line in lines:
        try:
            if (one := line.line(currency)) is not None:
                read.append(one)
        except forms.ValidationError as error:
            line.add_error(None, error)
            wrong = True
    return None if wrong else read


@staff_required(*READERS)
@require_GET
def manual_entry(request: HttpRequest, manual_id: int) -> HttpResponse:
    found = _found(manual_id)
    user = user_of(request)
    mine = user.pk == found.proposed_by_id
    context = {
        "manual": found,
        "tone": TONES[found.state],
        "lines": shown_lines([(AccountKey(*key), amount) for *key, amount in found.lines], found.state == "posted"),
        "may_post": user.has_role(*POSTERS) and not mine,
        "may_reject": user.has_role(*PROPOSERS),
        "is_proposer": mine,
    }
    return render(request, "ledger/console/manual_entry.html", context)


def shown_lines(keys: list[tuple[AccountKey, int]], is_posted: bool) -> list[ShownLine]:
    """Return proposed lines (credit positive) with the balance of each account before and after."""
    owners = owners_in_words(key.owner for key, _ in keys)
    balances = journal.balances([key for key, _ in keys])
    shown = []
    for key, amount in keys:
        sign = -1 if journal.CHART[key.kind].normal_side == "D" else 1
        now = sign * balances[key]
        after = now if is_posted else now + sign * amount
        shown.append(ShownLine(kind_title(key.kind), owners[key.owner], key.asset, amount, now, after))
    return shown


@staff_required(*PROPOSERS)
@require_POST
@recently_authenticated
def manual_entry_decide(request: HttpRequest, manual_id: int) -> HttpResponse:
    found = _found(manual_id)
    try:
        if request.POST.get("decision") == "post":
            posted = manual.post_manual_entry(manual=found, by=user_of(request), at=timezone.now())
            messages.success(request, f"Posted as entry {posted.entry_id}.")
        else:
            manual.reject_manual_entry(manual=found, by=user_of(request), at=timezone.now())
            messages.success(request, "Rejected. Nothing was posted, and the proposal stays on record.")
    except (manual.UnableToPostManualEntry, UnableToPost) as error:
        messages.error(request, str(error))
    return redirect("ledger:manual_entry", manual_id)


def _found(manual_id: int) -> ManualEntry:
    found = ManualEntry.objects.select_related("proposed_by", "decided_by").filter(pk=manual_id).first()
    if found is None:
        raise Http404("There is no such manual entry.")
    return found
