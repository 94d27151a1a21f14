"""Second factors of people: the ones that exist, and of staff the ones that somebody else confirmed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from allauth.mfa.models import Authenticator
from django.db.models import Exists, OuterRef, QuerySet

from people.models import ConfirmedFactor, User
from people.presentation import dates
from people.queries.programme import nothing_is_at_stake

SECOND_FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
"""Recovery codes replace a factor; they are none."""


def factors(user: User) -> QuerySet[Authenticator]:
    """List the second factors of a person, the oldest first."""
    found: QuerySet[Authenticator] = Authenticator.objects.filter(user=user, type__in=SECOND_FACTORS).order_by("pk")
    return found


def unconfirmed(user: User) -> list[Authenticator]:
    """List the second factors of a person that nobody else has confirmed, the oldest first."""
    confirmed = ConfirmedFactor.objects.filter(factor=OuterRef("pk"), user=user)
    return list(factors(user).exclude(Exists(confirmed)))


def enrolled(people: Iterable[User]) -> tuple[set[int], set[int]]:
    """Return the numbers of the people with a second factor, and of those with one that nobody else has confirmed."""
    confirmed = ConfirmedFactor.objects.filter(factor=OuterRef("pk"))
    rows = Authenticator.objects.filter(user__in=people, type__in=SECOND_FACTORS).values_list(
        "user_id", Exists(confirmed)
    )
    found = list(rows)
    return {user for user, _ in found}, {user for user, known in found if not known}


def trusted(user: User, *, settled_at: datetime | None = None) -> set[int]:
    """Return the numbers of the factors that count in the console; with `settled_at`, those that move money then.

    A person without a staff role, and everybody while nothing is at stake, needs no confirmation. Recovery codes count
    as long as every factor is confirmed; they never move money.
    """
    rows = Authenticator.objects.filter(user=user)
    if settled_at is not None:
        rows = rows.filter(type__in=SECOND_FACTORS)
    numbers = set(rows.values_list("pk", flat=True))
    if not user.is_staff_member:
        return numbers
    confirmed = ConfirmedFactor.objects.filter(user=user, factor__in=numbers)
    counting = set(
        (confirmed if settled_at is None else confirmed.filter(settles_at__lte=settled_at)).values_list(
            "factor", flat=True
        )
    )
    if settled_at is None and counting and not unconfirmed(user):
        return numbers
    if counting != numbers and nothing_is_at_stake():
        return numbers
    return counting


def waits_for(user: User, *, at: datetime) -> str:
    """Say why a new factor of a member of staff does not count yet; "" where each one counts."""
    if unconfirmed(user):
        return (
            "Your new second factor waits for a confirmation. Ask an administrator to confirm it on the page Staff, or "
            "the operator to run `manage.py confirm_factor`."
        )
    last = ConfirmedFactor.objects.filter(user=user, settles_at__gt=at).order_by("-settles_at").first()
    return f"Your new second factor moves money from {dates.moment(last.settles_at)} on." if last else ""
