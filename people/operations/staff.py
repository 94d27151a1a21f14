"""Staff roles, changed by an administrator; once there are two of them, by two people.

A new role does not move money yet: a stolen administrator's session still leaves a day's warning.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.urls import reverse

from people.actor import ADMIN, COMPLIANCE, NOBODY, Actor, Presence, audit, require_fresh_factor, require_role
from people.models import STAFF_ROLES, RoleChange, User
from people.operations import invitations
from people.operations.factors import vouch_for_factors
from people.operations.mail import tell
from people.operations.proposals import propose
from people.operations.resets import conflict_of
from people.presentation import codes, names
from people.queries.programme import administrators, nothing_is_at_stake
from people.queries.proposals import WITH_COMPLIANCE, Facts, ProposalKind

DECIDERS = (ADMIN, COMPLIANCE)
TWO_PEOPLE_GIVE = "There are two administrators, so that one alone gives no roles."


class UnableToChangeRoles(Exception):
    """There is no such role, the person would change their own, or nobody would be left to administer."""

    status = 409
    problem = "roles-not-changed"


@transaction.atomic
def change_roles(
    *,
    user: User,
    roles: Collection[str],
    by: User,
    reason: str,
    at: datetime,
    known: Collection[str] | None = None,
    seen: Presence = NOBODY,
) -> User:
    """Give a person exactly these roles. They move money only after the cool-down (ROLE_COOL_DOWN_HOURS).

    `known`: the roles that the page showed; where they changed since, nothing is done. Raises UnableToChangeRoles for
    an unknown role, without a reason, for one's own roles, and for a change that takes two people.
    """
    require_role(by, ADMIN)
    require_fresh_factor(seen)
    user, before = _checked(user, roles, by, reason, known)
    if takes_two(before, roles):
        raise UnableToChangeRoles(f"{TWO_PEOPLE_GIVE} Propose the change; another person approves it.")
    return _give(user, roles, before=before, reason=reason, by=by, at=at, seen=seen)


def takes_two(before: Collection[str], roles: Collection[str]) -> bool:
    """Tell whether another person approves the change: a role is given, or an administrator dismissed, and there are
    two administrators. Taking another role away is safe, and one administrator does it at once.
    """
    gained, lost = set(roles) - set(before), set(before) - set(roles)
    return administrators() >= 2 and (bool(gained) or ADMIN in lost)


@transaction.atomic
def propose_roles(
    *,
    user: User,
    roles: Collection[str],
    by: User,
    reason: str,
    at: datetime,
    known: Collection[str] | None = None,
    seen: Presence = NOBODY,
) -> RoleChange:
    """Propose the roles of a person. Nothing changes until another person approves. Raises UnableToChangeRoles."""
    Actor(by, at, seen).require_fresh_factor()
    user, before = _checked(user, roles, by, reason, known)
    row = RoleChange(
        user=user,
        email=user.email,
        name=user.name,
        roles=sorted(roles),
        former=before,
        reason=reason.strip()[:500],
        proposed_by=by,
        proposed_at=at,
    )
    return propose(KIND, row, seen=seen)


@transaction.atomic
def propose_invitation(
    *, email: str, name: str, roles: Collection[str], by: User, reason: str, at: datetime, seen: Presence = NOBODY
) -> RoleChange:
    """Propose that an address is invited to the staff. The mail goes out when another person approves.

    Raises UnableToInvite and UnableToChangeRoles.
    """
    actor = Actor(by, at, seen)
    actor.require_fresh_factor()
    actor.require_settled_role()
    email = invitations.checked_invitation(email=email, roles=roles, name=name, at=at)
    row = RoleChange(
        email=email,
        name=names.composed(name)[:200],
        roles=sorted(roles),
        reason=reason.strip()[:500] or "A new colleague.",
        proposed_by=by,
        proposed_at=at,
    )
    return propose(KIND, row, seen=seen)


def _checked(
    user: User, roles: Collection[str], by: User, reason: str, known: Collection[str] | None
) -> tuple[User, list[str]]:
    if unknown := sorted(set(roles) - set(STAFF_ROLES)):
        raise UnableToChangeRoles(f"There is no role {', '.join(unknown)}; there are {', '.join(STAFF_ROLES)}.")
    if user.pk == by.pk:
        raise UnableToChangeRoles("Nobody changes their own roles; another administrator does.")
    if not reason.strip():
        raise UnableToChangeRoles("Say why.")
    _one_at_a_time()
    if not by.groups.filter(name__in=DECIDERS).exists():
        raise UnableToChangeRoles("Your own roles have just been changed; you administer no more.")
    user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    before = sorted(user.groups.values_list("name", flat=True))
    if known is not None and before != sorted(known):
        now = ", ".join(before) or "none"
        raise UnableToChangeRoles(f"The roles changed since you opened the page: now {now}. Look at them again.")
    if before == sorted(roles):
        raise UnableToChangeRoles(f"{user} has these roles already.")
    return user, before


def _one_at_a_time() -> None:
    # One change at a time, by a person that still administers: two administrators that dismiss each other leave one.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('people roles'))")


def _give(
    user: User, roles: Collection[str], *, before: list[str], reason: str, by: User, at: datetime, seen: Presence
) -> User:
    if not before:
        # The first role of a person vouches for the factors that the administrator saw beside the name.
        vouch_for_factors(user=user, at=at)
    user.groups.set(Group.objects.filter(name__in=roles))
    # Roles that are given while nothing is at stake never cool down: the first day of an installation is no attack.
    user.roles_changed_at = None if nothing_is_at_stake() else at
    user.save(update_fields=["roles_changed_at"])
    audit(
        by=by,
        action="change_roles",
        subject=f"user:{user.pk}",
        at=at,
        seen=seen,
        before={"roles": before},
        after={"roles": sorted(roles), "reason": reason.strip()[:500]},
    )
    tell(
        user,
        subject="Your roles changed",
        body=f"Your roles are now: {', '.join(codes.spaced(role) for role in sorted(roles)) or 'none'}.",
    )
    return User.objects.get(pk=user.pk)


def _apply(row: RoleChange, by: User, at: datetime) -> dict[str, Any]:
    """Give the roles, or send the invitation."""
    if not User.objects.get(pk=row.proposed_by_id).has_role(*DECIDERS):
        raise UnableToChangeRoles(f"{row.proposed_by} lost the role to propose this. Reject it.")
    if row.user_id is None:
        invitations.write_staff_invitation(
            email=row.email, name=row.name, roles=row.roles, by=row.proposed_by, at=at, seen=NOBODY
        )
        return {}
    user = User.objects.select_for_update(no_key=True).get(pk=row.user_id)
    before = sorted(user.groups.values_list("name", flat=True))
    if before != row.former:
        now = ", ".join(before) or "none"
        raise UnableToChangeRoles(f"The roles changed since this was proposed: now {now}. Reject it and look again.")
    _give(user, row.roles, before=before, reason=row.reason, by=by, at=at, seen=NOBODY)
    return {}


def _facts(row: RoleChange) -> Facts:
    return [
        ("Person", str(row.user or row.name or row.email)),
        ("E-mail", row.email),
        ("Roles before", _words(row.former)),
        ("Roles then", _words(row.roles)),
        ("Why", row.reason),
    ]


def _words(roles: Collection[str]) -> str:
    return ", ".join(codes.spaced(role) for role in sorted(roles)) or "No role"


KIND: ProposalKind[RoleChange] = ProposalKind(
    key="roles",
    model=RoleChange,
    name="change of roles",
    heading="Roles of staff",
    mail="A change of roles waits for a second person",
    proposers=DECIDERS,
    approvers=DECIDERS,
    readers=WITH_COMPLIANCE,
    apply=_apply,
    lock=lambda row: _one_at_a_time(),
    conflict=lambda row, by: conflict_of(row.user, row.proposed_by, by),
    refusal=UnableToChangeRoles,
    unique="one_change_of_roles_waits_for_an_address",
    equal=lambda row: "A change of roles for this address is proposed already.",
    needs_fresh_factor=True,
    rejected_as_approved=True,
    title=lambda row: f"Roles of {row.user or row.email}",
    summary=lambda row: row.reason,
    facts=_facts,
    effect="The person has exactly these roles, or is invited with them. A new role settles before it moves money.",
    approved=lambda row: "Approved. The person was told, and so are all administrators.",
    page=lambda row: reverse("people:staff"),
    parent=("Staff", "people:staff"),
    subject=lambda row: f"roles:{row.pk}",
    fields=("email", "roles", "former", "reason"),
    related=("user",),
)
