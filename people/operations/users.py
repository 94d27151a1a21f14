"""Registration of people with a login, and their second factor."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from allauth.account.models import EmailAddress
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from people.actor import audit
from people.models import STAFF_ROLES, ConfirmedFactor, User
from people.presentation import names


class UnableToRegisterUser(Exception):
    status = 422
    problem = "user-refused"


@transaction.atomic
def register_user(*, email: str, password: str, at: datetime, name: str = "", roles: Sequence[str] = ()) -> User:
    """Register a person with an address that is known to be theirs; `roles` are staff groups.

    A person that signs up on the web proves the address by a message in its place. Raises UnableToRegisterUser for an
    unknown role, and for an address that is malformed or registered.
    """
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError as error:
        raise UnableToRegisterUser(f"“{email}” is not an e-mail address.") from error
    if unknown := sorted(set(roles) - set(STAFF_ROLES)):
        raise UnableToRegisterUser(f"There is no role {', '.join(unknown)}; there are {', '.join(STAFF_ROLES)}.")
    if refusal := names.why_not(name.strip()):
        raise UnableToRegisterUser(refusal)
    if User.objects.filter(email=email).exists():
        raise UnableToRegisterUser(f"{email} is already registered.")
    user = User.objects.create_user(email, password, name=names.composed(name), date_joined=at)
    EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    user.groups.set(Group.objects.filter(name__in=roles))
    return user


@transaction.atomic
def rename_user(*, user: User, name: str, at: datetime) -> User:
    """Change a person's own name, with a line in the audit log: the name stands beside their acts.

    Raises UnableToRegisterUser for a name that is empty, too long, or not on one line.
    """
    if refusal := names.why_not(name.strip()):
        raise UnableToRegisterUser(refusal)
    name = names.composed(name)
    if not name or len(name) > 200:
        raise UnableToRegisterUser("A name is one line of 1 to 200 characters.")
    fresh = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    before, fresh.name = fresh.name, name
    fresh.save(update_fields=["name"])
    audit(
        by=fresh,
        action="rename_user",
        subject=f"user:{fresh.pk}",
        at=at,
        before={"name": before},
        after={"name": name},
    )
    return fresh


@transaction.atomic
def enrol_totp(*, user: User, secret: str) -> None:
    """Set up an authenticator app for a person that holds `secret` (base 32); replaces one set up before.

    It counts in the console at once: an invitation or the operator of the machine vouches for it.
    """
    # Both are built when allauth's models are ready, which is after this module.
    from allauth.mfa.models import Authenticator
    from allauth.mfa.totp.internal.auth import TOTP

    Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).delete()
    made = TOTP.activate(user, secret).instance
    # An invitation vouches for it.
    ConfirmedFactor.objects.create(user=user, factor=made.pk, confirmed_at=made.created_at, settles_at=made.created_at)
