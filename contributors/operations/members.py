"""Members of a contributor: invited by an owner, given another role, ended. Each act is a line of the audit log."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from contributors.models import Contributor, MemberInvitation, Membership
from contributors.operations.people import UnableToRegisterContributor, add_member
from people.actor import audit
from people.models import Invitation, User
from people.operations import invitations
from people.operations.users import register_user
from people.queries.programme import programme

OPEN_MAX = 50


class UnableToChangeMembers(Exception):
    """The person owns the contributor no more, the role or the address is wrong, or no owner would be left."""

    status = 409
    problem = "members-not-changed"


def require_owner(contributor: Contributor, by: User) -> None:
    """Raises UnableToChangeMembers unless the person is an owner; locks the contributor against a second change."""
    Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    if not contributor.memberships.filter(user=by, role=Membership.Role.OWNER).exists():
        raise UnableToChangeMembers(f"Only an owner of {contributor} changes its members.")


@transaction.atomic
def invite_member(*, contributor: Contributor, email: str, role: str, by: User, at: datetime) -> MemberInvitation:
    """Invite a person by mail to act for a contributor. Raises UnableToChangeMembers and UnableToInvite."""
    require_owner(contributor, by)
    email = invitations.checked_email(email)
    if role not in Membership.Role.values:
        raise UnableToChangeMembers(f"A member is an {', '.join(Membership.Role.values)}; not “{role}”.")
    if contributor.memberships.filter(user__email=email).exists():
        raise UnableToChangeMembers(f"{email} is a member already; change the role in the list.")
    waiting = MemberInvitation.objects.filter(
        contributor=contributor, invitation__used_at=None, invitation__revoked_at=None
    )
    if waiting.filter(invitation__email=email, invitation__expires_at__gt=at).exists():
        raise UnableToChangeMembers(f"{email} is invited already. Revoke that invitation first.")
    if waiting.count() >= OPEN_MAX:
        raise UnableToChangeMembers(f"At most {OPEN_MAX} invitations wait at the same time; revoke some first.")
    made = write_invitation(
        contributor=contributor,
        email=email,
        role=role,
        by=by,
        at=at,
        subject=f"{by} invites you to act for {contributor}",
        words=f"{by} invites you to act for {contributor} at {programme().shown_name}, as {role}.",
    )
    _audit("invite_member", contributor, by, at, {"email": email, "role": role})
    return made


def write_invitation(
    *, contributor: Contributor, email: str, role: str, by: User | None, at: datetime, subject: str, words: str
) -> MemberInvitation:
    """Store an invitation that the worker mails."""
    made = Invitation.objects.create(
        purpose=Invitation.Purpose.MEMBER,
        email=email,
        invited_by=by,
        created_at=at,
        expires_at=at + invitations.VALID,
        subject=subject[:200],
        words=words,
    )
    return MemberInvitation.objects.create(invitation=made, contributor=contributor, role=role)


@transaction.atomic
def revoke_member_invitation(*, member_invitation: MemberInvitation, by: User, at: datetime) -> None:
    """End an open invitation: its address stops working. Raises UnableToChangeMembers."""
    contributor = member_invitation.contributor
    require_owner(contributor, by)
    row = Invitation.objects.select_for_update(no_key=True).get(pk=member_invitation.invitation_id)
    if row.used_at is not None or row.revoked_at is not None:
        raise UnableToChangeMembers(
            f"The invitation of {row.email} was {'used' if row.used_at else 'revoked'} already."
        )
    row.revoked_at = at
    row.save(update_fields=["revoked_at"])
    _audit("revoke_member_invitation", contributor, by, at, {"email": row.email})


@transaction.atomic
def change_member(*, contributor: Contributor, user: User, role: str, by: User, at: datetime) -> Membership:
    """Give a member another role. The last owner stays one. Raises UnableToChangeMembers."""
    require_owner(contributor, by)
    before = contributor.memberships.filter(user=user).first()
    if before is None:
        raise UnableToChangeMembers(f"{user} is no member of {contributor}.")
    if before.role == role:
        raise UnableToChangeMembers(f"{user} is {role} already.")
    made = _added(contributor, user, role, at)
    _audit("change_member", contributor, by, at, {"email": user.email, "role": role}, {"role": before.role})
    return made


@transaction.atomic
def end_membership(*, contributor: Contributor, user: User, by: User, at: datetime) -> None:
    """End a membership. An owner ends any, others only their own; one owner stays. Raises UnableToChangeMembers."""
    Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    if user.pk != by.pk:
        require_owner(contributor, by)
    row = contributor.memberships.filter(user=user).first()
    if row is None:
        raise UnableToChangeMembers(f"{user} is no member of {contributor}.")
    owners = contributor.memberships.filter(role=Membership.Role.OWNER).exclude(pk=row.pk)
    if row.role == Membership.Role.OWNER and not owners.exists():
        raise UnableToChangeMembers(f"{contributor} would have no owner left; make somebody else one first.")
    row.delete()
    _audit("end_membership", contributor, by, at, {"email": user.email}, {"role": row.role})


@transaction.atomic
def claim(*, token: str, user: User, at: datetime) -> Contributor:
    """Use a one-time address with an account of the invited address. Raises UnableToJoin."""
    invitation = invitations.open_invitation(token=token, purpose=Invitation.Purpose.MEMBER, at=at, lock=True)
    if user.email != invitation.email:
        raise invitations.UnableToJoin(f"This invitation is for {invitation.email}; you are logged in as {user.email}.")
    wanted = MemberInvitation.objects.select_related("contributor").get(invitation=invitation)
    contributor = wanted.contributor
    sender = invitation.invited_by
    # An imported contributor is claimed once; later members are invited by a present owner.
    if contributor.memberships.exists() and not _owns(contributor, sender):
        raise invitations.UnableToJoin(f"The sender owns {contributor} no more. Ask an owner for a new invitation.")
    _added(contributor, user, wanted.role, at)
    invitations.use(invitation, user=user, at=at)
    _audit("claim_membership", contributor, user, at, {"email": user.email, "role": wanted.role})
    return contributor


@transaction.atomic
def claim_with_new_account(*, token: str, name: str, password: str, at: datetime) -> tuple[User, Contributor]:
    """Make an account for the invited address, and use the one-time address. Raises UnableToJoin."""
    invitation = invitations.open_invitation(token=token, purpose=Invitation.Purpose.MEMBER, at=at, lock=True)
    user = register_user(email=invitation.email, password=password, at=at, name=name.strip()[:200])
    return user, claim(token=token, user=user, at=at)


def _owns(contributor: Contributor, user: User | None) -> bool:
    return user is not None and contributor.memberships.filter(user=user, role=Membership.Role.OWNER).exists()


def _added(contributor: Contributor, user: User, role: str, at: datetime) -> Membership:
    try:
        return add_member(contributor=contributor, user=user, role=role, at=at)
    except UnableToRegisterContributor as error:
        raise UnableToChangeMembers(str(error)) from error


def _audit(
    action: str,
    contributor: Contributor,
    by: User,
    at: datetime,
    after: dict[str, str],
    before: dict[str, str] | None = None,
) -> None:
    audit(by=by, action=action, subject=f"contributor:{contributor.public_id}", at=at, before=before, after=after)
