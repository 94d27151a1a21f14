"""The rules of a run: thresholds, maturity, the need for a second approver."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from ledger.money import asset
from payouts.models import PayoutPolicy, PolicyProposal
from payouts.queries.policies import FIGURES, terms_in_force
from people.actor import (
    ADMIN,
    CHECKER,
    MAKER,
    NOBODY,
    Presence,
    audit,
    require_fresh_factor,
    require_role,
    require_settled_role,
)
from people.models import User


class UnableToAdoptPolicy(Exception):
    """A figure of the policy makes no sense, or it lacks a second person."""

    status = 422
    problem = "policy-invalid"


class UnableToDecideProposal(Exception):
    """The proposal is decided already, or the person made it."""

    status = 409
    problem = "proposal-not-decided"


def _check_figures(figures: Mapping[str, Any]) -> None:
    if figures["minimum_minor"] <= 0 or min(figures[name] for name in _DELAYS) < 0:
        raise UnableToAdoptPolicy("The minimum must be positive, and the delays must not be negative.")
    if (figures["second_approval_minor"] or 0) < 0:
        raise UnableToAdoptPolicy("The limit for a second approver must not be negative.")
    for name in ("approval_limit_minor", "daily_approval_minor"):
        if figures[name] is not None and figures[name] <= 0:
            raise UnableToAdoptPolicy("A limit of approvals must be positive, or absent.")


_DELAYS = ("maturity_days", "bank_change_days", "probation_days")


def _require_decider(by: User, at: datetime, seen: Presence) -> None:
    """Hold the person that lifts a limit of approvals to the checks of an approver."""
    require_role(by, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)


@transaction.atomic
def adopt_policy(
    *,
    currency: str,
    minimum_minor: int,
    maturity_days: int,
    by: User,
    approved_by: User,
    at: datetime,
    second_approval_minor: int | None = None,
    bank_change_days: int = 3,
    requires_tax_form: bool = False,
    probation_days: int = 0,
    approval_limit_minor: int | None = None,
    daily_approval_minor: int | None = None,
    seen: Presence = NOBODY,
) -> PayoutPolicy:
    """Make a new version of a currency's policy, by two people; runs built from now on obey it.

    Amounts are minor units of the currency, periods are days. `seen`: `approved_by` at the keyboard. Raises
    UnableToAdoptPolicy where one person is both.
    """
    require_role(by, MAKER, CHECKER, ADMIN)
    _require_decider(approved_by, at, seen)
    if by.pk == approved_by.pk:
        raise UnableToAdoptPolicy("The proposer of a policy does not adopt it; somebody else must.")
    figures = {
        "minimum_minor": minimum_minor,
        "maturity_days": maturity_days,
        "second_approval_minor": second_approval_minor,
        "bank_change_days": bank_change_days,
        "requires_tax_form": requires_tax_form,
        "probation_days": probation_days,
        "approval_limit_minor": approval_limit_minor,
        "daily_approval_minor": daily_approval_minor,
    }
    _check_figures(figures)
    before = terms_in_force(currency)
    policy = PayoutPolicy.objects.create(
        currency=currency, version=before.version + 1, created_by=by, approved_by=approved_by, created_at=at, **figures
    )
    audit(
        by=approved_by,
        action="adopt_policy",
        subject=f"policy:{currency}:{policy.version}",
        at=at,
        seen=seen,
        before=before.as_json(),
        after=terms_in_force(currency).as_json() | {"proposed_by": by.pk},
    )
    return policy


@transaction.atomic
def propose_policy(
    *, currency: str, figures: Mapping[str, Any], reason: str, by: User, at: datetime, seen: Presence = NOBODY
) -> PolicyProposal:
    """Ask for a new version. Nothing changes until somebody else adopts it; a newer proposal replaces an open one.

    Raises UnableToAdoptPolicy for missing or unknown figures, and without a reason.
    """
    require_role(by, MAKER, CHECKER, ADMIN)
    asset(currency)
    if set(figures) != set(FIGURES):
        raise UnableToAdoptPolicy(f"A policy has these figures: {', '.join(FIGURES)}.")
    if not reason.strip():
        raise UnableToAdoptPolicy("Give the reason, for the deciding person.")
    _check_figures(figures)
    PolicyProposal.objects.filter(currency=currency, state=PolicyProposal.State.OPEN).update(
        state=PolicyProposal.State.REFUSED, decided_by=by, decided_at=at
    )
    proposal = PolicyProposal.objects.create(
        currency=currency, terms=dict(figures), reason=reason.strip()[:500], proposed_by=by, proposed_at=at
    )
    audit(
        by=by,
        action="propose_policy",
        subject=f"policy:{currency}",
        at=at,
        seen=seen,
        before=terms_in_force(currency).as_json(),
        after={**figures, "reason": proposal.reason},
    )
    return proposal


@transaction.atomic
def decide_policy(
    *, proposal: PolicyProposal, adopt: bool, by: User, at: datetime, seen: Presence = NOBODY
) -> PolicyProposal:
    """Adopt a proposal, as somebody else than its author, or refuse it.

    Raises UnableToDecideProposal for one decided or replaced already, and where its author adopts it.
    """
    _require_decider(by, at, seen)
    proposal = (
        PolicyProposal.objects.select_for_update(of=("self",), no_key=True)
        .select_related("proposed_by")
        .get(pk=proposal.pk)
    )
    if proposal.state != PolicyProposal.State.OPEN:
        raise UnableToDecideProposal("The proposal has been decided or replaced already.")
    if adopt and proposal.proposed_by_id == by.pk:
        raise UnableToDecideProposal("You made this proposal, so somebody else has to adopt it.")
    proposal.decided_by, proposal.decided_at = by, at
    if adopt:
        proposal.policy = adopt_policy(
            currency=proposal.currency, by=proposal.proposed_by, approved_by=by, at=at, seen=seen, **proposal.terms
        )
    else:
        audit(by=by, action="refuse_policy", subject=f"policy:{proposal.currency}", at=at, seen=seen)
    proposal.state = PolicyProposal.State.ADOPTED if adopt else PolicyProposal.State.REFUSED
    proposal.save(update_fields=["state", "decided_by", "decided_at", "policy"])
    return proposal
