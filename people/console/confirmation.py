"""A second look at money: the page that shows the amounts as they were read, and asks again before an act.

A person types `1250,50`, and this page says how the product read it. It carries the typed form on, with a signature of
the shown facts. Where the facts of the act differ from the shown ones, the page asks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

SALT = "tributary.second-look"
SECONDS_MAX = 15 * 60
SHOWN, CHANGE = "shown_facts", "change_it"
Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class SecondLook:
    """The question on the page: its title, the button's effect, and the layout (console or portal)."""

    title: str
    button: str
    is_danger: bool = False
    base: str = "people/console/base.html"


def is_sent(request: HttpRequest) -> bool:
    """Tell whether the form was sent to be carried out, and not to be changed once more."""
    return request.method == "POST" and CHANGE not in request.POST


def asked_again(request: HttpRequest, look: SecondLook, facts: Facts) -> HttpResponse | None:
    """Return the page that shows `facts` and asks again; None where the person has seen exactly these just now."""
    shown = [request.path, request.user.pk, [list(fact) for fact in facts]]
    try:
        if signing.loads(request.POST.get(SHOWN, ""), salt=SALT, max_age=SECONDS_MAX) == shown:
            return None
    except signing.BadSignature:
        pass
    own = {SHOWN, CHANGE, "csrfmiddlewaretoken"}
    sent = [(name, value) for name, values in request.POST.lists() if name not in own for value in values]
    context: dict[str, Any] = {
        "look": look,
        "facts": facts,
        "sent": sent,
        "shown": signing.dumps(shown, salt=SALT),
        "names": {"shown": SHOWN, "change": CHANGE},
    }
    return render(request, "people/second_look.html", context)
