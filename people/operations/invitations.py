"""Invitations of staff: made, mailed, accepted once, revoked.

The address in a mail holds a random token; the database keeps its digest. A new address replaces the one before it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from hashlib import sha256

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction
from django.db.models import Q

from people.actor import ADMIN, NOBODY, Presence, audit, require_fresh_factor, require_role, require_settled_role
from people.models import STAFF_ROLES, Invitation, User
from people.operations.factors import vouch_for_factors
from people.operations.users import enrol_totp, register_user
from people.presentation import names
from people.queries.programme import administrators, has_administrator, nothing_is_at_stake, programme

VALID = timedelta(days=7)
INSTALLING_VALID = timedelta(hours=24)
PATHS = {Invitation.Purpose.STAFF: "/join/{}/", Invitation.Purpose.MEMBER: "/claim/{}/"}
"""The page of each purpose. The page of members belongs to an app above; this floor knows only its address."""
OPEN = Q(used_at__isnull=True, revoked_at__isnull=True)


class UnableToInvite(Exception):
    """The address is none, the role is unknown, or the person is invited or in that role already."""

    status = 422
    problem = "invitation-refused"


class UnableToJoin(Exception):
    """The one-time address is unknown, used, revoked or expired, or belongs to another person."""

    status = 410
    problem = "invitation-not-valid"


# --- addresses ----------------------------------------------------------------------------------------------------
def digest_of(token: str) -> bytes:
    """The stored form of a token: its sha256, 32 bytes."""
    return sha256(token.encode()).digest()


def new_address(invitation: Invitation, *, at: datetime, valid: timedelta = VALID) -> str:
    """Make a new one-time path for an open invitation. The path before it stops working."""
    token = secrets.token_urlsafe(32)
    invitation.digest, invitation.expires_at = digest_of(token), at + valid
    invitation.save(update_fields=["digest", "expires_at"])
    return PATHS[Invitation.Purpose(invitation.purpose)].format(token)


def open_invitation(*, token: str, purpose: str, at: datetime, lock: bool = False) -> Invitation:
    """Find the open invitation of a token. Raises UnableToJoin with the reason and the next step."""
    rows = Invitation.objects.select_for_update(no_key=True, of=("self",)) if lock else Invitation.objects
    found = rows.filter(digest=digest_of(token), purpose=purpose).first()
    if found is None:
        raise UnableToJoin("This address is unknown or was replaced by a newer one. Ask for a new invitation.")
    if found.used_at is not None:
        raise UnableToJoin("This address was used already. Log in with the account that it made.")
    if found.revoked_at is not None:
        raise UnableToJoin("This invitation was revoked. Ask the sender for a new one.")
    if found.expires_at <= at:
        raise UnableToJoin("This address has expired. Ask the sender for a new one.")
    if not found.email and has_administrator():
        raise UnableToJoin(
            "There is an administrator already; this address made only the first. Ask for an invitation."
        )
    return found


def checked_email(email: str) -> str:
    """The address in lower case. Raises UnableToInvite for a text that is none."""
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError as error:
        raise UnableToInvite(f"“{email}” is not an e-mail address.") from error
    return email


# --- making -------------------------------------------------------------------------------------------------------
@transaction.atomic
def invite_first_administrator(*, at: datetime) -> str:
    """Make the one-time path that the start of an empty installation prints. It replaces the one printed before.

    Raises UnableToInvite where there is an administrator.
    """
    if has_administrator():
        raise UnableToInvite("There is an administrator already; they invite others on the page Staff.")
    Invitation.objects.filter(OPEN, email="").update(revoked_at=at)
    made = Invitation.objects.create(
        purpose=Invitation.Purpose.STAFF, roles=[ADMIN], created_at=at, expires_at=at + INSTALLING_VALID
    )
    return new_address(made, at=at, valid=INSTALLING_VALID)


@transaction.atomic
def invite_staff(
    *,
    email: str,
    roles: Collection[str],
    at: datetime,
    name: str = "",
    by: User | None = None,
    is_mailed: bool = True,
    seen: Presence = NOBODY,
) -> Invitation:
    """Invite a person to the staff, in these roles. Without `by` the operator of the machine invites.

    The worker mails it (`send_due_invitations`) where `is_mailed`; else `new_address` gives the path to print.
    Raises UnableToInvite.
    """
    if by is not None:
        require_role(by, ADMIN)
        require_fresh_factor(seen)
        require_settled_role(by, at)
        if administrators() >= 2:
            raise UnableToInvite("There are two administrators, so that one alone invites nobody. Propose it.")
    return write_staff_invitation(email=email, roles=roles, at=at, name=name, by=by, is_mailed=is_mailed, seen=seen)


def checked_invitation(*, email: str, roles: Collection[str], name: str, at: datetime) -> str:
    """Return the address of a possible invitation as it is stored. Raises UnableToInvite."""
    email = checked_email(email)
    if unknown := sorted(set(roles) - set(STAFF_ROLES)):
        raise UnableToInvite(f"There is no role {', '.join(unknown)}; there are {', '.join(STAFF_ROLES)}.")
    if not roles:
        raise UnableToInvite(f"Give at least one role: {', '.join(STAFF_ROLES)}.")
    if refusal := names.why_not(name.strip()):
        raise UnableToInvite(refusal)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('people roles'))")
    known = User.objects.filter(email=email).first()
    if known is not None and set(roles) <= known.role_names:
        raise UnableToInvite(f"{email} has these roles already.")
    waiting = Invitation.objects.filter(OPEN, purpose=Invitation.Purpose.STAFF, email=email)
    if waiting.filter(expires_at__gt=at).exists():
        raise UnableToInvite(f"{email} is invited already. Send that invitation again, or revoke it first.")
    return email


def write_staff_invitation(
    *,
    email: str,
    roles: Collection[str],
    at: datetime,
    name: str = "",
    by: User | None = None,
    is_mailed: bool = True,
    seen: Presence = NOBODY,
) -> Invitation:
    """Store an invitation that was decided upon, in the caller's transaction. Raises UnableToInvite."""
    email = checked_invitation(email=email, roles=roles, name=name, at=at)
    Invitation.objects.filter(OPEN, purpose=Invitation.Purpose.STAFF, email=email).update(revoked_at=at)
    shown = programme().shown_name
    words = ", ".join(role.replace("_", " ") for role in sorted(roles))
    made = Invitation.objects.create(
        purpose=Invitation.Purpose.STAFF,
        email=email,
        name=name.strip()[:200],
        roles=sorted(roles),
        invited_by=by,
        created_at=at,
        expires_at=at + VALID,
        # The worker mails no invitation with an address that was made already.
        sent_at=None if is_mailed else at,
        subject=f"{shown} invites you to its staff",
        words=f"{by or 'The operator'} invites you to the staff of {shown}, as: {words}.\n"
        "You set a password and an authenticator app on the first page.",
    )
    audit(
        by=by,
        action="invite_staff",
        subject=f"invitation:{made.public_id}",
        at=at,
        seen=seen,
        after={"email": email, "roles": sorted(roles)},
    )
    return made


def forget_printed(*, email: str, at: datetime) -> None:
    """Revoke the operator's own open invitation of an address, so that a printed address can be printed again."""
    Invitation.objects.filter(OPEN, email=email.strip().lower(), purpose="staff", invited_by=None).update(revoked_at=at)


@transaction.atomic
def revoke_invitation(*, invitation: Invitation, by: User, at: datetime, seen: Presence = NOBODY) -> Invitation:
    """End an open invitation to the staff: its address stops working. Raises UnableToInvite for one that is over."""
    fresh = _changed_by(invitation, by, seen)
    fresh.revoked_at = at
    fresh.save(update_fields=["revoked_at"])
    subject = f"invitation:{fresh.public_id}"
    audit(by=by, action="revoke_invitation", subject=subject, at=at, seen=seen, after={"email": fresh.email})
    return fresh


@transaction.atomic
def resend_invitation(*, invitation: Invitation, by: User, at: datetime, seen: Presence = NOBODY) -> Invitation:
    """Let the worker mail a new address; the old one stops working then. Raises UnableToInvite for one that is over."""
    fresh = _changed_by(invitation, by, seen)
    wait_for_mail(fresh, at=at)
    subject = f"invitation:{fresh.public_id}"
    audit(by=by, action="resend_invitation", subject=subject, at=at, seen=seen, after={"email": fresh.email})
    return fresh


def wait_for_mail(invitation: Invitation, *, at: datetime) -> None:
    """Queue an open invitation's mail again, with a fresh count of tries and a fresh end."""
    invitation.sent_at, invitation.next_try_at, invitation.tries, invitation.error = None, None, 0, ""
    invitation.expires_at = at + VALID
    invitation.save(update_fields=["sent_at", "next_try_at", "tries", "error", "expires_at"])


def _changed_by(invitation: Invitation, by: User, seen: Presence) -> Invitation:
    require_role(by, ADMIN)
    require_fresh_factor(seen)
    fresh = Invitation.objects.select_for_update(no_key=True).get(pk=invitation.pk)
    if fresh.purpose != Invitation.Purpose.STAFF:
        raise UnableToInvite("This invitation belongs to a contributor.")
    if fresh.used_at is not None or fresh.revoked_at is not None:
        raise UnableToInvite(f"The invitation of {fresh} was {'used' if fresh.used_at else 'revoked'} already.")
    return fresh


# --- joining ------------------------------------------------------------------------------------------------------
@transaction.atomic
def join_staff(*, token: str, email: str, name: str, password: str, totp_secret: str, at: datetime) -> User:
    """Use a one-time address: make the person, with a password and a second factor, and give the invited roles.

    Raises UnableToJoin, or UnableToRegisterUser where the address has an account (its owner logs in and accepts).
    """
    invitation = open_invitation(token=token, purpose=Invitation.Purpose.STAFF, at=at, lock=True)
    if not name.strip():
        raise UnableToJoin("Give your name, on one line: others see it beside your acts.")
    if refusal := names.why_not(name.strip()):
        raise UnableToJoin(refusal)
    user = register_user(email=invitation.email or email, password=password, at=at, name=name.strip()[:200])
    enrol_totp(user=user, secret=totp_secret)
    return _take_roles(invitation, user, at)


@transaction.atomic
def accept_roles(*, token: str, user: User, at: datetime) -> User:
    """Give the invited roles to the person with the invited address and an account. Raises UnableToJoin."""
    invitation = open_invitation(token=token, purpose=Invitation.Purpose.STAFF, at=at, lock=True)
    if not invitation.email:
        raise UnableToJoin("This address makes the first administrator, with an account of their own. Log out first.")
    if invitation.email != user.email:
        raise UnableToJoin(f"This invitation is for {invitation.email}; you are logged in as {user.email}.")
    return _take_roles(invitation, user, at)


def _take_roles(invitation: Invitation, user: User, at: datetime) -> User:
    if invitation.invited_by_id is not None and not User.objects.get(pk=invitation.invited_by_id).has_role(ADMIN):
        raise UnableToJoin(f"{invitation.invited_by} administers no more, so this invitation has no effect.")
    before = sorted(user.groups.values_list("name", flat=True))
    if not before:
        vouch_for_factors(user=user, at=at)
    user.groups.add(*Group.objects.filter(name__in=invitation.roles))
    # Roles that are given while nothing is at stake never cool down: the first day of an installation is no attack.
    if not nothing_is_at_stake():
        user.roles_changed_at = at
        user.save(update_fields=["roles_changed_at"])
    use(invitation, user=user, at=at)
    audit(
        by=user,
        action="join_staff",
        subject=f"user:{user.pk}",
        at=at,
        before={"roles": before},
        after={"roles": sorted({*before, *invitation.roles}), "invitation": str(invitation.public_id)},
    )
    return User.objects.get(pk=user.pk)


def use(invitation: Invitation, *, user: User, at: datetime) -> None:
    """Mark a locked invitation as used: its address works no more."""
    invitation.used_at, invitation.used_by = at, user
    invitation.save(update_fields=["used_at", "used_by"])
