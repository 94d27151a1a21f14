"""Authorise staff actions (role, cool-down, recent second factor, conflict of interest) and log them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from people.models import AuditEvent, User
from people.presentation import dates

MAKER, CHECKER, COMPLIANCE, ADMIN = "finance_maker", "finance_checker", "compliance", "admin"
MFA_AGE_SECONDS_MAX = 300


@dataclass(frozen=True)
class Presence:
    """The interface's facts about the person at the keyboard."""

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
    """The person acts for the contributor that the act is about."""

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
    """Refuse an act on money to a person with roles that changed a short while ago. Raises UnableToActYet."""
    if refusal := too_recent(by=by, at=at):
        raise UnableToActYet(refusal)


def lacks_role(*, by: User, roles: Collection[str]) -> str:
    """The reason that refuses this to a person outside these staff groups; "" for a member of one."""
    return "" if by.has_role(*roles) else f"This takes the role {' or '.join(roles)}."


def too_recent(*, by: User, at: datetime) -> str:
    """The reason that keeps a person from moving money within ROLE_COOL_DOWN_HOURS after a change of roles; "" once the
    roles have settled.
    """
    changed_at = User.objects.values_list("roles_changed_at", flat=True).get(pk=by.pk)
    ends = changed_at and changed_at + timedelta(hours=settings.ROLE_COOL_DOWN_HOURS)
    if changed_at is None or ends is None or at >= ends:
        return ""
    return f"Your roles changed on {dates.moment(changed_at)}; you can do this from {dates.moment(ends)}."


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
    """Write one line of the audit log, committed or rolled back together with the act."""
    event = AuditEvent(
        at=at, actor=by, action=action, subject=subject, before=before or {}, after=after or {},
        ip=seen.ip, mfa_age_seconds=seen.mfa_age_seconds, request_id=seen.request_id,
    )  # fmt: skip
    # The trigger sets these; a value is only needed to pass through the driver.
    event.sequence, event.prev_hash, event.hash = 0, b"", b""
    event.save(force_insert=True)
