"""Reads of memberships."""

from __future__ import annotations

from contributors.models import Contributor, Membership
from people.models import User


def manages(user: User, contributor: Contributor) -> bool:
    """Whether somebody may change what is the contributor's: an owner or a manager."""
    return Membership.objects.filter(user=user, contributor=contributor, role__in=Membership.MANAGING).exists()
