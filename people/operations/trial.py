"""One person tries the programme out: the mode in which they may do both halves of a two-person act.

A stand-in row takes the second half, so that every rule about two people stays as it is, in the database too. The row
cannot log in, and the database refuses to make one outside the mode. The audit log names the real person, and marks
the act.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.contrib.auth.models import Group
from django.db import DatabaseError, transaction

from people.actor import ADMIN, NOBODY, Presence, audit, require_fresh_factor, require_role, require_settled_role
from people.models import STAFF_ROLES, User
from people.operations.programme import locked_programme
from people.queries.programme import books_are_empty, has_live_key, on_trial

TRIAL_ROLES = tuple(role for role in STAFF_ROLES if role != "auditor")


class UnableToTryOut(Exception):
    """A live key is set or was used, the books are not empty, or the mode is on or off already."""

    status = 409
    problem = "trial-refused"


@transaction.atomic
def begin_trial(*, person: User, at: datetime, by: User | None = None, seen: Presence = NOBODY) -> None:
    """Turn the mode on, and give the person every role that acts. Without `by` the operator of the machine does it.

    Raises UnableToTryOut: with a live Stripe key set or ever used, with an entry in the books, or on already.
    """
    _check(by, at, seen)
    row = locked_programme()
    if row.on_trial:
        raise UnableToTryOut("The mode is on already.")
    if has_live_key() or row.live_key_at is not None:
        raise UnableToTryOut("A live Stripe key is set or was used here; nobody tries out with real money.")
    if not books_are_empty():
        raise UnableToTryOut("The books are not empty. Try out on an installation of its own.")
    row.on_trial = True
    try:
        with transaction.atomic():
            row.save(update_fields=["on_trial"])
    except DatabaseError as error:
        raise UnableToTryOut(str(error).splitlines()[0]) from error
    person.groups.add(*Group.objects.filter(name__in=TRIAL_ROLES))
    after = {"on_trial": True, "person": person.email, "roles": sorted(TRIAL_ROLES)}
    audit(by=by, action="begin_trial", subject="programme:1", at=at, seen=seen, after=after)


@transaction.atomic
def end_trial(*, at: datetime, by: User | None = None, seen: Presence = NOBODY) -> None:
    """Turn the mode off: from then on two people decide. Roles stay; the acts of the mode stay marked.

    Raises UnableToTryOut where it is off.
    """
    _check(by, at, seen)
    row = locked_programme()
    if not row.on_trial:
        raise UnableToTryOut("The mode is off already.")
    row.on_trial = False
    row.save(update_fields=["on_trial"])
    audit(by=by, action="end_trial", subject="programme:1", at=at, seen=seen, after={"on_trial": False})


def _check(by: User | None, at: datetime, seen: Presence) -> None:
    if by is not None:
        require_role(by, ADMIN)
        require_fresh_factor(seen)
        require_settled_role(by, at)


def second_half(by: User, first: Collection[int | None]) -> User:
    """The person that decides, given the people of the first half: in the mode, their stand-in where they are one.

    Outside the mode it is always `by`, and the rule about two people refuses them.
    """
    if by.pk not in first or not on_trial():
        return by
    made, _ = User.objects.get_or_create(
        stands_for=by,
        defaults={
            "email": f"second-half-of-{by.pk}@trial.invalid",
            "name": f"{by} (second half, on trial)"[:200],
            "password": "!",
            "is_active": False,
        },
    )
    return made
