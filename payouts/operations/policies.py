"""The rules of a run: thresholds, maturity, the need for a second approver."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.urls import reverse

from ledger.money import asset
from payouts.models import PayoutPolicy, PolicyProposal
from payouts.queries.policies import FIGURES, changes, terms_in_force
from people.actor import ADMIN, CHECKER, MAKER, NOBODY, Presence
from people.models import User
from people.operations.proposals import propose, replace
from people.queries.proposals import WITH_COMPLIANCE, ProposalKind


class UnableToProposePolicy(Exception):
    """A figure of the policy makes no sense, the reason is missing, or the person lacks the role."""

    status = 422
    problem = "policy-invalid"


def _check_figures(figures: Mapping[str, Any]) -> None:
    if figures["minimum_minor"] <= 0 or min(figures[name] for name in _DELAYS) < 0:
        raise UnableToProposePolicy("The minimum must be positive, and the delays must not be negative.")
    if (figures["second_approval_minor"] or 0) < 0:
        raise UnableToProposePolicy("The limit for a second approver must not be negative.")
    for name in ("approval_limit_minor", "daily_approval_minor"):
        if figures[name] is not None and figures[name] <= 0:
            raise UnableToProposePolicy("A limit of approvals must be positive, or absent.")


_DELAYS = ("maturity_days", "bank_change_days", "probation_days")


@transaction.atomic
def propose_policy(
    *, currency: str, figures: Mapping[str, Any], reason: str, by: User, at: datetime, seen: Presence = NOBODY
) -> PolicyProposal:
    """Propose a new version of a currency's policy. A newer proposal replaces an open one.

    Amounts are minor units of the currency, periods are days. Raises UnableToProposePolicy for missing or unknown
    figures, and without a reason.
    """
    asset(currency)
    if set(figures) != set(FIGURES):
        raise UnableToProposePolicy(f"A policy has these figures: {', '.join(FIGURES)}.")
    if not reason.strip():
        raise UnableToProposePolicy("Give the reason, for the deciding person.")
    _check_figures(figures)
    for replaced in PolicyProposal.objects.filter(currency=currency, state="proposed"):
        replace(replaced, by=by, at=at, seen=seen)
    row = PolicyProposal(
        currency=currency, terms=dict(figures), reason=reason.strip()[:500], proposed_by=by, proposed_at=at
    )
    return propose(KIND, row, seen=seen)


def _make_version(proposal: PolicyProposal, by: User, at: datetime) -> dict[str, Any]:
    """Make the next version; runs built from now on obey it."""
    _check_figures(proposal.terms)
    policy = PayoutPolicy.objects.create(
        currency=proposal.currency,
        version=terms_in_force(proposal.currency).version + 1,
        created_by_id=proposal.proposed_by_id,
        approved_by=by,
        created_at=at,
        **proposal.terms,
    )
    return {"policy_id": policy.pk}


KIND: ProposalKind[PolicyProposal] = ProposalKind(
    key="policy",
    model=PolicyProposal,
    name="policy",
    heading="Payout policies",
    mail="A payout policy waits for a second person",
    proposers=(MAKER, CHECKER, ADMIN),
    approvers=(CHECKER, ADMIN),
    readers=WITH_COMPLIANCE,
    apply=_make_version,
    refusal=UnableToProposePolicy,
    unique="one_open_proposal_for_a_currency",
    needs_fresh_factor=True,
    rejected_as_approved=True,
    summary=lambda row: row.reason,
    facts=lambda row: [("Version", str(row.policy.version) if row.policy else ""), *changes(row)],
    effect="Runs that are built from now on obey it. Built runs keep their policy.",
    approved=lambda row: "Approved. Runs that are built from now on obey it.",
    page=lambda row: reverse("payouts:policies"),
    parent=("Policies", "payouts:policies"),
    subject=lambda row: f"policy:{row.currency}",
    before=lambda row: terms_in_force(row.currency).as_json(),
    fields=("terms", "reason", "policy_id"),
    related=("policy",),
)
