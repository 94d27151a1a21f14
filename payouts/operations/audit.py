"""Who does what: the roles an act needs, how settled they and how fresh the second factor must be, whom it must not be
about, and the line in the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from contributors.models import User
from contributors.operations.deciding import acts_for, too_recent
from payouts.models import AuditEvent, Payout

MAKER, CHECKER, COMPLIANCE, ADMIN = "finance_maker", "finance_checker", "compliance", "admin"
MFA_AGE_SECONDS_MAX = 300


@dataclass(frozen=True)
class Presence:
    """What the interface knows of the person at the keyboard."""

    ip: str | None = None
    mfa_age_seconds: int | None = None
    request_id: str = ""


NOBODY = Presence()


class UnableToAct(Exception):
    """The person lacks the role."""

    status = 403
    problem = "role-missing"


class UnableToTrustPresence(Exception):
    """The second factor is missing or too old for this act."""

    status = 403
    problem = "step-up-needed"


class UnableToActYet(Exception):
    """The person's roles changed too recently to move money."""

    status = 403
    problem = "role-too-recent"


class UnableToActForOneself(Exception):
    """The person acts for the contributor whom it is about."""

    status = 403
    problem = "own-contributor"


def require_role(by: User, *roles: str) -> None:
    if not by.has_role(*roles):
        raise UnableToAct(f"{by} needs one of these roles: {', '.join(roles)}.")


def require_fresh_factor(seen: Presence) -> None:
    if seen.mfa_age_seconds is None or not 0 <= seen.mfa_age_seconds <= MFA_AGE_SECONDS_MAX:
        raise UnableToTrustPresence(
            f"Confirm with your second factor first; it counts for {MFA_AGE_SECONDS_MAX // 60} minutes."
        )


def require_settled_role(by: User, at: datetime) -> None:
    """Refuse an act on money to somebody whose roles changed a short while ago."""
    if refusal := too_recent(by=by, at=at):
        raise UnableToActYet(refusal)


def require_stranger(by: User, contributor_id: int) -> None:
    """Refuse an act about a contributor to who acts for that contributor."""
    if refusal := acts_for(by=by, contributors=[contributor_id]):
        raise UnableToActForOneself(refusal)


def acts_for_payee(by: User, payouts: QuerySet[Payout]) -> str:
    """Why who acts for a payee of these payouts decides nothing about them; "" for who acts for none."""
    own = payouts.filter(contributor__memberships__user=by).values_list("contributor_id", flat=True)
    return acts_for(by=by, contributors=list(own))


def audit(
    *,
    by: User | None,
    action: str,
    subject: str,
    at: datetime,
    seen: Presence = NOBODY,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Write one line of the audit log, in the caller's transaction: it stands exactly when the act does."""
    event = AuditEvent(
        at=at, actor=by, action=action, subject=subject, before=before or {}, after=after or {},
        ip=seen.ip, mfa_age_seconds=seen.mfa_age_seconds, request_id=seen.request_id,
    )  # fmt: skip
    # The trigger sets these; a value is only needed to pass through the driver.
    event.sequence, event.prev_hash, event.hash = 0, b"", b""
    event.save(force_insert=True)
