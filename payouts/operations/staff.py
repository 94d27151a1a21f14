"""Who may do what in finance, changed by an administrator; and the limits of what one person may do.

A role that was just given does not move money yet: whoever takes over an administrator's session gains a day's warning.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, time, timedelta

from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.db.models import Q, Sum

from contributors.models import STAFF_ROLES, User
from ledger.money import asset
from payouts.models import PayoutRun
from payouts.operations.audit import ADMIN, NOBODY, Presence, audit, require_fresh_factor, require_role
from payouts.queries.policies import terms_in_force
from people.presentation import amounts


class UnableToChangeRoles(Exception):
    """There is no such role, the person would change their own, or nobody would be left to administer."""

    status = 409
    problem = "roles-not-changed"


class UnableToApproveThatMuch(Exception):
    """More than one person may approve, at once or in a day."""

    status = 403
    problem = "approval-limit"


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

    `known`: the roles that the page showed; where they changed since, nothing is done.
    """
    require_role(by, ADMIN)
    require_fresh_factor(seen)
    if unknown := sorted(set(roles) - set(STAFF_ROLES)):
        raise UnableToChangeRoles(f"There is no role {', '.join(unknown)}; there are {', '.join(STAFF_ROLES)}.")
    if user.pk == by.pk:
        raise UnableToChangeRoles("Nobody changes their own roles; another administrator does.")
    if not reason.strip():
        raise UnableToChangeRoles("Say why.")
    # One change at a time, by who administers still: two who dismiss each other leave one.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('payouts roles'))")
    if not by.groups.filter(name=ADMIN).exists():
        raise UnableToChangeRoles("Your own roles have just been changed; you administer no more.")
    user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    before = sorted(user.groups.values_list("name", flat=True))
    if known is not None and before != sorted(known):
        now = ", ".join(before) or "none"
        raise UnableToChangeRoles(f"The roles changed since you opened the page: now {now}. Look at them again.")
    if before == sorted(roles):
        raise UnableToChangeRoles(f"{user} has these roles already.")
    user.groups.set(Group.objects.filter(name__in=roles))
    user.roles_changed_at = at
    user.save(update_fields=["roles_changed_at"])
    audit(
        by=by, action="change_roles", subject=f"user:{user.pk}", at=at, seen=seen,
        before={"roles": before}, after={"roles": sorted(roles), "reason": reason.strip()[:500]},
    )  # fmt: skip
    return User.objects.get(pk=user.pk)


def require_within_limits(run: PayoutRun, by: User, at: datetime) -> None:
    """The policy's limits of one person: in one approval, and in one UTC day."""
    terms = terms_in_force(run.currency)
    if terms.approval_limit_minor is not None and run.total_minor > terms.approval_limit_minor:
        raise UnableToApproveThatMuch(
            f"One person approves at most {_money(terms.approval_limit_minor, run.currency)} at once. Split the run."
        )
    if terms.daily_approval_minor is None:
        return
    # Two approvals of one person at the same moment are counted one after the other.
    User.objects.select_for_update(no_key=True).get(pk=by.pk)
    begins = datetime.combine(at.astimezone(UTC).date(), time.min, UTC)
    mine = Q(approved_by=by, approved_at__gte=begins, approved_at__lt=begins + timedelta(days=1)) | Q(
        second_approved_by=by, second_approved_at__gte=begins, second_approved_at__lt=begins + timedelta(days=1)
    )
    approved = PayoutRun.objects.filter(mine, currency=run.currency).exclude(pk=run.pk)
    sum_minor = approved.aggregate(sum=Sum("total_minor"))["sum"] or 0
    if sum_minor + run.total_minor > terms.daily_approval_minor:
        raise UnableToApproveThatMuch(
            f"One person approves at most {_money(terms.daily_approval_minor, run.currency)} in a day; you have "
            f"approved {_money(sum_minor, run.currency)} today. Somebody else can approve this run."
        )


def _money(minor: int, currency: str) -> str:
    return amounts.text_of_minor(minor, asset(currency))
