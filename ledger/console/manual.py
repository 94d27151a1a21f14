"""Entries by hand in the console: all of them, and the form that proposes one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from ledger.forms.manual import ManualEntryForm, ManualLines, lines_in_words
from ledger.journal import AccountKey, UnableToPost
from ledger.models import ManualEntry
from ledger.operations import manual
from people.console.confirmation import SecondLook, asked_again, is_sent
from people.console.guard import recently_authenticated, staff_required, user_of
from people.queries.proposals import FINANCE, READERS

PAGE = 50


@staff_required(*READERS)
@require_GET
def manual_entries(request: HttpRequest) -> HttpResponse:
    rows = ManualEntry.objects.select_related("proposed_by", "decided_by").order_by("-id")
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    return render(request, "ledger/console/manual_entries.html", {"page_obj": page})


@staff_required(*FINANCE)
@require_http_methods(["GET", "POST"])
@recently_authenticated
def manual_entry_new(request: HttpRequest) -> HttpResponse:
    form = ManualEntryForm(request.POST or None)
    lines = ManualLines(request.POST or None, prefix="line")
    if is_sent(request) and form.is_valid() and lines.is_valid():
        read = _read(lines, form.cleaned_data["currency"])
        if read is not None:
            look = SecondLook("Propose this entry?", "Propose it")
            if asked := asked_again(request, look, lines_in_words(lines, form.cleaned_data["currency"])):
                return asked
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
                messages.success(request, "Proposed. Nothing is posted until somebody else approves it.")
                return redirect(manual.KIND.url(made))
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
