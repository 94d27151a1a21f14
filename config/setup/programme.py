"""Checks of the programme: its people, its rules, its models."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from attribution.models import AttributionIndex, ModelService, ModelVersion, ServiceKey
from config.setup.steps import Finding
from contributors.models import Contributor, Work
from ledger.models import Period, RoyaltyPlan
from payouts.models import PayoutPolicy
from people.models import Invitation, User
from people.operations.invitations import OPEN
from people.queries.programme import programme

State = AttributionIndex.State


def administrator(at: datetime) -> Finding:
    people = _staff(["admin"])
    if not people:
        return Finding("to do", "Nobody administers this installation.")
    return Finding("done", f"{', '.join(str(person) for person in people[:3])}.")


def staff(at: datetime) -> Finding:
    """One person proposes and another approves: a maker and a checker that are not the same person."""
    makers, checkers = set(_staff(["finance_maker"])), set(_staff(["finance_checker"]))
    invited = Invitation.objects.filter(OPEN, purpose="staff", expires_at__gt=at).exclude(email="").count()
    waits = f" {invited} invitations wait." if invited else ""
    if makers and checkers and len(makers | checkers) > 1:
        return Finding("done", f"{len(makers)} propose and {len(checkers)} approve.{waits}")
    if programme().on_trial and makers | checkers | set(_staff(["admin"])):
        return Finding("note", f"One person does both halves, because they only try it out.{waits}")
    lacking = [name for name, people in (("maker", makers), ("checker", checkers)) if not people]
    words = f"No finance {' and no finance '.join(lacking)}." if lacking else "One person is both maker and checker."
    return Finding("to do", f"{words} Two people are needed.{waits}")


def legal_entity(at: datetime) -> Finding:
    row = programme()
    if not row.legal_name or not row.address or not row.country:
        return Finding("to do", "Statements and remittances do not name the payer yet.")
    number = f"Tax number {row.tax_number}." if row.tax_number else "No tax number is entered; papers show none."
    return Finding("done", f"{row.legal_name}, {', '.join(row.address_lines)}, {row.country}. {number}")


def plan(at: datetime) -> Finding:
    plans = RoyaltyPlan.objects.filter(state="approved", effective_from__lte=at)
    if found := sorted({plan.currency for plan in plans}):
        return Finding("done", f"In force for {', '.join(found)}.")
    if RoyaltyPlan.objects.filter(state="proposed").exists():
        return Finding("to do", "A plan is proposed and waits for another person.")
    return Finding("to do", "No plan is in force: generations earn nothing and are refused.")


def policy(at: datetime) -> Finding:
    found = PayoutPolicy.objects.order_by("currency").values_list("currency", flat=True).distinct()
    if found:
        return Finding("done", f"In force for {', '.join(found)}.")
    return Finding("to do", "The figures as shipped hold; two people choose your own.")


def service(at: datetime) -> Finding:
    count = ModelService.objects.filter(active=True).count()
    keys = ServiceKey.objects.in_force(at).count()
    if not count:
        return Finding("to do", "No service is registered.")
    if not keys:
        return Finding("to do", f"{count} registered, without a key: it cannot report.")
    return Finding("done", f"{count} registered, {keys} keys in force.")


def contributors(at: datetime) -> Finding:
    people, works = Contributor.objects.count(), Work.objects.count()
    if not people:
        return Finding("to do", "No contributor is registered.")
    return Finding("done" if works else "to do", f"{people} contributors, {works} works.")


def model(at: datetime) -> Finding:
    count = ModelVersion.objects.filter(state="ready").count()
    if not count:
        waiting = ModelVersion.objects.filter(state="registered").count()
        return Finding("to do", f"{waiting} registered without a manifest." if waiting else "No model is registered.")
    return Finding("done", f"{count} with a training manifest.")


def index(at: datetime) -> Finding:
    if count := _indexes([State.BUILT, State.AUDITED, State.FAILED]):
        return Finding("done", f"{count} built.")
    if AttributionIndex.objects.filter(state=State.BUILDING).exists():
        return Finding("to do", "An index is being built.")
    return Finding("to do", "No index is built: generations wait.")


def evaluation(at: datetime) -> Finding:
    if count := _indexes([State.AUDITED]):
        return Finding("done", f"{count} passed its evaluation.")
    if _indexes([State.FAILED]):
        return Finding("note", "An evaluation failed: that index pays nothing by attribution.")
    return Finding("to do", "No index is evaluated: nothing is paid by attribution.")


def period(at: datetime) -> Finding:
    if Period.objects.filter(state="open").exists():
        return Finding("done", "A month is open for earnings.")
    return Finding("to do", "No month is open; the beat opens one within the hour.")


def _staff(roles: Collection[str]) -> list[User]:
    return list(User.objects.filter(groups__name__in=roles, is_active=True).distinct().order_by("pk"))


def _indexes(states: Collection[str]) -> int:
    return AttributionIndex.objects.filter(state__in=states).count()
