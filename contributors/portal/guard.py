"""Access to a contributor's pages, and the contributor that a person acts for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, overload

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from contributors.models import Contributor, Membership
from people.models import User

View = Callable[..., HttpResponseBase]
CHOSEN = "contributor"
"""The session's key for the public id of the contributor that the person acts for."""


class ContributorRequest(HttpRequest):
    """A request that has passed `contributor_required`."""

    user: User
    contributor: Contributor
    membership: Membership
    other_contributors: list[Contributor]


@overload
def contributor_required(view: View, *, change: bool = ...) -> View: ...
@overload
def contributor_required(view: None = ..., *, change: bool = ...) -> Callable[[View], View]: ...
def contributor_required(view: View | None = None, *, change: bool = False) -> View | Callable[[View], View]:
    """Let in a member of a contributor; with `change`, no member that may only look.

    Sets `request.contributor`, `request.membership` and `request.other_contributors`. A person without a contributor is
    taken to the registration.
    """

    def decorate(inner: View) -> View:
        @wraps(inner)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            user = request.user
            if not user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            memberships = list(user.memberships.select_related("contributor").order_by("pk"))
            if not memberships:
                return redirect("contributors:register")
            chosen = request.session.get(CHOSEN)
            membership = next((m for m in memberships if str(m.contributor.public_id) == chosen), memberships[0])
            if change and membership.role == Membership.Role.VIEWER:
                raise PermissionDenied(f"You may look at the pages of {membership.contributor}, not change them.")
            assert isinstance(request, HttpRequest)
            known: Any = request
            known.contributor = membership.contributor
            known.membership = membership
            known.other_contributors = [m.contributor for m in memberships if m is not membership]
            return inner(request, *args, **kwargs)

        return guarded

    return decorate if view is None else decorate(view)
