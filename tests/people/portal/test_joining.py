"""One-time addresses: the first administrator, invited staff, and the page that makes their accounts."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail as outbox
from django.db import connection
from django.test import Client
from django.utils import timezone

from people.actor import Presence, UnableToActYet, UnableToTrustPresence, require_settled_role
from people.models import AuditEvent, Invitation, User
from people.operations import invitations, mail
from people.operations.invitations import (
    UnableToInvite,
    UnableToJoin,
    invite_first_administrator,
    invite_staff,
    new_address,
    revoke_invitation,
)
from tests.worlds.people import PASSWORD, SECRET, log_in, totp_code, user

SEEN = Presence(ip="192.0.2.1", mfa_age_seconds=10)
pytestmark = pytest.mark.django_db


def join(client: Client, path: str, **given: str) -> Any:
    client.get(path)
    secret = client.session["joining_totp_secret"]
    values = {"name": "Ada Admin", "password": PASSWORD, "password_again": PASSWORD, "code": totp_code(secret)}
    return client.post(path, {**values, **given})


def test_the_first_address_makes_an_administrator_that_is_let_in_at_once(client: Client) -> None:
    path = invite_first_administrator(at=timezone.now())
    answer = join(client, path, email="Ada@Example.org")
    assert (answer.status_code, answer["Location"]) == (302, "/accounts/2fa/recovery-codes/")
    codes = client.get(answer["Location"])
    assert codes.status_code == 200
    assert "Recovery codes" in codes.content.decode()
    ada = User.objects.get(email="ada@example.org")
    assert (ada.name, set(ada.role_names), ada.roles_changed_at is None) == ("Ada Admin", {"admin"}, True)
    assert client.get("/after-login/")["Location"] == "/console/setup/"
    assert client.get("/console/setup/").status_code == 200
    assert client.get("/console/staff/invite/").status_code == 200
    line = AuditEvent.objects.get(action="join_staff")
    assert (line.actor, line.after["roles"]) == (ada, ["admin"])


def test_an_address_works_once_and_its_token_is_not_stored(client: Client) -> None:
    path = invite_first_administrator(at=timezone.now())
    token = path.split("/")[2]
    row = Invitation.objects.get()
    assert token not in str(Invitation.objects.values_list()[0])
    assert bytes(row.digest or b"") == invitations.digest_of(token)
    assert join(client, path, email="ada@example.org").status_code == 302
    again = Client().get(path)
    assert again.status_code == 410
    assert "used already" in again.content.decode()


def test_a_get_uses_nothing_up(client: Client) -> None:
    path = invite_first_administrator(at=timezone.now())
    for _ in range(3):
        assert client.get(path).status_code == 200
    assert Invitation.objects.get().used_at is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"code": "000000"}, "not the code of the app"),
        ({"password_again": "another one 12345"}, "The two passwords differ"),
        ({"password": "1234567890", "password_again": "1234567890"}, "too common"),
        ({"name": " "}, "This field is required"),
        ({"email": "nobody"}, "valid email"),
    ],
)
def test_a_refused_form_says_why_and_uses_nothing_up(client: Client, given: dict[str, str], words: str) -> None:
    path = invite_first_administrator(at=timezone.now())
    answer = join(client, path, **{"email": "ada@example.org", **given})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not User.objects.exists()
    assert Invitation.objects.get().used_at is None


def test_no_second_first_administrator() -> None:
    at = timezone.now()
    first = invite_first_administrator(at=at)
    second = invite_first_administrator(at=at)
    assert Client().get(first).status_code == 410, "the newer address replaces the older"
    user("ada@example.org", at, ("admin",))
    assert "administrator already" in Client().get(second).content.decode()
    with pytest.raises(UnableToInvite, match="administrator already"):
        invite_first_administrator(at=at)


def test_an_invitation_is_mailed_with_an_address_that_works(client: Client, settings: Any) -> None:
    settings.PROGRAMME_NAME = "Acme Royalties"
    at = timezone.now()
    ada = user("ada@example.org", at, ("admin",))
    invite_staff(email="Mara@Example.org", roles=["finance_maker"], by=ada, at=at, seen=SEEN)
    assert mail.send_due_invitations(at=at) == 1
    assert mail.send_due_invitations(at=at) == 0
    (sent,) = outbox.outbox
    assert sent.to == ["mara@example.org"]
    assert sent.subject == "Acme Royalties: Acme Royalties invites you to its staff"
    path = re.search(r"(/join/\S+)", str(sent.body))
    assert path
    assert join(client, path[1]).status_code == 302
    assert User.objects.get(email="mara@example.org").role_names == {"finance_maker"}


def test_a_mail_server_that_fails_is_tried_again_and_shown(settings: Any, client: Client) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    at = timezone.now()
    invite_staff(email="mara@example.org", roles=["finance_maker"], at=at)
    assert mail.send_due_invitations(at=at) == 0
    row = Invitation.objects.get()
    assert "ConnectionRefusedError" in row.error
    assert row.tries == 1
    user("ada@example.org", at, ("admin",), second_factor=True)
    log_in(client, "ada@example.org", code=totp_code)
    assert "ConnectionRefusedError" in client.get("/console/staff/").content.decode()
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert mail.send_due_invitations(at=at) == 0, "it waits a minute"
    assert mail.send_due_invitations(at=at + timedelta(minutes=2)) == 1


def test_an_invitation_takes_an_administrator_with_a_fresh_factor() -> None:
    at = timezone.now()
    mara, ada = user("mara@example.org", at, ("finance_maker",)), user("ada@example.org", at, ("admin",))
    with pytest.raises(Exception, match="needs one of these roles"):
        invite_staff(email="x@example.org", roles=["admin"], by=mara, at=at, seen=SEEN)
    with pytest.raises(UnableToTrustPresence):
        invite_staff(email="x@example.org", roles=["admin"], by=ada, at=at)
    for wrong, words in [("nobody", "no e-mail|not an e-mail"), ("", "not an e-mail")]:
        with pytest.raises(UnableToInvite, match=words):
            invite_staff(email=wrong, roles=["admin"], by=ada, at=at, seen=SEEN)
    with pytest.raises(UnableToInvite, match="There is no role boss"):
        invite_staff(email="x@example.org", roles=["boss"], by=ada, at=at, seen=SEEN)
    invite_staff(email="x@example.org", roles=["auditor"], by=ada, at=at, seen=SEEN)
    with pytest.raises(UnableToInvite, match="invited already"):
        invite_staff(email="x@example.org", roles=["admin"], by=ada, at=at, seen=SEEN)


def test_a_revoked_an_expired_and_a_replaced_address_do_not_work() -> None:
    at = timezone.now()
    ada = user("ada@example.org", at, ("admin",))
    made = invite_staff(email="x@example.org", roles=["auditor"], by=ada, at=at, seen=SEEN)
    old, path = new_address(made, at=at), new_address(made, at=at)
    assert Client().get(old).status_code == 410
    with pytest.raises(UnableToJoin, match="expired"):
        invitations.open_invitation(token=path.split("/")[2], purpose="staff", at=at + timedelta(days=8))
    revoke_invitation(invitation=made, by=ada, at=at, seen=SEEN)
    assert "revoked" in Client().get(path).content.decode()


def test_an_invitation_of_a_dismissed_administrator_gives_no_role(client: Client) -> None:
    at = timezone.now()
    ada = user("ada@example.org", at, ("admin",))
    made = invite_staff(email="x@example.org", roles=["admin"], by=ada, at=at, seen=SEEN)
    path = new_address(made, at=at)
    ada.groups.clear()
    answer = join(client, path)
    assert answer.status_code == 422
    assert "administers no more" in answer.content.decode()
    assert not User.objects.filter(email="x@example.org").exists()


def test_a_person_with_an_account_logs_in_and_accepts(client: Client) -> None:
    at = timezone.now()
    ada = user("ada@example.org", at, ("admin",))
    cleo = user("cleo@example.org", at, second_factor=True)
    path = new_address(invite_staff(email=cleo.email, roles=["finance_checker"], by=ada, at=at, seen=SEEN), at=at)
    page = client.get(path).content.decode()
    assert "has an account already" in page
    assert "password" not in page.lower()
    other = Client()
    user("other@example.org", at)
    log_in(other, "other@example.org")
    assert "You are logged in as other@example.org" in other.get(path).content.decode()
    assert "This invitation is for" in other.post(path).content.decode()
    log_in(client, cleo.email, code=totp_code)
    assert client.post(path)["Location"] == "/after-login/"
    assert client.get("/after-login/")["Location"] == "/console/"
    assert User.objects.get(pk=cleo.pk).role_names == {"finance_checker"}


def test_roles_cool_down_unless_nothing_is_at_stake(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    at = timezone.now()
    ada = user("ada@example.org", at, ("admin",))
    for name, live, empty, settled in [("a", False, True, True), ("b", True, True, False), ("c", False, False, False)]:
        settings.STRIPE_SECRET_KEY = "rk_live_x" if live else "rk_test_x"
        settings.STRIPE_READ_KEY = settings.STRIPE_SECRET_KEY
        settings.BOOKS_ARE_EMPTY = f"tests.people.portal.test_joining.{'empty' if empty else 'full'}"
        made = invite_staff(email=f"{name}@example.org", roles=["finance_checker"], by=ada, at=at, seen=SEEN)
        token = new_address(made, at=at).split("/")[2]
        joined = invitations.join_staff(
            token=token, email="", name="Cleo", password=PASSWORD, totp_secret=SECRET, at=at
        )
        settings.BOOKS_ARE_EMPTY = "tests.people.portal.test_joining.full"
        if settled:
            require_settled_role(joined, at)
        else:
            with pytest.raises(UnableToActYet):
                require_settled_role(joined, at)
            require_settled_role(joined, at + timedelta(hours=25))


def empty() -> bool:
    return True


def full() -> bool:
    return False


def test_the_query_of_the_books_is_the_ledger_s() -> None:
    from people.queries.programme import books_are_empty

    assert books_are_empty()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM ledger_entry")
        assert cursor.fetchone()[0] == 0
