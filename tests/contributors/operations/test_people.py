"""Registering people and contributors, members and split sheets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group
from django.db import Error, IntegrityError, connection, transaction

from contributors.models import PPB, Contributor, Holder, Membership, Split
from contributors.operations.people import (
    UnableToRecordSplitSheet,
    UnableToRegisterContributor,
    add_member,
    record_split_sheet,
    register_contributor,
    register_holder,
)
from contributors.queries import splits
from people.models import STAFF_ROLES, User
from people.operations.users import UnableToRegisterUser, enrol_totp, register_user
from tests.worlds import people

pytestmark = pytest.mark.django_db


def check_constraints_now(after: Callable[[], object] = bool) -> None:
    """Run the checks that otherwise wait for the commit."""
    after()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def test_the_migration_makes_every_staff_group() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(STAFF_ROLES)


def test_a_registered_user_has_a_confirmed_address_and_the_given_roles(at: datetime) -> None:
    user = register_user(email=" Fay@Example.org ", password=people.PASSWORD, at=at, roles=["finance_maker"])
    assert user.email == "fay@example.org"
    assert user.has_role("finance_maker", "auditor")
    assert not user.has_role("finance_checker")
    assert user.is_staff_member
    assert EmailAddress.objects.filter(user=user, verified=True, primary=True).exists()
    user.is_active = False
    assert not user.has_role("finance_maker")


def test_a_superuser_has_no_role_by_being_one() -> None:
    assert not User.objects.create_superuser("root@example.org", people.PASSWORD).has_role(*STAFF_ROLES)


def test_a_second_factor_replaces_the_one_before(at: datetime) -> None:
    user = people.user("fay@example.org", at, second_factor=True)
    enrol_totp(user=user, secret=people.SECRET)
    assert Authenticator.objects.filter(user=user).count() == 1


@pytest.mark.parametrize(
    ("email", "roles", "said"),
    [("nonsense", (), "not an e-mail"), ("ok@example.org", ("emperor",), "no role emperor")],
)
def test_a_user_is_refused_with_the_reason(email: str, roles: tuple[str, ...], said: str, at: datetime) -> None:
    with pytest.raises(UnableToRegisterUser, match=said):
        register_user(email=email, password=people.PASSWORD, at=at, roles=roles)


def test_an_address_registers_once(at: datetime) -> None:
    people.user("fay@example.org", at)
    with pytest.raises(UnableToRegisterUser, match="already registered"):
        people.user("FAY@example.org", at)


def test_a_new_contributor_is_owned_by_its_user_and_gets_the_whole(ada: Contributor, at: datetime) -> None:
    assert ada.memberships.get().role == Membership.Role.OWNER
    holder = ada.holders.get(is_default=True)
    assert splits.split_of([holder.pk], at) == {holder.pk: [(ada.pk, PPB)]}
    check_constraints_now()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "robot"}, "person or an organisation"),
        ({"legal_name": "  "}, "legal name"),
        ({"legal_name": "x" * 201}, "200 characters"),
        ({"display_name": "Fay\nPaid in full"}, "stands on one line"),
        ({"legal_name": "Fay \u202e00.01"}, "characters that nobody sees"),
        ({"legal_name": "\u3164"}, "HANGUL FILLER"),
        ({"display_name": "Fay\u200b Smith"}, "ZERO WIDTH SPACE"),
        ({"country": "XX"}, "ISO 3166"),
        ({"country": ""}, "ISO 3166"),
    ],
)
def test_a_contributor_is_refused_with_the_reason(changed: dict[str, str], said: str, at: datetime) -> None:
    user = people.user("fay@example.org", at)
    given = {"kind": "person", "legal_name": "Fay", "display_name": "", "country": "gb"} | changed
    with pytest.raises(UnableToRegisterContributor, match=said):
        register_contributor(user=user, at=at, **given)
    assert not Contributor.objects.exists()


def test_a_contributor_without_a_display_name_shows_its_legal_one(at: datetime) -> None:
    user = people.user("fay@example.org", at)
    fay = register_contributor(user=user, kind="person", legal_name="Fay", display_name="", country="gb", at=at)
    assert (fay.display_name, fay.country) == ("Fay", "GB")


def test_the_last_owner_stays_an_owner(ada: Contributor, at: datetime) -> None:
    owner = ada.members.get()
    with pytest.raises(UnableToRegisterContributor, match="no owner left"):
        add_member(contributor=ada, user=owner, role="viewer", at=at)
    add_member(contributor=ada, user=people.user("fay@example.org", at), role="owner", at=at)
    assert add_member(contributor=ada, user=owner, role="viewer", at=at).role == "viewer"


def test_a_new_split_sheet_holds_from_its_date_on(ada: Contributor, ben: Contributor, at: datetime) -> None:
    holder = ada.holders.get()
    later = at + timedelta(days=10)
    record_split_sheet(holder=holder, parts={ada: 600_000_000, ben: 400_000_000}, effective_from=later, at=at)
    assert splits.split_of([holder.pk], at)[holder.pk] == [(ada.pk, PPB)]
    assert splits.split_of([holder.pk], later)[holder.pk] == [(ada.pk, 600_000_000), (ben.pk, 400_000_000)]
    assert splits.split_of([holder.pk], at - timedelta(days=999))[holder.pk] == [(ada.pk, PPB)]
    check_constraints_now()


def test_works_made_together_get_a_holder_of_their_own(ada: Contributor, ben: Contributor, at: datetime) -> None:
    band = register_holder(contributor=ada, label="The Band", parts={ada: 1, ben: PPB - 1}, effective_from=at, at=at)
    assert splits.named_split(band, at) == [("Ben", PPB - 1), ("Ada", 1)]
    check_constraints_now()


@pytest.mark.parametrize(
    ("parts", "said"),
    [((PPB, 1), "sum to"), ((PPB - 1, 0), "above zero"), ((1, 1), "sum to"), ((), "at least one")],
)
def test_a_split_sheet_that_is_not_the_whole_is_refused(
    parts: tuple[int, ...], said: str, ada: Contributor, ben: Contributor, at: datetime
) -> None:
    sheet = dict(zip((ada, ben), parts, strict=False))
    with pytest.raises(UnableToRecordSplitSheet, match=said):
        record_split_sheet(holder=ada.holders.get(), parts=sheet, effective_from=at + timedelta(days=1), at=at)


def test_a_split_sheet_neither_begins_in_the_past_nor_replaces_another(ada: Contributor, at: datetime) -> None:
    holder = ada.holders.get()
    with pytest.raises(UnableToRecordSplitSheet, match="in the past"):
        record_split_sheet(holder=holder, parts={ada: PPB}, effective_from=at - timedelta(seconds=1), at=at)
    with pytest.raises(UnableToRecordSplitSheet, match="already has"):
        record_split_sheet(holder=holder, parts={ada: PPB}, effective_from=at, at=at)


def test_the_database_refuses_a_sheet_that_does_not_sum(ada: Contributor, at: datetime) -> None:
    with pytest.raises(IntegrityError, match="does not sum"), transaction.atomic():
        check_constraints_now(
            lambda: Split.objects.create(
                holder=ada.holders.get(), contributor=ada, ppb=5, effective_from=at + timedelta(days=1)
            )
        )


def test_the_database_refuses_a_holder_without_a_sheet(ada: Contributor, at: datetime) -> None:
    with pytest.raises(IntegrityError, match="no split sheet"), transaction.atomic():
        check_constraints_now(lambda: Holder.objects.create(label="nobody", created_by=ada, created_at=at))


def test_the_database_lets_nobody_change_or_delete_a_split(ada: Contributor) -> None:
    with pytest.raises(Error, match="Cannot update"), transaction.atomic():
        Split.objects.update(ppb=1)
    with pytest.raises(Error, match="Cannot update or delete"), transaction.atomic():
        Split.objects.all().delete()
