"""Second factors of staff: confirmed by somebody else, and settled before they move money."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from people.actor import ADMIN, NOBODY, Presence, audit, require_fresh_factor, require_role, require_settled_role
from people.models import ConfirmedFactor, User
from people.queries.programme import nothing_is_at_stake


class UnableToConfirmFactor(Exception):
    """The person has no role or no new factor, or would confirm their own."""

    status = 409
    problem = "factor-not-confirmed"


@transaction.atomic
def confirm_factors(*, user: User, by: User | None, at: datetime, seen: Presence = NOBODY) -> int:
    """Confirm the new second factors of a member of staff. They move money after ROLE_COOL_DOWN_HOURS.

    Without `by` the operator of the machine confirms. Returns the number of factors. Raises UnableToConfirmFactor.
    """
    from people.queries.factors import unconfirmed

    if by is not None:
        require_role(by, ADMIN)
        require_fresh_factor(seen)
        require_settled_role(by, at)
        if by.person.pk == user.person.pk:
            raise UnableToConfirmFactor("Nobody confirms their own second factor; another administrator does.")
    user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if not user.is_staff_member:
        raise UnableToConfirmFactor(f"{user} has no staff role, so that no factor of theirs needs a confirmation.")
    new = unconfirmed(user)
    if not new:
        raise UnableToConfirmFactor(f"{user} has no second factor that waits for a confirmation.")
    settles_at = at if nothing_is_at_stake() else at + timedelta(hours=settings.ROLE_COOL_DOWN_HOURS)
    for factor in new:
        ConfirmedFactor.objects.create(
            user=user, factor=factor.pk, confirmed_by=by, confirmed_at=at, settles_at=settles_at
        )
    audit(
        by=by,
        action="confirm_factors",
        subject=f"user:{user.pk}",
        at=at,
        seen=seen,
        after={"factors": [f"{factor.get_type_display()} {factor.pk}" for factor in new]},
    )
    return len(new)


def vouch_for_factors(*, user: User, at: datetime) -> None:
    """Confirm the factors of a person at once, in the caller's transaction, where another act vouches for them.

    That act is the invitation or the first role that an administrator gives: the cool-down of the role covers them.
    """
    from people.queries.factors import unconfirmed

    for factor in unconfirmed(user):
        ConfirmedFactor.objects.create(user=user, factor=factor.pk, confirmed_by=None, confirmed_at=at, settles_at=at)
