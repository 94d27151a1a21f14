"""The rules of runs, by currency: the figures in force, and changing them by two people."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from ledger.models import Account
from ledger.money import ASSETS, asset
from payouts.console import ADMIN, CHECKER, MAKER, actor_required, reader_required
from payouts.forms.rules import DecidePolicyForm, PolicyForm
from payouts.models import PayoutPolicy, PolicyProposal
from payouts.operations import policies as policies_operations
from payouts.queries.policies import FIGURES, terms_in_force
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of
from people.presentation import amounts

LABELS = {
    "minimum_minor": "Minimum payout",
    "maturity_days": "Days until a credit matures",
    "second_approval_minor": "Second approver above",
    "bank_change_days": "Days to wait after a change of bank",
    "requires_tax_form": "Tax form required",
    "probation_days": "Days before a first payout",
    "approval_limit_minor": "Approval limit per person and run",
    "daily_approval_minor": "Daily approval limit per person",
}


@require_GET
@reader_required
def policies(request: HttpRequest) -> HttpResponse:
    in_force = [terms_in_force(code) for code in _currencies()]
    proposals = PolicyProposal.objects.filter(state=PolicyProposal.State.OPEN).select_related("proposed_by")
    return render(
        request,
        "payouts/console/policies.html",
        {
            "in_force": [(terms, _written(terms.currency, terms.as_json())) for terms in in_force],
            "proposals": [(one, _changes(one)) for one in proposals.order_by("currency")],
            "history": PayoutPolicy.objects.select_related("created_by", "approved_by").order_by("-pk")[:50],
            "may_propose": user_of(request).has_role(MAKER, CHECKER, ADMIN),
            "may_decide": user_of(request).has_role(CHECKER, ADMIN),
        },
    )


@require_http_methods(["GET", "POST"])
@actor_required
def propose(request: HttpRequest, currency: str) -> HttpResponse:
    if currency not in ASSETS:
        raise Http404
    terms = terms_in_force(currency)
    form = PolicyForm(request.POST or None, currency=currency, terms=terms.as_json())
    may = user_of(request).has_role(MAKER, CHECKER, ADMIN)
    page = Act(
        f"Propose a {currency} policy",
        "Nothing changes until somebody else adopts it. Runs that are built already keep the policy they were built "
        "under. A newer proposal replaces an open one.",
        "Propose it",
        reverse("payouts:policies"),
        "Policies",
        not_this_person="" if may else "Proposing a policy takes a role in finance.",
    )

    def do(given: dict[str, Any]) -> str:
        policies_operations.propose_policy(
            currency=currency,
            figures={name: given[name] for name in FIGURES},
            reason=given["reason"],
            by=user_of(request),
            at=timezone.now(),
            seen=presence_of(request),
        )
        return "Proposed. Somebody else adopts or refuses it on this page."

    return act(request, page, form, do)


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def decide_policy(request: HttpRequest, public_id: UUID) -> HttpResponse:
    proposal = PolicyProposal.objects.select_related("proposed_by").filter(public_id=public_id).first()
    if proposal is None:
        raise Http404
    refusal = ""
    if proposal.state != PolicyProposal.State.OPEN:
        refusal = "It has been decided or replaced already."
    elif not user_of(request).has_role(CHECKER, ADMIN):
        refusal = "Deciding on a policy takes a finance checker."
    form = DecidePolicyForm(request.POST or None, is_own=proposal.proposed_by_id == user_of(request).pk)
    page = Act(
        f"Decide on the {proposal.currency} policy",
        f"{proposal.proposed_by} proposes it: {proposal.reason}",
        "Decide",
        reverse("payouts:policies"),
        "Policies",
        not_this_person=refusal,
        facts=[
            (label, f"{before} → {after}" if before != after else after) for label, before, after in _changes(proposal)
        ],
    )

    def do(given: dict[str, Any]) -> str:
        adopt = given["decision"] == "adopt"
        policies_operations.decide_policy(
            proposal=proposal, adopt=adopt, by=user_of(request), at=timezone.now(), seen=presence_of(request)
        )
        return "Adopted: runs that are built from now on obey it." if adopt else "Refused. Nothing has changed."

    return act(request, page, form, do)


def _currencies() -> list[str]:
    used = set(Account.objects.filter(kind="contributor_payable").values_list("asset__code", flat=True))
    used |= set(PayoutPolicy.objects.values_list("currency", flat=True))
    return sorted(used) or [next(iter(ASSETS))]


def _written(currency: str, figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Each figure by its label, as a person reads it."""
    return [(label, _figure(currency, name, figures.get(name))) for name, label in LABELS.items()]


def _figure(currency: str, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "no limit" if name != "second_approval_minor" else "never"
    if name.endswith("_minor"):
        return amounts.text_of_minor(value, asset(currency))
    return str(value)


def _changes(proposal: PolicyProposal) -> list[tuple[str, str, str]]:
    before = dict(_written(proposal.currency, terms_in_force(proposal.currency).as_json()))
    return [(label, before[label], after) for label, after in _written(proposal.currency, proposal.terms)]
