"""Staff roles, changed by an administrator.

A new role does not move money yet: a stolen administrator's session still leaves a day's warning.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.contrib.auth.models import Group
from django.db import connection, transaction

from people.actor import ADMIN, NOBODY, Presence, audit, require_fresh_factor, require_role
from people.models import STAFF_ROLES, User
from people.operations.factors import vouch_for_factors
from people.queries.programme import nothing_is_at_stake


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
    an unknown role, without a reason, for one's own roles, and where no administrator would be left.
    """
    require_role(by, ADMIN)
    require_fresh_factor(seen)
    if unknown := sorted(set(roles) - set(STAFF_ROLES)):
        raise UnableToChangeRoles(f"There is no role {', '.join(unknown)}; there are {', '.join(STAFF_ROLES)}.")
    if user.pk == by.pk:
        raise UnableToChangeRoles("Nobody changes their own roles; another administrator does.")
    if not reason.strip():
        raise UnableToChangeRoles("Say why.")
    # One change at a time, by a person that still administers: two administrators that dismiss each other leave one.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('people roles'))")
    if not by.groups.filter(name=ADMIN).exists():
        raise UnableToChangeRoles("Your own roles have just been changed; you administer no more.")
    user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    before = sorted(user.groups.values_list("name", flat=True))
    if known is not None and before != sorted(known):
        now = ", ".join(before) or "none"
        raise UnableToChangeRoles(f"The roles changed since you opened the page: now {now}. Look at them again.")
    if before == sorted(roles):
        raise UnableToChangeRoles(f"{user} has these roles already.")
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
    return User.objects.get(pk=user.pk)
