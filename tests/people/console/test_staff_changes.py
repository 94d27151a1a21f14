"""Roles and lost second factors take two people; the person and all administrators are told. A code counts once."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core import mail
from django.test import Client

from payouts.models import Hold, Notice, PayoutAccount
from payouts.operations.notices import notice_what_is_due
from people.models import FactorReset, Invitation, RoleChange, User
from people.operations import invitations, resets, staff
from people.operations.proposals import UnableToDecide, approve
from people.operations.users import enrol_totp
from tests.worlds import people
from tests.worlds.browser import LogIn, at, log_in, words_of
from tests.worlds.world import SEEN, World, build_world

__all__ = ["at", "log_in"]


@pytest.fixture
def world(db: None, at: datetime) -> World:
    return build_world(at - timedelta(days=10), contributors=1)


def staff_member(world: World, name: str, *roles: str) -> User:
    return people.user(f"{name}@example.org", world.at, roles, second_factor=True)


def test_one_administrator_of_two_gives_no_role_alone(
    world: World, at: datetime, log_in: LogIn, django_capture_on_commit_callbacks: object
) -> None:
    first = staff_member(world, "first", "admin")
    colleague = staff_member(world, "colleague", "auditor")
    address = f"/console/staff/{colleague.pk}/roles/"
    given = {"roles": ["finance_checker"], "known": ["auditor"], "reason": "promoted"}
    log_in(first).post(address, given)
    assert User.objects.get(pk=colleague.pk).role_names == {"finance_checker"}
    second = staff_member(world, "second", "admin")
    answer = log_in(first).post(address, given | {"roles": ["compliance"], "known": ["finance_checker"]}, follow=True)
    assert "Another person approves" in words_of(answer)
    assert User.objects.get(pk=colleague.pk).role_names == {"finance_checker"}
    row = RoleChange.objects.get()
    with pytest.raises(staff.UnableToChangeRoles, match="two administrators"):
        staff.change_roles(user=colleague, roles=["admin"], by=first, reason="x", at=at, seen=SEEN)
    log_in(second).post(f"/console/proposals/roles/{row.pk}/", {"decision": "approve"})
    assert User.objects.get(pk=colleague.pk).role_names == {"compliance"}
    notice_what_is_due(at=at)
    told = Notice.objects.filter(kind="staff_changed").values_list("words", flat=True)
    assert sum("Change roles" in words for words in told) == 2
    # A role is taken away at once, except an administrator's.
    log_in(first).post(address, {"roles": [], "known": ["compliance"], "reason": "left"})
    assert not User.objects.get(pk=colleague.pk).role_names


def test_of_the_two_people_one_administers_and_none_is_the_subject(world: World, at: datetime) -> None:
    first, second = staff_member(world, "first", "admin"), staff_member(world, "second", "admin")
    one, other = staff_member(world, "one", "compliance"), staff_member(world, "other", "compliance")
    row = staff.propose_roles(user=second, roles=[], by=first, reason="left", at=at, seen=SEEN)
    with pytest.raises(UnableToDecide, match="your own account"):
        approve(row, by=second, at=at, seen=SEEN)
    approve(row, by=one, at=at, seen=SEEN)
    assert not User.objects.get(pk=second.pk).role_names
    row = staff.propose_roles(user=world.owner, roles=["admin"], by=one, reason="new", at=at, seen=SEEN)
    with pytest.raises(UnableToDecide, match="has to be an administrator"):
        approve(row, by=other, at=at, seen=SEEN)


def test_an_invitation_waits_for_a_second_person_too(world: World, at: datetime, log_in: LogIn) -> None:
    first, second = staff_member(world, "first", "admin"), staff_member(world, "second", "admin")
    given = {"email": "new@example.org", "name": "N", "roles": ["auditor"]}
    answer = log_in(first).post("/console/staff/invite/", given, follow=True)
    assert "when another person has approved" in words_of(answer)
    assert not Invitation.objects.exists()
    with pytest.raises(invitations.UnableToInvite, match="two administrators"):
        invitations.invite_staff(email="x@example.org", roles=["admin"], by=first, at=at, seen=SEEN)
    row = RoleChange.objects.get()
    log_in(second).post(f"/console/proposals/roles/{row.pk}/", {"decision": "approve"})
    assert Invitation.objects.get().email == "new@example.org"


def test_a_lost_factor_is_reset_by_two_people(
    world: World, at: datetime, log_in: LogIn, django_capture_on_commit_callbacks: object
) -> None:
    first, second = staff_member(world, "first", "admin"), staff_member(world, "second", "compliance")
    lost = staff_member(world, "lost", "finance_checker")
    page = log_in(first)
    assert f"/console/staff/{lost.pk}/reset/" in page.get("/console/staff/").content.decode()
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        page.post(f"/console/staff/{lost.pk}/reset/", {"reason": "A video call."})
    assert [sent.to for sent in mail.outbox] == [[lost.email]]
    row = FactorReset.objects.get()
    with pytest.raises(UnableToDecide, match="your own account"):
        approve(FactorReset.objects.get(), by=User.objects.get(pk=give(lost, "admin")), at=at, seen=SEEN)
    world.credit(world.contributors[0], 5)
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        log_in(second).post(f"/console/proposals/factor_reset/{row.pk}/", {"decision": "approve"})
    assert "was removed" in str(mail.outbox[-1].subject)
    assert not Authenticator.objects.filter(user=lost).exists()
    lost.refresh_from_db()
    assert lost.roles_changed_at is not None
    with pytest.raises(resets.UnableToResetFactors, match="has no second factor"):
        resets.propose_reset(user=lost, reason="again", by=first, at=at, seen=SEEN)
    with pytest.raises(resets.UnableToResetFactors, match="their own"):
        resets.propose_reset(user=first, reason="mine", by=first, at=at, seen=SEEN)
    notice_what_is_due(at=at)
    assert Notice.objects.filter(kind="staff_changed", words__startswith="Approve factor reset").exists()


def give(user: User, *roles: str) -> int:
    from django.contrib.auth.models import Group

    user.groups.set(Group.objects.filter(name__in=roles))
    return user.pk


def test_a_reset_of_a_contributor_s_member_starts_the_cool_down_of_payouts(world: World, at: datetime) -> None:
    payee = world.contributors[0]
    member = payee.memberships.get(role="owner").user
    enrol_totp(user=member, secret=people.SECRET)
    PayoutAccount.objects.create(contributor=payee, country="US", bank_fingerprint="ba_1", created_at=world.at)
    one, other = staff_member(world, "one", "compliance"), staff_member(world, "other", "admin")
    row = resets.propose_reset(user=member, reason="A passport.", by=one, at=at, seen=SEEN)
    approve(row, by=other, at=at, seen=SEEN)
    assert Hold.objects.filter(contributor=payee, reason="bank_details_changed_recently", released_at=None).exists()


def test_a_code_of_the_half_minute_before_counts_once(db: None, at: datetime) -> None:
    user = people.user("ada@example.org", at, (), second_factor=True)

    def enter(code: str) -> int:
        client = Client()
        client.post("/accounts/login/", {"login": user.email, "password": people.PASSWORD})
        return client.post("/accounts/2fa/authenticate/", {"code": code}).status_code

    now = int(time.time()) // 30
    before, old = (format_hotp_value(hotp_value(people.SECRET, now - back)) for back in (1, 4))
    assert enter(old) == 200
    assert enter(before) == 302
    assert enter(f" {before[:3]} {before[3:]}") == 200


def test_a_used_code_is_remembered_as_long_as_it_could_count(
    db: None, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """allauth forgets after half a minute; with a tolerance the code would count again."""
    from django.core.cache import cache

    user = people.user("ada@example.org", at, (), second_factor=True)
    remembered: dict[str, float] = {}
    add = cache.add

    def noted(key: str, value: str, timeout: float, **more: Any) -> bool:
        remembered[key] = timeout
        return bool(add(key, value, timeout=timeout, **more))

    monkeypatch.setattr(cache, "add", noted)
    people.log_in(Client(), user.email, code=people.totp_code)
    assert max(remembered.values()) >= 90
