"""The accounts in which a person has an interest: those of their memberships, and all that are linked to them."""

from __future__ import annotations

from django.db import connection

from people.models import User


def accounts_of(user: User) -> frozenset[int]:
    """Return the ids of the contributors that the person acts for, in any role, and of all that are linked to them.

    Links in force count as they stand now, in a chain of any length.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT contributors_accounts_of(%s)", [user.pk])
        return frozenset(number for (number,) in cursor.fetchall())
