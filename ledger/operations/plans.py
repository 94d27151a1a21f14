"""Royalty plans: proposed by one person, approved by another, in effect from a date on, never changed after."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import F, Max, Q, QuerySet
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from ledger import journal
from ledger.models import Period, Refusal, RoyaltyPlan, period_of, utc_date
from ledger.money import ASSETS, asset
from ledger.operations.contracts import broken_rules
from people.models import User
from people.operations.proposals import UnableToDecide, propose
from people.presentation import amounts, dates, percent
from people.queries.proposals import Facts, ProposalKind

TERMS = (
    "service", "model_version",
    "basis", "price", "rate_ppb", "pool", "pool_service", "take_ppb", "floor_ppb", "floor_rule", "general_ppb",
    "cap_ppb", "unattributable", "note",
)  # fmt: skip


# Refusals that rest on the plan of a generation: another plan may take it.
BY_PLAN = (
    Refusal.Reason.NO_PLAN,
    Refusal.Reason.CURRENCY_LACKING,
    Refusal.Reason.GROSS_MISSING,
    Refusal.Reason.GROSS_FORBIDDEN,
    Refusal.Reason.GROSS_TOO_SMALL,
    Refusal.Reason.NOT_CHARGED,
)


class UnableToProposePlan(Exception):
    """The terms contradict each other or the ledger."""

    status = 422
    problem = "plan-invalid"


def propose_plan(
    *, by: User, currency: str, effective_from: datetime, at: datetime, terms: Mapping[str, Any]
) -> RoyaltyPlan:
    """Write down a new version of the currency's plan. `terms` are RoyaltyPlan's fields (see TERMS); it moves nothing
    until it is approved.

    Raises UnableToProposePlan with the rule that is broken, or the role that lacks.
    """
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
        _refuse_ambiguity(plan)
        return propose(KIND, plan)


def _hold_accruals(plan: RoyaltyPlan) -> None:
    """Keep sweeps out until commit: one must not meet two plans in a batch."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger accrue'))")


def _take_effect(plan: RoyaltyPlan, by: User, at: datetime) -> dict[str, Any]:
    """Let the plan take effect from its date on. Generations that were refused for want of it are tried again.

    Raises UnableToDecide: dated in a period that is closing or closed; an equal or later date of effect is approved
    already; generations since its date are accrued under another plan.
    """
    # No month begins to close meanwhile.
    journal.hold_still()
    settled = Period.objects.exclude(state=Period.State.OPEN)
    month = settled.filter(pk__gte=period_of(utc_date(plan.effective_from))).order_by("id").first()
    if month is not None:
        raise UnableToDecide(f"Period {month} is {month.state}; old periods keep their plan.")
    _refuse_if_accrued(plan)
    refused = Refusal.objects.filter(
        withdrawn_at__isnull=True,
        reason__in=BY_PLAN,
        generation__currency=plan.currency,
        generation__occurred_at__gte=plan.effective_from,
    )
    if plan.service_id is not None:
        refused = refused.filter(generation__service=plan.service_id)
    if plan.model_version_id is not None:
        refused = refused.filter(generation__model_version=plan.model_version_id)
    refused.update(withdrawn_at=at)
    return {}


def _same_scope(plan: RoyaltyPlan) -> QuerySet[RoyaltyPlan]:
    """The other plans of the plan's currency that hold for the same services and models."""
    return RoyaltyPlan.objects.filter(
        currency=plan.currency, service=plan.service_id, model_version=plan.model_version_id
    ).exclude(pk=plan.pk)


def _refuse_ambiguity(plan: RoyaltyPlan) -> None:
    """Refuse a plan that would price the same generations as another one from the same moment on.

    Plans of different scopes never compete: the more specific one prices. A model version belongs to its service.
    """
    if plan.model_version is not None and plan.model_version.service_id != plan.service_id:
        raise UnableToProposePlan(f"{plan.model_version} is no model of {plan.service or 'all services'}.")
    same = _same_scope(plan).filter(effective_from=plan.effective_from, state=RoyaltyPlan.State.APPROVED)
    if (other := same.first()) is not None:
        raise UnableToProposePlan(
            f"{other} takes effect at the same moment for {plan.scope}, so nobody could tell the price. "
            "Choose another date or another scope."
        )


def _refuse_if_accrued(plan: RoyaltyPlan) -> None:
    later = _same_scope(plan).filter(state=RoyaltyPlan.State.APPROVED, effective_from__gte=plan.effective_from)
    if (other := later.order_by("-effective_from").first()) is not None:
        if other.effective_from == plan.effective_from:
            raise UnableToDecide(f"Another {plan.currency} plan takes effect at the same moment.")
        raise UnableToDecide(f"{other} takes effect later and is approved already.")
    with connection.cursor() as cursor:
        cursor.execute(
            # A generation under a more specific plan keeps it.
            "SELECT g.id FROM attribution_generation g JOIN ledger_accrual d ON d.generation_id = g.id"
            " JOIN ledger_royaltyplan p ON p.id = d.plan_id"
            " WHERE g.occurred_at >= %(since)s AND g.currency = %(currency)s"
            " AND (%(service)s::bigint IS NULL OR g.service_id = %(service)s)"
            " AND (%(model)s::bigint IS NULL OR g.model_version_id = %(model)s)"
            " AND num_nonnulls(p.service_id, p.model_version_id) <= %(specificity)s LIMIT 1",
            {
                "since": plan.effective_from,
                "currency": plan.currency,
                "service": plan.service_id,
                "model": plan.model_version_id,
                "specificity": plan.specificity,
            },
        )
        if cursor.fetchone():
            raise UnableToDecide(
                f"Generations since {plan.effective_from:%Y-%m-%d %H:%M} are accrued under another plan."
            )


def plan_at(
    *, currency: str, at: datetime, service_id: int | None = None, model_version_id: int | None = None
) -> RoyaltyPlan | None:
    """The plan in effect for a generation of this currency, service and model version that occurred at this moment.

    Without a service it is the general one.
    """
    plans = RoyaltyPlan.objects.filter(
        Q(service__isnull=True) | Q(service=service_id),
        Q(model_version__isnull=True) | Q(model_version=model_version_id),
        currency=currency,
        state=RoyaltyPlan.State.APPROVED,
        effective_from__lte=at,
    )
    return plans.order_by(
        F("model_version").desc(nulls_last=True), F("service").desc(nulls_last=True), "-effective_from"
    ).first()


def _facts(plan: RoyaltyPlan) -> Facts:
    currency = asset(plan.currency)
    floor = percent.html(plan.floor_ppb)
    payer = str(plan.pool_service or "the programme")
    basis = [
        str(plan.get_basis_display()).capitalize(),
        amounts.html(plan.price, currency) if plan.price else "",
        percent.html(plan.rate_ppb) if plan.rate_ppb else "",
        amounts.html(plan.pool, currency) if plan.pool else "",
        f"paid by {payer}" if plan.basis == RoyaltyPlan.Basis.PERIOD_POOL else "",
    ]
    return [
        ("Holds for", plan.scope),
        ("Basis", format_html_join(", ", "{}", ((part,) for part in basis if part))),
        ("Platform take", format_html("{} of the gross", percent.html(plan.take_ppb))),
        ("Base part", format_html("{} of the pool, divided {}", floor, plan.get_floor_rule_display())),
        ("By general shares", format_html("{} of the direct pool", percent.html(plan.general_ppb))),
        ("Cap on the base pool", format_html("{} for one contributor", percent.html(plan.cap_ppb))),
        ("Not attributable", str(plan.get_unattributable_display()).capitalize()),
        ("Effective from", dates.moment_html(plan.effective_from)),
        ("Note", plan.note),
    ]


KIND = ProposalKind(
    key="plan",
    model=RoyaltyPlan,
    name="plan",
    heading="Royalty plans",
    mail="A royalty plan waits for a second person",
    apply=_take_effect,
    lock=_hold_accruals,
    refusal=UnableToProposePlan,
    unique="an_equal_plan_is_proposed_once_at_a_time",
    summary=lambda row: row.note or f"By {row.get_basis_display()}, from {dates.utc_day(row.effective_from)}.",
    facts=_facts,
    effect="An approved plan is never changed. Look at a preview first: the plan divides people's money.",
    approved=lambda row: f"Approved. {row} takes effect on {dates.utc_day(row.effective_from)}.",
    page=lambda row: reverse("ledger:plan", args=[row.pk]),
    parent=("Royalty plans", "ledger:plans"),
    subject=lambda row: f"plan:{row.pk}",
    fields=("currency", "version", "service_id", "model_version_id", "effective_from"),
    related=("pool_service", "service", "model_version"),
)
