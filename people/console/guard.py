"""Access to the finance console, and the moments at which a person must prove their identity again.

Every console page of every app stands behind `staff_required`; every action on money also behind
`recently_authenticated`. Both trust the log that allauth keeps in the session of which factor was used when.

Only a factor that somebody else confirmed counts for staff (people/queries/factors.py). Recovery codes log a person in;
they never make a session fresh for money.
"""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from allauth.account.authentication import get_authentication_records
from allauth.account.internal.flows.reauthentication import did_recently_reauthenticate
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme

from people.models import User
from people.queries import factors

View = Callable[..., HttpResponseBase]
TEAMS = {
    "finance_maker": "the finance team",
    "finance_checker": "the finance team",
    "compliance": "compliance",
    "auditor": "auditors",
    "admin": "administrators",
    "model_team": "the model team",
}
_LAST_SEEN = "console_seen_at"
# A session is stored again at most so often, for the sake of the idle limit.
_NOTED_SECONDS = 60.0


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
            used_at = second_factor_used_at(request)
            if not used_at and (waiting := _waits(request, used_at=second_factor_used_at(request, counting=False))):
                raise PermissionDenied(waiting)
            if not used_at or _has_lapsed(request, used_at):
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
            used_at = second_factor_used_at(request, for_money=True, counting=False)
            if _is_recent(used_at) and (waiting := _waits(request, used_at=used_at)):
                raise PermissionDenied(waiting)
            return _to_confirmation(request)
        return view(request, *args, **kwargs)

    return guarded


def is_recently_authenticated(request: HttpRequest) -> bool:
    if not request.user.is_authenticated:
        return False
    if _enrolled(request):
        proven_at = second_factor_used_at(request, for_money=True)
    else:
        proven_at = max((record["at"] for record in get_authentication_records(request, request.user)), default=0.0)
    return _is_recent(proven_at)


def _is_recent(proven_at: float) -> bool:
    seconds: float = settings.ACCOUNT_REAUTHENTICATION_TIMEOUT
    return time.time() - proven_at <= seconds


def _enrolled(request: HttpRequest) -> list[str]:
    """The kinds of second factor that the person has set up. Recovery codes replace one; they are none."""
    return list(factors.factors(user_of(request)).values_list("type", flat=True).distinct().order_by("type"))


def second_factor_used_at(request: HttpRequest, *, for_money: bool = False, counting: bool = True) -> float:
    """When this session last used a factor that still exists; 0.0 where it never did.

    `for_money`: a factor that moves money. `counting=False`: also a factor of staff that nobody has confirmed, and one
    that has not settled.
    """
    user = user_of(request)
    used = {
        record["id"]: float(record["at"])
        for record in get_authentication_records(request, user)
        if record.get("method") == "mfa" and "id" in record
    }
    if not used:
        return 0.0
    if counting:
        present = factors.trusted(user, settled_at=timezone.now() if for_money else None)
    else:
        rows = factors.factors(user) if for_money else Authenticator.objects.filter(user=user)
        present = set(rows.values_list("pk", flat=True))
    return max((at for pk, at in used.items() if pk in present), default=0.0)


def _waits(request: HttpRequest, *, used_at: float) -> str:
    """Say why a used factor of a member of staff does not count yet; "" where that is not the reason."""
    return factors.waits_for(user_of(request), at=timezone.now()) if used_at else ""


def _has_lapsed(request: HttpRequest, used_at: float) -> bool:
    """Whether a session of staff was idle for STAFF_IDLE_MINUTES, or used its factor STAFF_SESSION_HOURS ago."""
    now = time.time()
    last = max(used_at, float(request.session.get(_LAST_SEEN, 0.0)))
    if now - last > settings.STAFF_IDLE_MINUTES * 60 or now - used_at > settings.STAFF_SESSION_HOURS * 3600:
        return True
    if now - last > _NOTED_SECONDS:
        request.session[_LAST_SEEN] = now
    return False


_LOGIN_SECURITY = ("/accounts/2fa/", "/accounts/password/change/", "/accounts/password/set/", "/accounts/email/")
# They ask for the factor, or finish a log-in with it.
_ASK_THEMSELVES = (
    "/accounts/2fa/authenticate/",
    "/accounts/2fa/reauthenticate/",
    "/accounts/2fa/webauthn/reauthenticate/",
)


class AskForFactor:
    """Asks a person with a second factor to use it before any page about their log-in opens.

    allauth asks before most of its acts, and not before a new password.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if (
            request.path.startswith(_LOGIN_SECURITY)
            and not request.path.startswith(_ASK_THEMSELVES)
            and request.user.is_authenticated
            and _enrolled(request)
            and not did_recently_reauthenticate(request)
            and not _is_recent(second_factor_used_at(request, counting=False))
        ):
            return _to_confirmation(request)
        return self.get_response(request)


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
