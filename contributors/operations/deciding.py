"""The staff that may decide about money: in a role that may, with roles that have settled, and never about a
contributor that they act for.

Four eyes are worth nothing where the second pair belongs to the payee. They are worth nothing either where a stolen
administrator's session gave an account its role a minute ago.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from contributors.models import Contributor, Membership
from people.actor import UnableToActForOneself, lacks_role, too_recent
from people.models import User


def why_not_decide(*, by: User, roles: Collection[str], at: datetime, about: Collection[int] = ()) -> str:
    """The sentence that keeps a person in one of these roles from deciding about these contributors' (ids) money; ""
    for a person that may.
    """
    return lacks_role(by=by, roles=roles) or too_recent(by=by, at=at) or acts_for(by=by, contributors=about)


def acts_for(*, by: User, contributors: Collection[int]) -> str:
    """The reason that keeps a member of one of these contributors from deciding about it, in any role of the
    membership.
    """
    of = Membership.objects.filter(user=by.person, contributor_id__in=contributors).order_by("pk")
    own = Contributor.objects.filter(pk__in=of.values("contributor_id")).order_by("pk").first()
    return f"You act for {own}, so somebody else has to decide this." if own is not None else ""


def require_stranger(by: User, contributor_id: int) -> None:
    """Refuse an act about a contributor to a person that acts for it. Raises UnableToActForOneself."""
    if refusal := acts_for(by=by, contributors=[contributor_id]):
        raise UnableToActForOneself(refusal)
