"""The mode in which one person tries the programme out: beginning, ending, and the mark on every page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from people.actor import ADMIN
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, staff_required, user_of
from people.console.presence import presence_of
from people.operations import trial as operations
from people.queries.programme import on_trial

SETUP = "/console/setup/"


@require_http_methods(["GET", "POST"])
@staff_required(ADMIN)
@recently_authenticated
def trial(request: HttpRequest) -> HttpResponse:
    """Turn the mode on, or off where it is on."""
    user, is_on = user_of(request), on_trial()
    if is_on:
        page = Act(
            "End the trial",
            "From then on two people decide: the proposer of an act never approves it. Acts of the trial stay marked. "
            "The mode begins again only while the books are empty.",
            "End the trial",
            SETUP,
            "Set up",
        )
    else:
        page = Act(
            "Try it out alone",
            "One person may then do both halves of every two-person act, and gets all roles for it. Every page says "
            "so, and the audit log marks each such act. It is refused once the books hold an entry, and with a live "
            "Stripe key; while it is on, no live key is used.",
            "Try it out alone",
            SETUP,
            "Set up",
        )

    def do(given: dict[str, Any]) -> str:
        at, seen = timezone.now(), presence_of(request)
        if is_on:
            operations.end_trial(by=user, at=at, seen=seen)
            return "The trial has ended. Two people decide from now on."
        operations.begin_trial(person=user, by=user, at=at, seen=seen)
        return "You try it out alone. Every page says so."

    return act(request, page, forms.Form(request.POST if request.method == "POST" else None), do)


def mark(request: HttpRequest) -> dict[str, Callable[[], bool]]:
    """Give templates `on_trial`; it is asked where a template needs it, as the frame of every page does."""
    return {"on_trial": on_trial}
