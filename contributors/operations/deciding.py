"""Who of the staff may decide about money: in a role that may, with roles that have settled, and never for somebody
that they act for.

Four eyes are worth nothing where the second pair belongs to the payee, or to an account that was given its role a
minute ago by whoever took over an administrator's session.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from django.conf import settings

from contributors.models import Contributor, Membership, User
from people.presentation import dates


def why_not_decide(*, by: User, roles: Collection[str], at: datetime, about: Collection[int] = ()) -> str:
    """The sentence that keeps somebody from deciding, in one of these roles, what these contributors (ids) get; "" for
    who may."""
    return lacks_role(by=by, roles=roles) or too_recent(by=by, at=at) or acts_for(by=by, contributors=about)


def lacks_role(*, by: User, roles: Collection[str]) -> str:
    """Why somebody who is in none of these staff groups may not do this; "" for who is in one."""
    return "" if by.has_role(*roles) else f"This takes the role {' or '.join(roles)}."


def too_recent(*, by: User, at: datetime) -> str:
    """Why somebody whose roles changed within ROLE_COOL_DOWN_HOURS moves no money yet; "" where they have settled."""
    changed_at = User.objects.values_list("roles_changed_at", flat=True).get(pk=by.pk)
    ends = changed_at and changed_at + timedelta(hours=settings.ROLE_COOL_DOWN_HOURS)
    if changed_at is None or ends is None or at >= ends:
        return ""
    return f"Your roles changed on {dates.moment(changed_at)}; you can do this from {dates.moment(ends)}."


def acts_for(*, by: User, contributors: Collection[int]) -> str:
    """Why a member of one of these contributors decides nothing about it, in whatever role they are its member."""
    of = Membership.objects.filter(user=by, contributor_id__in=contributors).order_by("pk")
    own = Contributor.objects.filter(pk__in=of.values("contributor_id")).order_by("pk").first()
    return f"You act for {own}, so somebody else has to decide this." if own is not None else ""
