"""The rules of runs, by currency: the figures in force, and the form that proposes others."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from ledger.models import Account
from ledger.money import ASSETS
from payouts.console import ADMIN, CHECKER, MAKER, actor_required, reader_required
from payouts.forms.rules import PolicyForm
from payouts.models import PayoutPolicy
from payouts.operations import policies as policies_operations
from payouts.queries.policies import FIGURES, in_words, terms_in_force
from people.console.acts import Act, act
from people.console.guard import user_of
from people.console.presence import presence_of


@require_GET
@reader_required
def policies(request: HttpRequest) -> HttpResponse:
    in_force = [terms_in_force(code) for code in _currencies()]
    return render(
        request,
        "payouts/console/policies.html",
        {
            "in_force": [(terms, in_words(terms.currency, terms.as_json())) for terms in in_force],
            "proposals": policies_operations.KIND.rows().filter(state="proposed").order_by("currency"),
            "history": PayoutPolicy.objects.select_related("created_by", "approved_by").order_by("-pk")[:50],
            "may_propose": user_of(request).has_role(MAKER, CHECKER, ADMIN),
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
        "Nothing changes until somebody else approves it. Runs that are built already keep the policy they were built "
        "under. A newer proposal replaces an open one.",
        "Propose it",
        reverse("payouts:policies"),
        "Policies",
        not_this_person="" if may else "Proposing a policy takes a role in finance.",
        promised=lambda given: in_words(currency, {name: given[name] for name in FIGURES}),
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
        return "Proposed. Somebody else approves or rejects it."

    return act(request, page, form, do)


def _currencies() -> list[str]:
    used = set(Account.objects.filter(kind="contributor_payable").values_list("asset__code", flat=True))
    used |= set(PayoutPolicy.objects.values_list("currency", flat=True))
    return sorted(used) or [next(iter(ASSETS))]
