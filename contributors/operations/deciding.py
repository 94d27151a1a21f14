"""The staff that may decide about money: in a role that may, with roles that have settled, and never about a
contributor that they act for.

Four eyes are worth nothing where the second pair belongs to the payee. They are worth nothing either where a stolen
administrator's session gave an account its role a minute ago.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from contributors.models import Contributor, Membership
from contributors.queries.interests import accounts_of
from people.actor import UnableToActForOneself, lacks_role, too_recent
from people.models import User


def why_not_decide(*, by: User, roles: Collection[str], at: datetime, about: Collection[int] = ()) -> str:
    """The sentence that keeps a person in one of these roles from deciding about these contributors' (ids) money; ""
    for a person that may.
    """
    return lacks_role(by=by, roles=roles) or too_recent(by=by, at=at) or acts_for(by=by, contributors=about)


def acts_for(*, by: User, contributors: Collection[int]) -> str:
    """The reason that keeps a person from deciding about one of these contributors: they act for it, in any role of the
    membership, or for an account that is linked with it.
    """
    concerned = accounts_of(by).intersection(contributors)
    if not concerned:
        return ""
    acted_for = Membership.objects.filter(user=by.person, contributor_id__in=concerned).order_by("contributor_id")
    if (own := acted_for.first()) is not None:
        return f"You act for {own.contributor}, so somebody else has to decide this."
    linked = Contributor.objects.get(pk=min(concerned))
    return f"You act for an account that is linked with {linked}, so somebody else has to decide this."


def require_stranger(by: User, contributor_id: int) -> None:
    """Refuse an act about a contributor to a person that acts for it. Raises UnableToActForOneself."""
    if refusal := acts_for(by=by, contributors=[contributor_id]):
        raise UnableToActForOneself(refusal)
