"""Changed details of a contributor, proposed by staff for an owner that wrote to them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from contributors.models import Contributor
from contributors.queries.details import read_details
from payouts.console import actor_required
from payouts.forms.details import DETAILS, DetailsForm
from payouts.operations.details import DECIDERS, change_details
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def change_details_for(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """Propose new details; another person sees the consequences and decides."""
    contributor = get_object_or_404(Contributor, public_id=public_id)
    may = user_of(request).has_role(*DECIDERS)
    page = Act(
        f"Propose changed details of {contributor}",
        "For an owner that wrote to you. The proposal lists the consequences; nothing changes until somebody else "
        "approves. Owners and managers are told at once.",
        "Propose it",
        reverse("payouts:payee_account", args=[public_id]),
        str(contributor),
        not_this_person="" if may else f"This takes the role {' or '.join(DECIDERS)}.",
    )

    def do(given: dict[str, Any]) -> str:
        change_details(
            contributor=contributor,
            given={name: given[name] for name in DETAILS},
            reason=given["reason"],
            by=user_of(request),
            at=timezone.now(),
            seen=presence_of(request),
        )
        return "Proposed. Somebody else approves or rejects it."

    return act(request, page, DetailsForm(request.POST or None, present=read_details(contributor)), do)
