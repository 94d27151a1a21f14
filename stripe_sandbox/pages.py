"""The hosted onboarding page. Stripe would ask the contributor for details; here they choose an outcome."""

from __future__ import annotations

import secrets
from functools import lru_cache
from pathlib import Path

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.views.decorators.http import require_GET, require_http_methods

from stripe_sandbox import accounts, configuration
from stripe_sandbox.account_pages import LINK_LIFE
from stripe_sandbox.background import in_pool
from stripe_sandbox.models import Account, AccountLink

CHOICES = [
    ("complete", "Complete", "Everything was given and checked: money can be sent and paid out."),
    ("needs_info", "Needs information", "An identity document is still asked for."),
    ("under_review", "Under review", "Everything was given; the check takes time."),
    ("reject", "Reject", "The account is turned down."),
    ("listed", "Listed", "The person matches a sanctions list."),
]
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Redirect(HttpResponseRedirect):
    """The addresses were given by the platform that owns the account; any scheme but http(s) was refused then."""

    allowed_schemes: list[str] = ["http", "https"]


@require_GET
def open_link(request: HttpRequest, token: str) -> HttpResponse:
    """Open a link once; after that, or too late, send the person back for a new one. Raises Http404 if unknown."""
    link = in_pool(_open, token)
    if link is None:
        raise Http404
    if not link.visit:
        return _Redirect(link.refresh_url, headers=HEADERS)
    shown = {"link": link, "choices": CHOICES}
    return HttpResponse(render_to_string("sandbox/onboarding.html", shown), headers=HEADERS)


def _open(token: str) -> AccountLink | None:
    """The link, with a visit where it opened just now and without one where it no longer opens."""
    with transaction.atomic():
        link = AccountLink.objects.select_for_update().filter(token=token).first()
        if link is None:
            return None
        at = configuration.now()
        if link.opened_at is not None or link.expires_at <= at:
            link.visit = ""
            return link
        link.opened_at, link.visit = at, secrets.token_urlsafe(24)
        link.save(update_fields=["opened_at", "visit"])
        return link


@require_http_methods(["POST"])
def choose(request: HttpRequest, visit: str) -> HttpResponse:
    outcome = request.POST.get("outcome", "")
    if outcome not in {word for word, _, _ in CHOICES}:
        raise Http404
    link = in_pool(_complete, visit, outcome)
    if link is None:
        raise Http404
    return _Redirect(link.return_url if link.completed_at else link.refresh_url, headers=HEADERS)


def _complete(visit: str, outcome: str) -> AccountLink | None:
    with transaction.atomic():
        link = AccountLink.objects.select_for_update().filter(visit=visit).first()
        if link is None:
            return None
        at = configuration.now()
        if link.completed_at is None and at < link.expires_at + LINK_LIFE:
            account = Account.objects.select_for_update(no_key=True).get(reference=link.account_id)
            accounts.apply(outcome, account=account, at=at)
            link.completed_at = at
            link.save(update_fields=["completed_at"])
        return link


@lru_cache(maxsize=1)
def _style() -> str:
    return (Path(__file__).parent / "sandbox.css").read_text()


@require_GET
def style(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_style(), content_type="text/css; charset=utf-8", headers={"Cache-Control": "max-age=300"})


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse(render_to_string("sandbox/home.html"), headers=HEADERS)
