"""Reads of memberships."""

from __future__ import annotations

from contributors.models import Contributor, Membership
from people.models import User


def manages(user: User, contributor: Contributor) -> bool:
    """True when the person may change the contributor's data: an owner or a manager."""
    return Membership.objects.filter(user=user, contributor=contributor, role__in=Membership.MANAGING).exists()
