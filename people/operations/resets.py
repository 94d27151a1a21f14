"""Second factors of a person that lost phone and recovery codes: removed by two people, never from a shell.

The person then logs in with the password and sets up a new factor. Of staff somebody else confirms it, and it settles
before it moves money (people/operations/factors.py). Payouts wait as after a new bank account (payouts).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.urls import reverse

from people.actor import ADMIN, COMPLIANCE, NOBODY, Actor, Presence
from people.models import FactorReset, User
from people.operations.mail import tell
from people.operations.proposals import propose
from people.presentation import codes
from people.queries.programme import nothing_is_at_stake
from people.queries.proposals import WITH_COMPLIANCE, Facts, ProposalKind

RESETTERS = (ADMIN, COMPLIANCE)
REASON_CHARACTERS_MAX = 500


class UnableToResetFactors(Exception):
    """The person has no second factor, is the proposer, or no reason was given."""

    status = 409
    problem = "factors-not-reset"


def propose_reset(*, user: User, reason: str, by: User, at: datetime, seen: Presence = NOBODY) -> FactorReset:
    """Propose that the second factors and recovery codes of a person go. The person is mailed at once.

    Raises UnableToResetFactors, UnableToAct and UnableToTrustPresence.
    """
    actor = Actor(by, at, seen)
    actor.require_role(*RESETTERS)
    actor.require_fresh_factor()
    if by.person.pk == user.pk:
        raise UnableToResetFactors("Nobody resets their own second factor; somebody else does.")
    if not reason.strip() or len(reason.strip()) > REASON_CHARACTERS_MAX:
        raise UnableToResetFactors(f"Say in 1 to {REASON_CHARACTERS_MAX} characters how the person was recognised.")
    if not _kinds(user):
        raise UnableToResetFactors(f"{user} has no second factor. They log in with the password alone.")
    made = propose(KIND, FactorReset(user=user, reason=reason.strip(), proposed_by=by, proposed_at=at), seen=seen)
    tell(
        user,
        subject="A reset of your second factor was asked for",
        body=f"{by} asked that the second factor and the recovery codes of your account are removed, because you lost "
        "them. A second person decides on it. If you did not ask for this, write to us at once.",
    )
    return made


def _kinds(user: User) -> list[str]:
    # Built when allauth's models are ready, which is after this module.
    from allauth.mfa.models import Authenticator

    return sorted(Authenticator.objects.filter(user=user).values_list("type", flat=True))


def apply_reset(row: FactorReset, by: User, at: datetime) -> dict[str, Any]:
    """Remove every factor and recovery code of the person, start the cool-down of roles, and mail the person."""
    from allauth.mfa.models import Authenticator

    user = User.objects.select_for_update(no_key=True).get(pk=row.user_id)
    Authenticator.objects.filter(user=user).delete()
    if user.is_staff_member and not nothing_is_at_stake():
        user.roles_changed_at = at
        user.save(update_fields=["roles_changed_at"])
    tell(
        user,
        subject="Your second factor was removed",
        body="The second factor and the recovery codes of your account are removed. Log in with your password and set "
        "up a new one. For some days no money moves by it. If you did not ask for this, write to us at once.",
    )
    return {}


def conflict_of(user: User | None, proposed_by: User, by: User) -> str:
    """Say why this person does not decide about a log-in: it is their own, or no administrator is one of the two."""
    if user is not None and by.person.pk == user.pk:
        return "This is about your own account, so somebody else has to decide it."
    if not by.has_role(ADMIN) and not proposed_by.has_role(ADMIN):
        return "One of the two people has to be an administrator."
    return ""


def _facts(row: FactorReset) -> Facts:
    return [
        ("Person", str(row.user)),
        ("E-mail", row.user.email),
        ("Roles", ", ".join(codes.spaced(role) for role in sorted(row.user.role_names)) or "No staff role"),
        ("Recognised by", row.reason),
    ]


KIND: ProposalKind[FactorReset] = ProposalKind(
    key="factor_reset",
    model=FactorReset,
    name="reset of a second factor",
    heading="Lost second factors",
    mail="A reset of a second factor waits for a second person",
    proposers=RESETTERS,
    approvers=RESETTERS,
    readers=WITH_COMPLIANCE,
    apply=apply_reset,
    conflict=lambda row, by: conflict_of(row.user, row.proposed_by, by),
    refusal=UnableToResetFactors,
    unique="one_reset_of_factors_waits",
    equal=lambda row: "A reset of this person's factors is proposed already.",
    needs_fresh_factor=True,
    rejected_as_approved=True,
    title=lambda row: f"Lost second factor of {row.user}",
    summary=lambda row: row.reason,
    facts=_facts,
    effect="Their factors and recovery codes go. They set up a new one, which moves money only after a cool-down.",
    approved=lambda row: f"Removed. {row.user} was mailed and sets up a new second factor.",
    parent=("Staff", "people:staff"),
    page=lambda row: reverse("people:staff"),
    subject=lambda row: f"factor_reset:{row.pk}",
    fields=("reason",),
    related=("user",),
)
