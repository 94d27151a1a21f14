"""Members of a contributor: invitations, roles, ends."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.core import mail as outbox
from django.test import Client
from django.utils import timezone

from contributors.models import Contributor, MemberInvitation, Membership
from contributors.operations import members
from contributors.operations.members import UnableToChangeMembers
from people.models import AuditEvent, User
from people.operations import mail
from people.operations.invitations import UnableToInvite, new_address
from tests.worlds import people

pytestmark = pytest.mark.django_db
LONG_AGO = datetime.fromisoformat("2026-01-01T00:00:00+00:00")


@pytest.fixture
def band() -> Contributor:
    return people.contributor("Ada", LONG_AGO)


def owner(of: Contributor) -> User:
    return of.memberships.filter(role="owner").earliest("pk").user


def test_an_owner_invites_a_viewer_by_mail_over_the_pages(client: Client, band: Contributor) -> None:
    people.log_in(client, "ada@example.org")
    assert client.post("/portal/people/", {"email": "Vera@example.org", "role": "viewer"}).status_code == 302
    assert "vera@example.org" in client.get("/portal/people/").content.decode()
    assert mail.send_due_invitations(at=timezone.now()) == 1
    body = str(outbox.outbox[-1].body)
    path = "/claim/" + body.split("/claim/")[1].split("\n")[0]
    vera = Client()
    assert vera.get(path).status_code == 200
    wrong = vera.post(path, {"name": "Vera", "password": "short", "password_again": "short"})
    assert wrong.status_code == 422
    right = {"name": "Vera", "password": people.PASSWORD, "password_again": people.PASSWORD}
    assert vera.post(path, right)["Location"] == "/portal/works/"
    assert band.memberships.get(user__email="vera@example.org").role == "viewer"
    assert vera.get("/portal/people/").status_code == 200
    assert vera.post("/portal/people/", {"email": "x@example.org", "role": "owner"}).status_code == 422
    assert Client().get(path).status_code == 410
    assert {"invite_member", "claim_membership"} <= set(AuditEvent.objects.values_list("action", flat=True))


def test_a_person_with_an_account_accepts_with_it(client: Client, band: Contributor) -> None:
    people.user("max@example.org", LONG_AGO)
    made = members.invite_member(
        contributor=band, email="max@example.org", role="manager", by=owner(band), at=timezone.now()
    )
    path = new_address(made.invitation, at=timezone.now())
    assert "Log in to accept" in client.get(path).content.decode()
    people.log_in(client, "ada@example.org")
    assert "This invitation is for" in client.post(path).content.decode()
    other = Client()
    people.log_in(other, "max@example.org")
    assert other.post(path).status_code == 302
    assert band.memberships.get(user__email="max@example.org").role == "manager"


def test_members_are_changed_and_ended_and_one_owner_stays(client: Client, band: Contributor) -> None:
    ada, max_ = owner(band), people.user("max@example.org", LONG_AGO)
    Membership.objects.create(user=max_, contributor=band, role="viewer", created_at=LONG_AGO)
    people.log_in(client, ada.email)
    row = band.memberships.get(user=max_)
    assert client.post(f"/portal/people/{row.pk}/role/", {f"m{row.pk}-role": "manager"}).status_code == 302
    row.refresh_from_db()
    assert row.role == "manager"
    own = band.memberships.get(user=ada)
    page = client.post(f"/portal/people/{own.pk}/end/", follow=True).content.decode()
    assert "would have no owner left" in page
    with pytest.raises(UnableToChangeMembers, match="Only an owner"):
        members.change_member(contributor=band, user=ada, role="viewer", by=max_, at=LONG_AGO)
    with pytest.raises(UnableToChangeMembers, match="Only an owner"):
        members.end_membership(contributor=band, user=ada, by=max_, at=LONG_AGO)
    client.post(f"/portal/people/{row.pk}/end/")
    assert not band.memberships.filter(user=max_).exists()


def test_a_stranger_s_member_is_not_found(client: Client, band: Contributor) -> None:
    other = people.contributor("Bea", LONG_AGO)
    people.log_in(client, "ada@example.org")
    row = other.memberships.get()
    assert client.post(f"/portal/people/{row.pk}/end/").status_code == 404
    made = members.invite_member(contributor=other, email="x@example.org", role="owner", by=owner(other), at=LONG_AGO)
    url = f"/portal/people/invitations/{made.invitation.public_id}/revoke/"
    assert client.post(url).status_code == 404


def test_invitations_are_refused_with_the_reason(band: Contributor) -> None:
    at, ada = timezone.now(), owner(band)
    for email, role, error, words in [
        ("nobody", "viewer", UnableToInvite, "not an e-mail"),
        ("x@example.org", "boss", UnableToChangeMembers, "not “boss”"),
        ("ada@example.org", "viewer", UnableToChangeMembers, "member already"),
    ]:
        with pytest.raises(error, match=words):
            members.invite_member(contributor=band, email=email, role=role, by=ada, at=at)
    made = members.invite_member(contributor=band, email="x@example.org", role="viewer", by=ada, at=at)
    with pytest.raises(UnableToChangeMembers, match="invited already"):
        members.invite_member(contributor=band, email="x@example.org", role="viewer", by=ada, at=at)
    members.invite_member(contributor=band, email="x@example.org", role="viewer", by=ada, at=at + timedelta(days=8))
    members.revoke_member_invitation(member_invitation=made, by=ada, at=at)
    assert MemberInvitation.objects.count() == 2


def test_an_invitation_of_a_dismissed_owner_gives_no_membership(band: Contributor) -> None:
    at, ada = timezone.now(), owner(band)
    made = members.invite_member(contributor=band, email="x@example.org", role="owner", by=ada, at=at)
    path = new_address(made.invitation, at=at)
    new = people.user("new@example.org", LONG_AGO)
    Membership.objects.create(user=new, contributor=band, role="owner", created_at=LONG_AGO)
    band.memberships.filter(user=ada).delete()
    page = Client().post(path, {"name": "X", "password": people.PASSWORD, "password_again": people.PASSWORD})
    assert "owns Ada no more" in page.content.decode()
    assert not User.objects.filter(email="x@example.org").exists()
