"""A contributor's view of payouts, and the actions on its own. One domain call a view, then translation."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest

from contributors.models import Contributor, Membership
from contributors.portal.guard import ContributorRequest


def contributor_of(request: HttpRequest) -> Contributor:
    return cast(ContributorRequest, request).contributor


def membership_of(request: HttpRequest) -> Membership:
    return cast(ContributorRequest, request).membership
