"""The page People: members of a contributor, their roles, invitations; and the page of a one-time address."""

from __future__ import annotations

import uuid
from typing import Any

from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.account.internal.flows.login import record_authentication
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from contributors.forms.members import InviteMemberForm, MemberRoleForm
from contributors.models import MemberInvitation, Membership
from contributors.operations import members
from contributors.portal.guard import CHOSEN, ContributorRequest, contributor_required
from people.console.guard import recently_authenticated
from people.console.refusals import explained
from people.forms.joining import PasswordForm
from people.models import Invitation, User
from people.operations import invitations
from people.operations.users import UnableToRegisterUser
from people.queries.programme import programme

CLAIM = "contributors/portal/claim.html"
REFUSALS = (invitations.UnableToJoin, UnableToRegisterUser, members.UnableToChangeMembers)


@require_http_methods(["GET", "POST"])
@contributor_required
def people(request: ContributorRequest) -> HttpResponseBase:
    """List the members and the open invitations; an owner invites another person."""
    form = InviteMemberForm(request.POST or None)
    if request.method == "POST":
        return invite(request)
    return _page(request, form)


@contributor_required
@recently_authenticated
def invite(request: ContributorRequest) -> HttpResponse:
    form = InviteMemberForm(request.POST)
    if form.is_valid():
        try:
            made = members.invite_member(
                contributor=request.contributor, by=request.user, at=timezone.now(), **form.cleaned_data
            )
        except (members.UnableToChangeMembers, invitations.UnableToInvite) as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, f"{made.invitation.email} is invited. The mail goes out within half a minute.")
            return redirect("contributors:people")
    return _page(request, form, status=422)


def _page(request: ContributorRequest, form: InviteMemberForm, *, status: int = 200) -> HttpResponse:
    rows = request.contributor.memberships.select_related("user").order_by("pk")
    open_ones = MemberInvitation.objects.filter(
        contributor=request.contributor, invitation__used_at=None, invitation__revoked_at=None
    )
    context = {
        "members": [(row, MemberRoleForm(initial={"role": row.role}, prefix=f"m{row.pk}")) for row in rows],
        "invitations": open_ones.select_related("invitation").order_by("pk"),
        "form": form,
        "details_change": request.contributor.details_changes.filter(state="proposed").first(),
        "is_owner": request.membership.role == Membership.Role.OWNER,
        "now": timezone.now(),
    }
    return render(request, "contributors/portal/people.html", context, status=status)


@require_POST
@contributor_required
@recently_authenticated
def change(request: ContributorRequest, membership_id: int) -> HttpResponse:
    row = get_object_or_404(request.contributor.memberships.select_related("user"), pk=membership_id)
    form = MemberRoleForm(request.POST, prefix=f"m{row.pk}")
    if not form.is_valid():
        messages.error(request, "Choose one of the three roles.")
        return redirect("contributors:people")
    with explained(request) as refused:
        members.change_member(
            contributor=request.contributor,
            user=row.user,
            role=form.cleaned_data["role"],
            by=request.user,
            at=timezone.now(),
        )
    if not refused:
        messages.success(request, f"{row.user} is {form.cleaned_data['role']} now.")
    return redirect("contributors:people")


@require_POST
@contributor_required
@recently_authenticated
def end(request: ContributorRequest, membership_id: int) -> HttpResponse:
    row = get_object_or_404(request.contributor.memberships.select_related("user"), pk=membership_id)
    with explained(request) as refused:
        members.end_membership(contributor=request.contributor, user=row.user, by=request.user, at=timezone.now())
    if not refused:
        messages.success(request, f"{row.user} acts for {request.contributor} no more.")
    is_own = row.user_id == request.user.pk and not refused
    return redirect("contributors:after_login" if is_own else "contributors:people")


@require_POST
@contributor_required
@recently_authenticated
def revoke(request: ContributorRequest, public_id: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(MemberInvitation, contributor=request.contributor, invitation__public_id=public_id)
    with explained(request) as refused:
        members.revoke_member_invitation(member_invitation=found, by=request.user, at=timezone.now())
    if not refused:
        messages.success(request, f"The invitation of {found.invitation.email} is revoked.")
    return redirect("contributors:people")


# --- the one-time address -----------------------------------------------------------------------------------------
@never_cache
@require_http_methods(["GET", "POST"])
def claim(request: HttpRequest, token: str) -> HttpResponse:
    """Show the form of a valid address, or carry it out. A GET changes nothing: readers of mails follow links."""
    try:
        invitation = invitations.open_invitation(token=token, purpose=Invitation.Purpose.MEMBER, at=timezone.now())
    except invitations.UnableToJoin as refusal:
        return render(request, CLAIM, {"refusal": str(refusal)}, status=refusal.status)
    wanted = MemberInvitation.objects.select_related("contributor").get(invitation=invitation)
    context: dict[str, Any] = {
        "wanted": wanted,
        "invitation": invitation,
        "programme": programme().shown_name,
        "is_first": not wanted.contributor.memberships.exists(),
    }
    if request.user.is_authenticated or User.objects.filter(email=invitation.email).exists():
        return _with_account(request, token, context)
    form = PasswordForm(request.POST or None, invited=invitation.email, initial={"name": ""})
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            user, contributor = members.claim_with_new_account(
                token=token, name=given["name"], password=given["password"], at=timezone.now()
            )
        except REFUSALS as refusal:
            form.add_error(None, str(refusal))
        else:
            get_account_adapter(request).login(request, user)
            record_authentication(request, user, "password", email=user.email)
            return _welcome(request, str(contributor.public_id), str(contributor))
    return render(request, CLAIM, {**context, "form": form}, status=422 if form.errors else 200)


def _with_account(request: HttpRequest, token: str, context: dict[str, Any]) -> HttpResponse:
    user = request.user
    context["has_account"] = True
    context["is_other"] = user.is_authenticated and user.email != context["invitation"].email
    if request.method == "POST" and user.is_authenticated:
        try:
            contributor = members.claim(token=token, user=user, at=timezone.now())
        except REFUSALS as refusal:
            return render(request, CLAIM, {**context, "refused": str(refusal)}, status=refusal.status)
        return _welcome(request, str(contributor.public_id), str(contributor))
    return render(request, CLAIM, context)


def _welcome(request: HttpRequest, public_id: str, name: str) -> HttpResponse:
    request.session[CHOSEN] = public_id
    messages.success(request, f"You act for {name} now.")
    return redirect("contributors:works")
