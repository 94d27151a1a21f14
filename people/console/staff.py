"""The pages of staff: roles and second factors of each person, invitations, and changing roles."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from people.actor import ADMIN, CHECKER, COMPLIANCE, MAKER
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, staff_required, user_of
from people.console.presence import presence_of
from people.console.refusals import explained
from people.forms.roles import RolesForm
from people.forms.staff import ConfirmForm, InviteForm, RecognisedForm
from people.models import STAFF_ROLES, Invitation, User
from people.operations import factors as factor_operations
from people.operations import invitations, resets
from people.operations import staff as staff_operations
from people.presentation import dates
from people.queries import factors
from people.queries.programme import administrators
from people.queries.rights import table_of_rights


@require_GET
@staff_required(*STAFF_ROLES)
def staff(request: HttpRequest) -> HttpResponse:
    people = User.objects.filter(groups__name__in=STAFF_ROLES).distinct().prefetch_related("groups").order_by("email")
    enrolled, new = factors.enrolled(people)
    return render(
        request,
        "people/console/staff.html",
        {
            "people": [
                (person, sorted(person.role_names), person.pk in enrolled, person.pk in new) for person in people
            ],
            "invitations": Invitation.objects.filter(invitations.OPEN, purpose=Invitation.Purpose.STAFF)
            .exclude(email="")
            .select_related("invited_by")
            .order_by("-pk"),
            "now": timezone.now(),
            "rights": table_of_rights(),
            "roles": STAFF_ROLES,
            "may_reset": user_of(request).has_role(*staff_operations.DECIDERS),
            "may_change": user_of(request).has_role(ADMIN),
        },
    )


@require_http_methods(["GET", "POST"])
@staff_required(MAKER, CHECKER, COMPLIANCE, ADMIN)
@recently_authenticated
def change_roles(request: HttpRequest, user_id: int) -> HttpResponse:
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise Http404
    refusal = "" if user_of(request).has_role(*staff_operations.DECIDERS) else "Changing roles takes an administrator."
    if user.pk == user_of(request).pk:
        refusal = "Nobody changes their own roles; another administrator does."
    page = Act(
        f"Roles of {user}",
        "A role that was just given moves no money before the cool-down has passed. Without a role "
        "the console is closed to this person. Once there are two administrators, another person approves a given role "
        "and the end of an administrator.",
        "Change the roles",
        reverse("people:staff"),
        "Staff",
        facts=[("E-mail", user.email), ("Roles now", ", ".join(sorted(user.role_names)) or "none")],
        not_this_person=refusal,
    )
    now = sorted(user.role_names)
    form = RolesForm(request.POST or None, roles=STAFF_ROLES, initial={"roles": now, "known": now})

    def do(given: dict[str, Any]) -> str:
        acting: dict[str, Any] = {"by": user_of(request), "at": timezone.now(), "seen": presence_of(request)}
        if not user_of(request).has_role(ADMIN) or staff_operations.takes_two(now, given["roles"]):
            staff_operations.propose_roles(user=user, **given, **acting)
            return "Proposed. Another person approves or rejects it."
        staff_operations.change_roles(user=user, **given, **acting)
        return f"The roles of {user} are changed."

    return act(request, page, form, do)


@require_http_methods(["GET", "POST"])
@staff_required(ADMIN)
@recently_authenticated
def confirm_factors(request: HttpRequest, user_id: int) -> HttpResponse:
    """Confirm the new second factors of a person, after asking them by another way than mail."""
    user = get_object_or_404(User, pk=user_id)
    new = factors.unconfirmed(user)
    page = Act(
        f"New second factor of {user}",
        "A password alone can set up a factor. Ask this person, by voice or face to face, whether they did. A "
        "confirmed factor opens the console, and moves money after the cool-down.",
        "Confirm",
        reverse("people:staff"),
        "Staff",
        facts=[
            ("E-mail", user.email),
            *((factor.get_type_display(), f"set up on {dates.moment(factor.created_at)}") for factor in new),
        ],
        not_this_person="Nobody confirms their own second factor." if user.pk == user_of(request).pk else "",
    )

    def do(given: dict[str, Any]) -> str:
        factor_operations.confirm_factors(user=user, by=user_of(request), at=timezone.now(), seen=presence_of(request))
        return f"The second factor of {user} is confirmed."

    return act(request, page, ConfirmForm(request.POST or None), do)


@require_http_methods(["GET", "POST"])
@staff_required(ADMIN)
@recently_authenticated
def invite(request: HttpRequest) -> HttpResponse:
    """Invite a person to the staff by mail."""
    page = Act(
        "Invite to the staff",
        "The person gets a mail with an address that works once, for seven days. They set a password and a second "
        "factor on its page. A new role moves no money before the cool-down has passed, unless the books are empty.",
        "Invite",
        reverse("people:staff"),
        "Staff",
    )

    def do(given: dict[str, Any]) -> str:
        acting: dict[str, Any] = {"by": user_of(request), "at": timezone.now(), "seen": presence_of(request)}
        if administrators() >= 2:
            staff_operations.propose_invitation(**given, reason="", **acting)
            return "Proposed. The mail goes out when another person has approved."
        made = invitations.invite_staff(
            email=given["email"],
            name=given["name"],
            roles=given["roles"],
            by=user_of(request),
            at=timezone.now(),
            seen=presence_of(request),
        )
        return f"{made.email} is invited. The mail goes out within half a minute."

    return act(request, page, InviteForm(request.POST or None), do)


@require_POST
@staff_required(ADMIN)
@recently_authenticated
def resend(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Mail an invitation again, with a new address."""
    found = get_object_or_404(Invitation, public_id=public_id)
    with explained(request) as refused:
        invitations.resend_invitation(
            invitation=found, by=user_of(request), at=timezone.now(), seen=presence_of(request)
        )
    if not refused:
        messages.success(request, f"A new mail to {found.email} goes out within half a minute.")
    return redirect("people:staff")


@require_POST
@staff_required(ADMIN)
@recently_authenticated
def revoke(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """End an invitation."""
    found = get_object_or_404(Invitation, public_id=public_id)
    with explained(request) as refused:
        invitations.revoke_invitation(
            invitation=found, by=user_of(request), at=timezone.now(), seen=presence_of(request)
        )
    if not refused:
        messages.success(request, f"The invitation of {found.email} is revoked.")
    return redirect("people:staff")


@require_http_methods(["GET", "POST"])
@staff_required(COMPLIANCE, ADMIN)
@recently_authenticated
def reset_factors(request: HttpRequest, user_id: int) -> HttpResponse:
    """Propose that the second factors of a person go, because they are lost."""
    user = get_object_or_404(User, pk=user_id, stands_for=None)
    page = Act(
        f"Lost second factor of {user}",
        "For a person that lost phone and recovery codes. Recognise them first, for example in a video call. Another "
        "person approves it. Then every factor and recovery code of theirs goes, and they set up a new one.",
        "Propose the reset",
        reverse("people:staff"),
        "Staff",
        facts=[("E-mail", user.email), ("Roles", ", ".join(sorted(user.role_names)) or "No staff role")],
        is_danger=True,
    )

    def do(given: dict[str, Any]) -> str:
        resets.propose_reset(
            user=user, reason=given["reason"], by=user_of(request), at=timezone.now(), seen=presence_of(request)
        )
        return "Proposed. The person was mailed, and another person approves or rejects it."

    return act(request, page, RecognisedForm(request.POST or None), do)
