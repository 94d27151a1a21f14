"""Royalty plans: proposed by one person, adopted by another, in effect from a date on, never changed after."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Max

from contributors.operations.deciding import why_not_decide
from ledger import journal
from ledger.models import Period, Refusal, RoyaltyPlan, period_of, utc_date
from ledger.money import ASSETS
from ledger.operations.contracts import broken_rules
from people.actor import lacks_role, logged
from people.models import User

PROPOSERS = ("finance_maker", "finance_checker")
ADOPTERS = ("finance_checker",)
TERMS = (
    "basis", "price", "rate_ppb", "pool", "pool_service", "take_ppb", "floor_ppb", "floor_rule", "general_ppb",
    "cap_ppb", "unattributable", "note",
)  # fmt: skip


class UnableToProposePlan(Exception):
    """The terms contradict each other or the ledger."""

    status = 422
    problem = "plan-invalid"


class UnableToAdoptPlan(Exception):
    """The plan may not take effect: four eyes, its date, or another plan stand against it."""

    status = 409
    problem = "plan-not-adoptable"


@logged("plan", "currency", "version", "effective_from", "state")
def propose_plan(
    *, by: User, currency: str, effective_from: datetime, at: datetime, terms: Mapping[str, Any]
) -> RoyaltyPlan:
    """Write down a new version of the currency's plan. `terms` are RoyaltyPlan's fields (see TERMS); it moves nothing
    until it is adopted.

    Raises UnableToProposePlan with the rule that is broken, or the role that lacks.
    """
    if refusal := lacks_role(by=by, roles=PROPOSERS):
        raise UnableToProposePlan(refusal)
    if currency not in ASSETS:
        raise UnableToProposePlan(f"The ledger keeps no currency {currency!r}.")
    if unknown := terms.keys() - set(TERMS):
        raise UnableToProposePlan(f"A plan has no {', '.join(sorted(unknown))}.")
    utc_date(effective_from)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger plans'))")
        last = RoyaltyPlan.objects.filter(currency=currency).aggregate(Max("version"))["version__max"] or 0
        plan = RoyaltyPlan(
            currency=currency,
            version=last + 1,
            effective_from=effective_from,
            proposed_by=by,
            proposed_at=at,
            **terms,
        )
        try:
            plan.full_clean(validate_unique=False)
        except ValidationError as error:
            raise UnableToProposePlan(broken_rules(error)) from error
        plan.save(force_insert=True)
    return plan


@logged("plan", "currency", "version", "effective_from", "state", before="proposed")
def adopt_plan(*, plan: RoyaltyPlan, by: User, at: datetime) -> RoyaltyPlan:
    """Let a proposed plan take effect from its date on. Generations that were refused for want of it are tried again.

    Raises UnableToAdoptPlan: adopted by its proposer or without the role; dated in a period that is closing or closed;
    a later date of effect is adopted already; generations since its date are accrued under another plan.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Not while a sweep accrues: it must not meet two plans in one batch.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger accrue'))")
        fresh = RoyaltyPlan.objects.select_for_update(no_key=True).get(pk=plan.pk)
        if fresh.state != RoyaltyPlan.State.PROPOSED:
            words = "in effect already" if fresh.state == RoyaltyPlan.State.EFFECTIVE else "rejected"
            raise UnableToAdoptPlan(f"{fresh} is {words}.")
        if fresh.proposed_by_id == by.pk:
            raise UnableToAdoptPlan("A plan is adopted by somebody else than its proposer.")
        if refusal := why_not_decide(by=by, roles=ADOPTERS, at=at):
            raise UnableToAdoptPlan(refusal)
        # No month begins to close meanwhile.
        journal.hold_still()
        settled = Period.objects.exclude(state=Period.State.OPEN)
        month = settled.filter(pk__gte=period_of(utc_date(fresh.effective_from))).order_by("id").first()
        if month is not None:
            raise UnableToAdoptPlan(f"Period {month} is {month.state}; old periods keep their plan.")
        _refuse_if_accrued(fresh)
        fresh.state, fresh.decided_by, fresh.decided_at = RoyaltyPlan.State.EFFECTIVE, by, at
        try:
            with transaction.atomic():
                fresh.save(update_fields=["state", "decided_by", "decided_at"])
        except IntegrityError as error:
            raise UnableToAdoptPlan(f"Another {fresh.currency} plan takes effect at the same moment.") from error
        Refusal.objects.filter(
            withdrawn_at__isnull=True,
            reason__in=[Refusal.Reason.NO_PLAN, Refusal.Reason.CURRENCY_LACKING],
            generation__currency=fresh.currency,
            generation__occurred_at__gte=fresh.effective_from,
        ).update(withdrawn_at=at)
    return fresh


@logged("plan", "currency", "version", "state", before="proposed")
def reject_plan(*, plan: RoyaltyPlan, by: User, at: datetime) -> RoyaltyPlan:
    """Turn a proposal down; its proposer may do so too. It stays on record, and its number is not used again."""
    with transaction.atomic():
        fresh = RoyaltyPlan.objects.select_for_update(no_key=True).get(pk=plan.pk)
        if fresh.state != RoyaltyPlan.State.PROPOSED:
            raise UnableToAdoptPlan(f"{fresh} is decided already.")
        if refusal := lacks_role(by=by, roles=PROPOSERS):
            raise UnableToAdoptPlan(refusal)
        fresh.state, fresh.decided_by, fresh.decided_at = RoyaltyPlan.State.REJECTED, by, at
        fresh.save(update_fields=["state", "decided_by", "decided_at"])
    return fresh


def _refuse_if_accrued(plan: RoyaltyPlan) -> None:
    later = RoyaltyPlan.objects.filter(
        currency=plan.currency, state=RoyaltyPlan.State.EFFECTIVE, effective_from__gt=plan.effective_from
    )
    if later.exists():
        raise UnableToAdoptPlan(f"{later.first()} takes effect later and is adopted already.")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT g.id FROM attribution_generation g JOIN ledger_accrual d ON d.generation_id = g.id"
            " WHERE g.occurred_at >= %s AND g.currency = %s LIMIT 1",
            [plan.effective_from, plan.currency],
        )
        if cursor.fetchone():
            raise UnableToAdoptPlan(
                f"Generations since {plan.effective_from:%Y-%m-%d %H:%M} are accrued under another plan."
            )


def plan_at(*, currency: str, at: datetime) -> RoyaltyPlan | None:
    """The plan in effect for a generation of this currency that occurred at this moment."""
    plans = RoyaltyPlan.objects.filter(currency=currency, state=RoyaltyPlan.State.EFFECTIVE, effective_from__lte=at)
    return plans.order_by("-effective_from").first()
