"""Accounts that may be one person's, and those that are found to be: looked at, proposed, and ended."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from contributors.models import Contributor, ContributorLink, LinkEnd
from contributors.operations.links import KIND, dismiss_suspicion, propose_end_of_link, propose_link
from contributors.queries.links import suspicions
from payouts.console import ADMIN, COMPLIANCE, actor_required, reader_required
from payouts.forms.fields import ReasonForm
from payouts.forms.payees import DifferentPeopleForm, LinkForm
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of

PAGE, SUSPICIONS_SHOWN, ACCOUNTS_MAX = 50, 50, 100
NEEDS_COMPLIANCE = "This takes compliance or an administrator."


@require_GET
@reader_required
def links(request: HttpRequest) -> HttpResponse:
    suspected = suspicions(timezone.now())
    decided = _links().exclude(state="proposed").order_by("state", "-pk")
    page = Paginator(decided, PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "payouts/console/links.html",
        {
            "suspected": [(one, _numbers(one.contributors)) for one in suspected[:SUSPICIONS_SHOWN]],
            "n_more": max(0, len(suspected) - SUSPICIONS_SHOWN),
            "waiting": _links().filter(state="proposed").order_by("pk"),
            "ending": _ends().filter(state="proposed").order_by("pk"),
            "page_obj": page,
            "may_act": user_of(request).has_role(COMPLIANCE, ADMIN),
        },
    )


def _links() -> QuerySet[ContributorLink]:
    return ContributorLink.objects.select_related("proposed_by", "decided_by").prefetch_related(
        "contributors", "ends__decided_by"
    )


def _ends() -> QuerySet[LinkEnd]:
    return LinkEnd.objects.select_related("proposed_by", "link").prefetch_related("link__contributors")


def _numbers(contributors: list[Contributor]) -> str:
    return ",".join(str(one.public_id) for one in contributors[:ACCOUNTS_MAX])


@require_http_methods(["GET", "POST"])
@actor_required
def propose(request: HttpRequest) -> HttpResponse:
    form = LinkForm(request.POST or None, initial={"accounts": _named_in_address(request)})
    page = Act(
        "Propose that accounts count as one",
        "Their works are then valued as those of one account: a loss of one is counted against a gain of "
        "another, as in a single account. Each keeps its works, its statements and its payouts. "
        "Nothing changes until somebody else approves, and earlier attributions stay.",
        "Propose it",
        reverse("payouts:links"),
        "Linked accounts",
        not_this_person="" if _may(request) else NEEDS_COMPLIANCE,
    )

    def do(given: dict[str, Any]) -> str:
        propose_link(
            contributors=given["accounts"],
            reason=given["reason"],
            by=user_of(request),
            at=timezone.now(),
            seen=presence_of(request),
        )
        return "Proposed. Somebody else approves or rejects it."

    return act(request, page, form, do)


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def dismiss(request: HttpRequest) -> HttpResponse:
    form = DifferentPeopleForm(request.POST or None, initial={"accounts": _named_in_address(request)})
    page = Act(
        "These are different people",
        "The accounts leave the list of those to look at. One more account with the same detail brings them back.",
        "Write it down",
        reverse("payouts:links"),
        "Linked accounts",
        not_this_person="" if _may(request) else NEEDS_COMPLIANCE,
    )

    def do(given: dict[str, Any]) -> str:
        dismiss_suspicion(
            contributors=given["accounts"],
            reason=given["reason"],
            by=user_of(request),
            at=timezone.now(),
            seen=presence_of(request),
        )
        return "Written down: different people."

    return act(request, page, form, do)


@require_http_methods(["GET", "POST"])
@actor_required
def end(request: HttpRequest, public_id: UUID) -> HttpResponse:
    link = _link_or_404(public_id)
    refusal = "" if _may(request) else NEEDS_COMPLIANCE
    if link.state != "approved" or link.end is not None:
        refusal = f"Only a link in force can end; this one is: {link.standing[1].lower()}."
    page = Act(
        "Propose that accounts count apart again",
        "They go on counting as one until somebody else approves. Each of the accounts reads the reason.",
        "Propose the end",
        reverse("payouts:links"),
        "Linked accounts",
        not_this_person=refusal,
        facts=[*KIND.facts(link), ("Reason of the link", link.reason)],
    )

    def do(given: dict[str, Any]) -> str:
        propose_end_of_link(
            link=link, reason=given["reason"], by=user_of(request), at=timezone.now(), seen=presence_of(request)
        )
        return "Proposed. Somebody else approves or rejects it."

    return act(request, page, ReasonForm(request.POST or None, label="Why they are not one person"), do)


def _may(request: HttpRequest) -> bool:
    return user_of(request).has_role(COMPLIANCE, ADMIN)


def _named_in_address(request: HttpRequest) -> str:
    """The accounts that a link on the list names, as a person reads them."""
    numbers = []
    for text in request.GET.get("accounts", "").split(",")[:ACCOUNTS_MAX]:
        try:
            numbers.append(UUID(text))
        except ValueError:
            continue
    found = Contributor.objects.filter(public_id__in=numbers).order_by("pk")
    return "\n".join(f"{one.display_name}, {one.public_id}" for one in found)


def _link_or_404(public_id: UUID) -> ContributorLink:
    link = _links().filter(public_id=public_id).first()
    if link is None:
        raise Http404
    return link
