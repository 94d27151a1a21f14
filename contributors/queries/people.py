"""Reads of memberships."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.db.models import Count
from django.db.models.functions import Upper

from contributors.models import Contributor, Membership
from people.models import User
from people.presentation import names

_NUMBER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def manages(user: User, contributor: Contributor) -> bool:
    """True when the person may change the contributor's data: an owner or a manager."""
    return Membership.objects.filter(user=user, contributor=contributor, role__in=Membership.MANAGING).exists()


def called(text: str) -> list[Contributor]:
    """Find the contributors that a person means: by a number within the text, else by display name; at most two.

    "Ada" and "Ada, 0190…" both work, so that a form can offer the number where several have one name.
    """
    number = _NUMBER.search(text.lower())
    wanted = {"public_id": number.group()} if number else {"display_name__iexact": names.composed(text)}
    return list(Contributor.objects.filter(**wanted).order_by("pk")[:2])


def labels(contributors: Iterable[Contributor]) -> dict[int, str]:
    """Map each contributor's key to its display name, with its number where another has the same name."""
    given = list(contributors)
    rows = Contributor.objects.annotate(key=Upper("display_name"))
    keys = dict(rows.filter(pk__in=[one.pk for one in given]).values_list("pk", "key"))
    named = rows.filter(key__in=set(keys.values())).values("key").annotate(n=Count("pk"))
    shared = set(named.filter(n__gt=1).values_list("key", flat=True))
    return {
        one.pk: f"{one.display_name}, {one.public_id}" if keys[one.pk] in shared else one.display_name for one in given
    }
