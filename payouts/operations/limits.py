"""The limits of a policy on one person's approvals."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from django.db.models import Q, Sum

from ledger.money import asset
from payouts.models import PayoutRun
from payouts.queries.policies import terms_in_force
from people.models import User
from people.presentation import amounts


class UnableToApproveThatMuch(Exception):
    """More than one person may approve, at once or in a day."""

    status = 403
    problem = "approval-limit"


def require_within_limits(run: PayoutRun, by: User, at: datetime) -> None:
    """Check the policy's limits of one person: in one approval, and in one UTC day.

    Raises UnableToApproveThatMuch where the run exceeds either.
    """
    terms = terms_in_force(run.currency)
    if terms.approval_limit_minor is not None and run.total_minor > terms.approval_limit_minor:
        raise UnableToApproveThatMuch(
            f"One person approves at most {_money(terms.approval_limit_minor, run.currency)} at once. Split the run."
        )
    if terms.daily_approval_minor is None:
        return
    # Two approvals of one person at the same moment are counted one after the other.
    User.objects.select_for_update(no_key=True).get(pk=by.pk)
    begins = datetime.combine(at.astimezone(UTC).date(), time.min, UTC)
    mine = Q(approved_by=by, approved_at__gte=begins, approved_at__lt=begins + timedelta(days=1)) | Q(
        second_approved_by=by, second_approved_at__gte=begins, second_approved_at__lt=begins + timedelta(days=1)
    )
    approved = PayoutRun.objects.filter(mine, currency=run.currency).exclude(pk=run.pk)
    sum_minor = approved.aggregate(sum=Sum("total_minor"))["sum"] or 0
    if sum_minor + run.total_minor > terms.daily_approval_minor:
        raise UnableToApproveThatMuch(
            f"One person approves at most {_money(terms.daily_approval_minor, run.currency)} in a day; you have "
            f"approved {_money(sum_minor, run.currency)} today. Somebody else can approve this run."
        )


def _money(minor: int, currency: str) -> str:
    return amounts.text_of_minor(minor, asset(currency))
