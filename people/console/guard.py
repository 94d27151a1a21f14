"""Access to the finance console, and the moments at which a person must prove their identity again.

Every console page of every app stands behind `staff_required`; every action on money also behind
`recently_authenticated`. Both trust the log that allauth keeps in the session of which factor was used when.
"""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from allauth.account.authentication import get_authentication_records
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from people.models import User

View = Callable[..., HttpResponseBase]
TEAMS = {
    "finance_maker": "the finance team",
    "finance_checker": "the finance team",
    "compliance": "compliance",
    "auditor": "auditors",
    "admin": "administrators",
    "model_team": "the model team",
}
SECOND_FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


def staff_required(*roles: str) -> Callable[[View], View]:
    """Let in a logged-in member of one of the groups `roles` that used a second factor in this session."""
    assert roles, "a console page names the roles that may see it"

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            user = request.user
            if not user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if not user.has_role(*roles):
                raise PermissionDenied(teams_only(roles))
            if not _enrolled(request):
                messages.warning(request, "Staff log in with a second factor. Set one up to go on.")
                return HttpResponseRedirect(reverse("mfa_activate_totp"))
            if not second_factor_used_at(request):
                return _to_confirmation(request)
            return view(request, *args, **kwargs)

        guarded.staff_roles = roles  # type: ignore[attr-defined]
        return guarded

    return decorate


def teams_only(roles: tuple[str, ...]) -> str:
    """Name the teams that may see a page, in words."""
    teams = list(dict.fromkeys(TEAMS[role] for role in roles))
    named = teams[0] if len(teams) == 1 else f"{', '.join(teams[:-1])} and {teams[-1]}"
    return f"This page is for {named}. Ask an administrator if you need it."


def user_of(request: HttpRequest) -> User:
    """The logged-in person, on a page that lets in nobody else."""
    return cast(User, request.user)


def recently_authenticated(view: View) -> View:
    """Let in a person that proved their identity within ACCOUNT_REAUTHENTICATION_TIMEOUT seconds, by the second factor
    if enrolled.

    A refused POST has done nothing; the person confirms, comes back to the page of the form and sends it again.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if not is_recently_authenticated(request):
            return _to_confirmation(request)
        return view(request, *args, **kwargs)

    return guarded


def is_recently_authenticated(request: HttpRequest) -> bool:
    if not request.user.is_authenticated:
        return False
    if _enrolled(request):
        proven_at = second_factor_used_at(request)
    else:
        proven_at = max((record["at"] for record in get_authentication_records(request, request.user)), default=0.0)
    seconds: float = settings.ACCOUNT_REAUTHENTICATION_TIMEOUT
    return time.time() - proven_at <= seconds


def _enrolled(request: HttpRequest) -> list[str]:
    """The kinds of second factor that the person has set up. Recovery codes replace one; they are none."""
    assert request.user.is_authenticated
    kinds = Authenticator.objects.filter(user=request.user, type__in=SECOND_FACTORS)
    return list(kinds.values_list("type", flat=True).distinct())


def second_factor_used_at(request: HttpRequest) -> float:
    """When this session last used a factor that still exists; 0.0 where it never did."""
    assert request.user.is_authenticated
    used = {
        record["id"]: float(record["at"])
        for record in get_authentication_records(request, request.user)
        if record.get("method") == "mfa" and "id" in record
    }
    present = Authenticator.objects.filter(user=request.user, pk__in=used).values_list("pk", flat=True)
    return max((used[pk] for pk in present), default=0.0)


def _to_confirmation(request: HttpRequest) -> HttpResponseRedirect:
    kinds = _enrolled(request)
    name = "account_reauthenticate"
    if Authenticator.Type.TOTP in kinds:
        name = "mfa_reauthenticate"
    elif kinds:
        name = "mfa_reauthenticate_webauthn"
    if request.method in {"GET", "HEAD"}:
        back = request.get_full_path()
    else:
        messages.info(request, "Nothing has been done yet. Confirm that it is you, then send the form again.")
        referrer = request.headers.get("Referer", "")
        known = url_has_allowed_host_and_scheme(referrer, {request.get_host()}, require_https=request.is_secure())
        parts = urllib.parse.urlsplit(referrer if known else "")
        back = urllib.parse.urlunsplit(("", "", parts.path or "/after-login/", parts.query, ""))
    return HttpResponseRedirect(f"{reverse(name)}?{urllib.parse.urlencode({'next': back})}")
