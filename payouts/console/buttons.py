"""The buttons that a person sees on a run, and the sentence that stands in place of one that would be refused.

The operation decides again; this only spares a click and explains.
"""

from __future__ import annotations

from dataclasses import dataclass

from payouts.console import ADMIN, CHECKER, COMPLIANCE, MAKER
from payouts.models import Payout, PayoutRun
from payouts.operations.conflicts import acts_for_payee
from people.models import User
from people.queries.programme import on_trial

S = PayoutRun.State


@dataclass(frozen=True, slots=True)
class Buttons:
    submit: bool
    approve: bool
    # The reason for which the reader of a run in review cannot approve it; "" where there is nothing to say.
    approve_not: str
    reject: bool
    cancel: bool
    exclude: bool
    execute: bool
    pause: bool
    resume: bool
    resume_not: str
    reconcile: bool
    close: bool
    rebuild: bool
    take_up: bool


def buttons(run: PayoutRun, user: User) -> Buttons:
    maker = user.has_role(MAKER, ADMIN)
    checker = user.has_role(CHECKER, ADMIN)
    approve_not = why_not_approve(run, user)
    may_resume = user.has_role(COMPLIANCE, ADMIN) if run.is_frozen else user.has_role(MAKER, CHECKER, COMPLIANCE, ADMIN)
    return Buttons(
        submit=run.state == S.DRAFT and maker and run.n_payouts > 0,
        approve=run.state == S.IN_REVIEW and not approve_not,
        approve_not=approve_not,
        reject=run.state in (S.IN_REVIEW, S.APPROVED) and checker,
        cancel=run.state in (S.DRAFT, S.SET_ASIDE, S.IN_REVIEW, S.APPROVED) and maker,
        exclude=run.state in (S.DRAFT, S.IN_REVIEW, S.APPROVED) and maker and run.n_payouts > 1,
        execute=run.state == S.APPROVED and (maker or checker),
        pause=run.state == S.EXECUTING and (maker or checker or user.has_role(COMPLIANCE)),
        resume=run.state == S.PAUSED and may_resume,
        resume_not="Only compliance or an administrator resumes a frozen run."
        if run.is_frozen and not may_resume
        else "",
        reconcile=run.state == S.EXECUTING and (maker or checker) and is_over(run),
        close=run.state == S.RECONCILED and (maker or checker),
        rebuild=run.state == S.REJECTED and maker and not PayoutRun.objects.filter(supersedes=run).exists(),
        take_up=run.state == S.SET_ASIDE and maker,
    )


def is_over(run: PayoutRun) -> bool:
    """Tell whether every payout of the run is at its end: transferred, or held."""
    return not run.payouts.filter(state__in=(*Payout.LIVE, Payout.State.REFUSED)).exists()


def why_not_approve(run: PayoutRun, user: User) -> str:
    """Return the reason for which this person may not approve this run; "" for an eligible approver."""
    if run.state != S.IN_REVIEW:
        return ""
    may_do_both = on_trial()
    if user.pk == run.created_by_id and not may_do_both:
        return "You built this run, so somebody else has to approve it."
    if user.pk == run.last_edited_by_id and not may_do_both:
        return "You changed this run last, so somebody else has to approve it."
    if user.pk == run.approved_by_id:
        return "You have approved it. Its total is above the limit, so a second person has to approve it too."
    if not user.has_role(CHECKER, ADMIN):
        return "Approving takes the role of a finance checker, which you do not have."
    return acts_for_payee(user, run.payouts.all())


def steps(run: PayoutRun) -> list[tuple[str, bool]]:
    """The way of a run in five steps, each with whether the run stands there now."""
    place = {
        S.DRAFT: 0,
        S.CALCULATING: 0,
        S.SET_ASIDE: 0,
        S.IN_REVIEW: 1,
        S.APPROVED: 2,
        S.EXECUTING: 3,
        S.PAUSED: 3,
        S.RECONCILED: 4,
        S.CLOSED: 4,
    }
    names = ["Build", "Review and approve", "Execute", "Follow the transfers", "Reconcile and close"]
    here = place.get(S(run.state), -1)
    return [(name, i == here) for i, name in enumerate(names)]
