"""Access: log-in, roles, second factor, recent confirmation, membership."""

from __future__ import annotations

from datetime import datetime

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.hashers import identify_hasher, make_password
from django.core import mail
from django.core.cache import cache
from django.test import Client, override_settings

from config import settings as product
from contributors.models import Contributor
from contributors.operations.people import add_member
from people.models import User
from people.operations.users import enrol_totp
from tests.worlds import people

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.people.console.guarded_urls")]


def confirmed_long_ago(client: Client) -> None:
    session = client.session
    records = session["account_authentication_methods"]
    session["account_authentication_methods"] = [{**record, "at": record["at"] - 301} for record in records]
    session.save()


def test_a_stranger_is_sent_to_the_log_in(client: Client) -> None:
    for page in ("/guarded/finance/", "/guarded/sensitive/", "/guarded/whoami/", "/portal/works/", "/after-login/"):
        assert client.get(page).headers["Location"].startswith("/accounts/login/?next=/"), page


def test_staff_without_the_role_are_refused(client: Client, at: datetime) -> None:
    people.user("aud@example.org", at, ("auditor",), second_factor=True)
    people.log_in(client, "aud@example.org", code=people.totp_code)
    response = client.get("/guarded/finance/")
    assert response.status_code == 403
    assert "This page is for the finance team" in response.content.decode()


def test_a_contributor_is_no_staff(client: Client, ada: Contributor) -> None:
    assert people.log_in(client, "ada@example.org") == "/after-login/"
    assert client.get("/guarded/finance/").status_code == 403


def test_staff_without_a_second_factor_must_set_one_up_and_then_use_it(client: Client, at: datetime) -> None:
    user = people.user("max@example.org", at, ("finance_maker",))
    people.log_in(client, "max@example.org")
    assert client.get("/guarded/finance/").headers["Location"] == "/accounts/2fa/totp/activate/"
    enrol_totp(user=user, secret=people.SECRET)
    assert (
        client.get("/guarded/finance/").headers["Location"]
        == "/accounts/2fa/reauthenticate/?next=%2Fguarded%2Ffinance%2F"
    )
    response = client.post("/accounts/2fa/reauthenticate/", {"code": people.totp_code(), "next": "/guarded/finance/"})
    assert response.headers["Location"] == "/guarded/finance/"
    assert client.get("/guarded/finance/").content == b"finance"


def test_staff_who_log_in_with_a_second_factor_are_let_in(client: Client, at: datetime) -> None:
    people.user("max@example.org", at, ("finance_maker",), second_factor=True)
    assert people.log_in(client, "max@example.org", code=people.totp_code) == "/after-login/"
    assert client.get("/after-login/").headers["Location"] == "/console/"
    assert client.get("/guarded/finance/").content == b"finance"


def test_a_password_alone_logs_nobody_in_who_has_a_second_factor(client: Client, at: datetime) -> None:
    people.user("max@example.org", at, ("finance_maker",), second_factor=True)
    assert people.log_in(client, "max@example.org") == "/accounts/2fa/authenticate/"
    people.log_in(client, "max@example.org", code="000000")
    assert client.get("/guarded/finance/").headers["Location"].startswith("/accounts/login/")


def test_a_factor_that_was_removed_opens_no_page_any_more(client: Client, at: datetime) -> None:
    user = people.user("max@example.org", at, ("finance_maker",), second_factor=True)
    people.log_in(client, "max@example.org", code=people.totp_code)
    Authenticator.objects.filter(user=user).delete()
    enrol_totp(user=user, secret="GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
    assert client.get("/guarded/finance/").headers["Location"].startswith("/accounts/2fa/reauthenticate/")


def test_an_action_on_money_asks_again_after_five_minutes_and_has_done_nothing(client: Client, at: datetime) -> None:
    people.user("che@example.org", at, ("finance_checker",), second_factor=True)
    people.log_in(client, "che@example.org", code=people.totp_code)
    assert client.post("/guarded/approve/").content == b"approved"
    confirmed_long_ago(client)
    refused = client.post("/guarded/approve/?run=5", headers={"referer": "http://testserver/guarded/approve/?run=5"})
    assert refused.headers["Location"] == ("/accounts/2fa/reauthenticate/?next=%2Fguarded%2Fapprove%2F%3Frun%3D5")
    assert "Nothing has been done yet" in client.get(refused.headers["Location"]).content.decode()
    cache.clear()  # As if the code of the log-in were long gone.
    code = people.totp_code()
    assert client.post("/accounts/2fa/reauthenticate/", {"code": code}).status_code == 302
    assert client.post("/guarded/approve/").content == b"approved"
    confirmed_long_ago(client)
    used_again = client.post("/accounts/2fa/reauthenticate/", {"code": code})
    assert used_again.status_code == 200  # A code is good once; the form asks for the next one.
    assert client.post("/guarded/approve/").status_code == 302


def test_the_way_back_from_a_confirmation_leads_to_no_other_site(client: Client, at: datetime) -> None:
    people.user("che@example.org", at, ("finance_checker",), second_factor=True)
    people.log_in(client, "che@example.org", code=people.totp_code)
    confirmed_long_ago(client)
    refused = client.post("/guarded/approve/", headers={"referer": "https://evil.example/approve/"})
    assert refused.headers["Location"].endswith("?next=%2Fafter-login%2F")


def test_a_password_confirms_who_has_no_second_factor_and_only_them(client: Client, ada: Contributor) -> None:
    people.log_in(client, "ada@example.org")
    assert client.get("/guarded/sensitive/").content == b"sensitive"
    confirmed_long_ago(client)
    assert client.get("/guarded/sensitive/").headers["Location"].startswith("/accounts/reauthenticate/?next=")
    client.post("/accounts/reauthenticate/", {"password": people.PASSWORD})
    assert client.get("/guarded/sensitive/").content == b"sensitive"
    enrol_totp(user=User.objects.get(email="ada@example.org"), secret=people.SECRET)
    assert client.get("/guarded/sensitive/").headers["Location"].startswith("/accounts/2fa/reauthenticate/?next=")


def test_a_person_acts_for_the_contributor_that_they_chose(
    client: Client, ada: Contributor, ben: Contributor, at: datetime
) -> None:
    user = User.objects.get(email="ada@example.org")
    add_member(contributor=ben, user=user, role="viewer", at=at)
    people.log_in(client, "ada@example.org")
    assert client.get("/guarded/whoami/").content == b"Ada as owner, not Ben"
    assert client.post("/portal/choose/", {"contributor": str(ben.public_id)}).headers["Location"] == "/portal/"
    assert client.get("/guarded/whoami/").content == b"Ben as viewer, not Ada"


def test_nobody_acts_for_a_contributor_of_others(client: Client, ada: Contributor, ben: Contributor) -> None:
    people.log_in(client, "ada@example.org")
    assert client.post("/portal/choose/", {"contributor": str(ben.public_id)}).status_code == 404
    assert client.get("/guarded/whoami/").content == b"Ada as owner, not "


def test_signing_up_proves_the_address_and_leads_to_the_registration(client: Client) -> None:
    sent = {"email": "new@example.org", "password1": people.PASSWORD, "password2": people.PASSWORD}
    assert client.post("/accounts/signup/", sent).headers["Location"] == "/accounts/confirm-email/"
    assert people.log_in(client, "new@example.org") != "/after-login/"
    assert mail.outbox[0].subject == "Tributary: Confirm your e-mail address"
    assert "Hello from" not in str(mail.outbox[0].body)
    address = next(word for word in str(mail.outbox[0].body).split() if "/confirm-email/" in word)
    client.post(address.split("testserver")[-1].split("example.com")[-1])
    assert people.log_in(client, "new@example.org") == "/after-login/"
    assert client.get("/after-login/").headers["Location"] == "/portal/register/"
    assert client.get("/portal/works/").headers["Location"] == "/portal/register/"
    given = {"kind": "person", "legal_name": "New Name", "display_name": "", "country": "DE"}
    assert client.post("/portal/register/", given | {"country": "ZZ"}).status_code == 422
    assert client.post("/portal/register/", given).headers["Location"] == "/portal/works/"
    assert client.get("/after-login/").headers["Location"] == "/portal/"
    assert client.get("/guarded/whoami/").content == b"New Name as owner, not "


def test_a_closed_account_does_not_log_in(client: Client, ada: Contributor) -> None:
    User.objects.update(is_active=False)
    assert people.log_in(client, "ada@example.org") == "/accounts/inactive/"


def test_passwords_are_kept_with_argon2() -> None:
    with override_settings(PASSWORD_HASHERS=product.PASSWORD_HASHERS):
        assert identify_hasher(make_password("a password")).algorithm == "argon2"
