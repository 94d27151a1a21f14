"""The world of the payout tests, in a browser: the user logged in, and the age of the second factor."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.test import Client

from contributors.models import Contributor
from people.models import User
from people.operations.users import enrol_totp

TOTP_SECRET = "JBSWY3DPEHPK3PXP"
LogIn = Callable[..., Client]


@pytest.fixture
def at() -> datetime:
    """The pages read the clock, so the world takes place now."""
    return datetime.now(UTC)


@pytest.fixture
def log_in() -> LogIn:
    """`log_in(user)`: a browser in which the user has just used a password and, where enrolled, the second factor.

    `factor_age` is the age in seconds of the second factor's use; None for a session in which it was not used.
    """

    def browser(user: User, *, factor_age: float | None = 0.0, enrol: bool = True) -> Client:
        if enrol and user.groups.exists() and not Authenticator.objects.filter(user=user).exists():
            enrol_totp(user=user, secret=TOTP_SECRET)
        client = Client()
        client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[0])
        session = client.session
        records: list[dict[str, Any]] = [{"method": "password", "at": time.time() - (factor_age or 0.0)}]
        authenticator = Authenticator.objects.filter(user=user).first()
        if authenticator is not None and factor_age is not None:
            records.append({"method": "mfa", "at": time.time() - factor_age, "id": authenticator.pk, "type": "totp"})
        session[AUTHENTICATION_METHODS_SESSION_KEY] = records
        session["account_authentication_methods_user"] = str(user.pk)
        session.save()
        return client

    return browser


def member_of(contributor: Contributor) -> User:
    """Register a user that acts for this contributor alone."""
    from contributors.operations.people import add_member
    from people.operations.users import register_user

    user = register_user(
        email=f"member{contributor.pk}@example.org", password="a long enough one", at=contributor.created_at
    )
    add_member(contributor=contributor, user=user, role="manager", at=contributor.created_at)
    return user


def words_of(response: Any) -> str:
    """Return the page's text as a reader sees it, without markup, spaces folded."""
    import html
    import re

    text = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    return re.sub(r"\s+", " ", text)
