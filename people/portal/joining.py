"""The page of a one-time address: name, password and second factor of a new member of the staff, in one form."""

from __future__ import annotations

import base64
from typing import Any

from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.account.internal.flows.login import record_authentication
from allauth.mfa.adapter import get_adapter as get_mfa_adapter
from allauth.mfa.base.internal.flows import post_authentication
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import generate_totp_secret
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from people.forms.joining import JoinForm
from people.models import Invitation, User
from people.operations import invitations
from people.operations.users import UnableToRegisterUser
from people.queries.programme import programme

SECRET = "joining_totp_secret"
AFTER_LOGIN = "after_login_to"
"""The session's key for the page that follows the recovery codes of a new member of the staff."""
SETUP = "/console/setup/"
"""The page belongs to the app on top, which knows every part of an installation."""
PAGE = "people/portal/join.html"
REFUSALS = (invitations.UnableToJoin, UnableToRegisterUser)


@never_cache
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Show the form of a valid address, or carry it out. A GET changes nothing: readers of mails follow links."""
    at = timezone.now()
    try:
        invitation = invitations.open_invitation(token=token, purpose=Invitation.Purpose.STAFF, at=at)
    except invitations.UnableToJoin as refusal:
        return render(request, PAGE, {"refusal": str(refusal)}, status=refusal.status)
    context: dict[str, Any] = {"invitation": invitation, "programme": programme().shown_name, "token": token}
    if request.user.is_authenticated or User.objects.filter(email=invitation.email or "-").exists():
        return _with_account(request, token, context)
    return _new_account(request, token, context)


def _with_account(request: HttpRequest, token: str, context: dict[str, Any]) -> HttpResponse:
    """The person has an account: they log in to it, and accept the roles."""
    invitation = context["invitation"]
    user = request.user
    context["has_account"] = True
    context["is_other"] = user.is_authenticated and user.email != invitation.email
    if request.method == "POST" and user.is_authenticated:
        try:
            invitations.accept_roles(token=token, user=user, at=timezone.now())
        except REFUSALS as refusal:
            return render(request, PAGE, {**context, "refused": str(refusal)}, status=refusal.status)
        messages.success(request, "You have your new roles.")
        return redirect("contributors:after_login")
    return render(request, PAGE, context)


def _new_account(request: HttpRequest, token: str, context: dict[str, Any]) -> HttpResponse:
    invitation = context["invitation"]
    if request.method != "POST" or SECRET not in request.session:
        request.session.setdefault(SECRET, generate_totp_secret())
    secret = request.session[SECRET]
    form = JoinForm(
        request.POST or None, invited=invitation.email, totp_secret=secret, initial={"name": invitation.name}
    )
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            given = form.cleaned_data
            try:
                user = invitations.join_staff(
                    token=token,
                    email=given.get("email", ""),
                    name=given["name"],
                    password=given["password"],
                    totp_secret=secret,
                    at=timezone.now(),
                )
            except REFUSALS as refusal:
                form.add_error(None, str(refusal))
            else:
                return _log_in(request, user)
    adapter = get_mfa_adapter()
    url = adapter.build_totp_url(User(email=invitation.email or "administrator"), secret)
    picture = base64.b64encode(adapter.build_totp_svg(url).encode()).decode()
    context |= {"form": form, "secret": secret, "picture": f"data:image/svg+xml;base64,{picture}"}
    return render(request, PAGE, context, status=status)


def _log_in(request: HttpRequest, user: User) -> HttpResponse:
    """Log the new person in with both factors that they have just shown, and lead them to their recovery codes."""
    request.session.pop(SECRET, None)
    get_account_adapter(request).login(request, user)
    record_authentication(request, user, "password", email=user.email, reauthenticated=True)
    factor = Authenticator.objects.get(user=user, type=Authenticator.Type.TOTP)
    post_authentication(request, factor, reauthenticated=True)
    RecoveryCodes.activate(user)
    if user.has_role("admin"):
        request.session[AFTER_LOGIN] = SETUP
    messages.success(request, f"Welcome, {user}. Keep these codes: each lets you in once without your second factor.")
    return redirect(reverse("mfa_view_recovery_codes"))
