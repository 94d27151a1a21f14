"""Authorise staff actions (role, cool-down, recent second factor, conflict of interest) and log them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.db import transaction

from people.models import AuditEvent, User
from people.presentation import dates
from people.queries.programme import nothing_is_at_stake

MAKER, CHECKER, COMPLIANCE, ADMIN = "finance_maker", "finance_checker", "compliance", "admin"
MODEL_TEAM = "model_team"
MFA_AGE_SECONDS_MAX = 300


@dataclass(frozen=True)
class Presence:
    """The interface's facts about the person at the keyboard."""

    ip: str | None = None
    mfa_age_seconds: int | None = None
    request_id: str = ""


NOBODY = Presence()
PRESENT: ContextVar[Callable[[], Presence] | None] = ContextVar("PRESENT", default=None)
"""Reads the presence from the request in progress; a middleware sets it (people/console/presence.py)."""

P = ParamSpec("P")
R = TypeVar("R")


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
    """Refuse an act to a person outside these staff groups. Raises UnableToAct."""
    if not by.has_role(*roles):
        raise UnableToAct(f"{by} needs one of these roles: {', '.join(roles)}.")


def require_fresh_factor(seen: Presence) -> None:
    """Refuse an act without a second factor of the last minutes. Raises UnableToTrustPresence."""
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
    roles have settled, and while the books are empty and no live Stripe key is set.
    """
    changed_at = User.objects.values_list("roles_changed_at", flat=True).get(pk=by.person.pk)
    ends = changed_at and changed_at + timedelta(hours=settings.ROLE_COOL_DOWN_HOURS)
    if changed_at is None or ends is None or at >= ends or nothing_is_at_stake():
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
    """Write one line of the audit log, in the caller's transaction: committed or rolled back together with the act.

    Without `seen` the line of a person takes the presence of the request in progress, where there is one.
    """
    if by is not None and by.stands_for is not None:
        by, after = by.stands_for, {**(after or {}), "on_trial": "one person did both halves"}
    read = PRESENT.get()
    if by is not None and seen == NOBODY and read is not None:
        seen = read()
    event = AuditEvent(
        at=at,
        actor=by,
        action=action,
        subject=subject,
        before=before or {},
        after=after or {},
        ip=seen.ip,
        mfa_age_seconds=seen.mfa_age_seconds,
        request_id=seen.request_id,
    )
    # The trigger sets these; a value is only needed to pass through the driver.
    event.sequence, event.prev_hash, event.hash = 0, b"", b""
    event.save(force_insert=True)


@dataclass(frozen=True)
class Actor:
    """A member of staff that acts at a moment. Each check raises an error of this module with its sentence."""

    user: User
    at: datetime
    seen: Presence = NOBODY

    def require_role(self, *roles: str) -> None:
        """Raises UnableToAct for a person in none of these staff groups."""
        require_role(self.user, *roles)

    def require_settled_role(self) -> None:
        """Raises UnableToActYet where the roles changed within ROLE_COOL_DOWN_HOURS."""
        require_settled_role(self.user, self.at)

    def require_fresh_factor(self) -> None:
        """Raises UnableToTrustPresence for a second factor that is missing or older than MFA_AGE_SECONDS_MAX."""
        require_fresh_factor(self.seen)

    def require_no_conflict(self, conflict: str) -> None:
        """Raises UnableToActForOneself with the sentence that states the conflict of interest; "" states none."""
        if conflict:
            raise UnableToActForOneself(conflict)

    def log(
        self, action: str, subject: str, *, before: dict[str, Any] | None = None, after: dict[str, Any] | None = None
    ) -> None:
        """Write the act into the audit log, in the caller's transaction."""
        audit(by=self.user, action=action, subject=subject, at=self.at, seen=self.seen, before=before, after=after)


def logged(kind: str, *fields: str, key: str = "pk", before: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Log each successful call of an operation with `by` and `at`, in one transaction with it.

    The operation returns a row, or a tuple that begins with one. The action is the operation's name. The subject is
    `kind` and the row's attribute `key`. `after` keeps the `fields` of the row, `before` the state before the act. A
    call without `by` is no act of a person: it writes no line.
    """

    def decorate(operation: Callable[P, R]) -> Callable[P, R]:
        @wraps(operation)
        def recorded(*arguments: P.args, **options: P.kwargs) -> R:
            by, at = options.get("by"), options.get("at")
            if by is None:
                return operation(*arguments, **options)
            assert isinstance(by, User)
            assert isinstance(at, datetime)
            with transaction.atomic():
                made = operation(*arguments, **options)
                row = made[0] if isinstance(made, tuple) else made
                Actor(by, at).log(
                    operation.__name__,
                    f"{kind}:{read_path(row, key)}",
                    before={"state": before} if before else None,
                    after={name: plain(read_path(row, name)) for name in fields},
                )
            return made

        return recorded

    return decorate


def read_path(row: Any, path: str) -> Any:
    """Read an attribute of a row by a path with dots."""
    for name in path.split("."):
        row = getattr(row, name)
    return row


def plain(value: Any) -> Any:
    """Keep a value that JSON can hold; write any other as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    return str(value)
