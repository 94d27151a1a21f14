"""The page of one act: its effect, its facts, the form, and a refusal beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from people.console.confirmation import Facts, SecondLook, asked_again, is_sent
from people.console.refusals import Refused, explained


@dataclass
class Act:
    """`button` names the effect of a press on it; `not_this_person` takes the form's place for a person that would be
    refused.
    """

    title: str
    lede: str
    button: str
    back: str
    back_name: str
    facts: list[tuple[str, Any]] = field(default_factory=list)
    is_danger: bool = False
    not_this_person: str = ""
    promised: Callable[[dict[str, Any]], Facts] | None = None
    """The amounts that the act moves or promises, as they were read: shown on a page that asks again."""


def act(
    request: HttpRequest, page: Act, form: forms.Form, do: Callable[[dict[str, Any]], str], *, to: str = ""
) -> HttpResponse:
    """Show the form, or carry it out: `do` gets the cleaned values and returns the sentence that tells the result."""
    refused: Refused | None = None
    status = 200
    if is_sent(request):
        status = 422
        if form.is_valid():
            look = SecondLook(f"{page.title}?", page.button, page.is_danger)
            facts = page.promised(form.cleaned_data) if page.promised else ()
            if facts and (asked := asked_again(request, look, facts)):
                return asked
            sentence = ""
            with explained(request, silent=True) as refused:
                sentence = do(form.cleaned_data)
            if not refused:
                messages.success(request, sentence)
                return redirect(to or page.back)
            status = refused.status
    return render(request, "people/console/act.html", {"act": page, "form": form, "refused": refused}, status=status)
