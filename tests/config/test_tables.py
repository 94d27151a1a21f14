"""The window on the tables: nothing can be written through it, and no secret is read there."""

from __future__ import annotations

from datetime import datetime

import pytest
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client

from people.admin import ReadOnlyAdmin
from people.models import User
from tests.worlds import people


def test_every_table_of_the_window_is_read_only() -> None:
    pages = admin.site._registry.items()
    assert pages
    assert [model.__name__ for model, page in pages if not isinstance(page, ReadOnlyAdmin)] == []


@pytest.mark.django_db
def test_not_even_a_superuser_writes_roles_addresses_or_factors_or_reads_their_secrets(
    client: Client, at: datetime
) -> None:
    user = people.user("root@example.org", at, ("admin",), second_factor=True)
    User.objects.filter(pk=user.pk).update(is_superuser=True, is_staff=True)
    people.log_in(client, "root@example.org", code=people.totp_code)
    assert client.get("/console/tables/").status_code == 200
    factor, group = Authenticator.objects.get(user=user), Group.objects.get(name="auditor")
    for address in (
        f"/console/tables/mfa/authenticator/{factor.pk}/change/",
        "/console/tables/mfa/authenticator/",
        f"/console/tables/mfa/authenticator/{factor.pk}/delete/",
        "/console/tables/account/emailaddress/add/",
        f"/console/tables/auth/group/{group.pk}/change/",
        "/console/tables/auth/group/add/",
    ):
        assert client.get(address).status_code in {403, 404}, address
        assert client.post(address, {"name": "finance_checker", "post": "yes"}).status_code in {403, 404}, address
    group.refresh_from_db()
    assert group.name == "auditor"
    assert Authenticator.objects.filter(user=user).count() == 1


def test_the_names_of_tables_are_right_plurals() -> None:
    names = {str(model._meta.verbose_name_plural) for model in admin.site._registry}
    assert {"attribution indexes", "entries", "payout policies", "duplicate pairs", "skipped payees"} <= names
    wrong = {name for name in names if name.endswith(("ys", "xs", "chs", "shs")) and not name.endswith(("ays", "eys"))}
    assert wrong == set()
