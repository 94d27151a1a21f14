"""Log-in security: a password alone opens nothing where a factor is enrolled, and a new factor of staff settles."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from django.core import mail
from django.core.cache import cache
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from people.actor import Presence, UnableToAct
from people.models import AuditEvent, ConfirmedFactor, User
from people.operations.factors import UnableToConfirmFactor, confirm_factors
from people.queries import factors
from tests.worlds import people

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.urls("tests.people.console.guarded_urls"),
    pytest.mark.usefixtures("full_books"),
]
FRESH = Presence(mfa_age_seconds=5)
# Every address below /accounts/2fa/ that shows or changes a factor.
FACTOR_PAGES = (
    "/accounts/2fa/",
    "/accounts/2fa/totp/activate/",
    "/accounts/2fa/totp/deactivate/",
    "/accounts/2fa/recovery-codes/",
    "/accounts/2fa/recovery-codes/generate/",
    "/accounts/2fa/recovery-codes/download/",
    "/accounts/2fa/webauthn/",
    "/accounts/2fa/webauthn/add/",
    "/accounts/password/change/",
    "/accounts/email/",
)


def not_empty() -> bool:
    return False


@pytest.fixture
def full_books(settings: Any) -> None:
    """Something is at stake, as in a running programme."""
    settings.BOOKS_ARE_EMPTY = f"{__name__}.not_empty"


def long_ago(client: Client, seconds: float = 301) -> None:
    """Let the log-in of the session be so much older."""
    session = client.session
    records = session["account_authentication_methods"]
    session["account_authentication_methods"] = [{**one, "at": one["at"] - seconds} for one in records]
    if "console_seen_at" in session:
        session["console_seen_at"] -= seconds
    session.save()
    cache.clear()


@pytest.fixture
def checker(client: Client, at: datetime) -> User:
    """A checker with a factor, logged in for more than five minutes."""
    user = people.user("che@example.org", at, ("finance_checker",), second_factor=True)
    people.log_in(client, user.email, code=people.totp_code)
    long_ago(client)
    return user


@pytest.fixture
def nomfa(client: Client, at: datetime) -> User:
    """A checker that set up a factor by the password alone, and uses it."""
    user = people.user("nomfa@example.org", at, ("finance_checker",))
    people.log_in(client, user.email)
    enrol(client)
    long_ago(client)
    client.post("/accounts/2fa/reauthenticate/", {"code": people.totp_code(_secret(user))})
    return user


def enrol(client: Client) -> None:
    client.post("/accounts/reauthenticate/", {"password": people.PASSWORD})
    page = client.get("/accounts/2fa/totp/activate/").content.decode()
    found = re.search(r"\b[A-Z2-7]{32}\b", page)
    assert found is not None
    answer = client.post("/accounts/2fa/totp/activate/", {"code": people.totp_code(found[0])})
    assert answer.status_code == 302, answer.content.decode()[-2000:]


def _secret(user: User) -> str:
    from allauth.mfa.adapter import get_adapter

    row = Authenticator.objects.get(user=user, type="totp")
    return str(get_adapter().decrypt(row.data["secret"]))


def test_the_password_confirms_nothing_where_a_factor_is_enrolled(client: Client, checker: User) -> None:
    answer = client.post("/accounts/reauthenticate/?next=/guarded/approve/", {"password": people.PASSWORD})
    assert answer.headers["Location"] == "/accounts/2fa/reauthenticate/?next=%2Fguarded%2Fapprove%2F"
    RecoveryCodes.activate(checker)
    for page in FACTOR_PAGES:
        assert client.get(page).status_code == 302, page
    before = set(Authenticator.objects.values_list("pk", flat=True))
    assert client.post("/accounts/2fa/recovery-codes/generate/").status_code == 302
    sent = {"oldpassword": people.PASSWORD, "password1": "another one 77", "password2": "another one 77"}
    client.post("/accounts/password/change/", sent)
    client.post("/accounts/email/", {"email": "thief@example.org", "action_add": ""})
    assert set(Authenticator.objects.values_list("pk", flat=True)) == before
    assert not checker.emailaddress_set.filter(email="thief@example.org").exists()  # type: ignore[attr-defined]
    checker.refresh_from_db()
    assert checker.check_password(people.PASSWORD)
    assert client.get("/guarded/approve/").status_code == 302


def test_the_factor_opens_those_pages(client: Client, checker: User) -> None:
    client.post("/accounts/2fa/reauthenticate/", {"code": people.totp_code()})
    RecoveryCodes.activate(checker)
    shown = {page: client.get(page).status_code for page in FACTOR_PAGES if "totp/activate" not in page}
    assert set(shown.values()) == {200}, shown


def test_a_recovery_code_logs_in_and_moves_no_money(client: Client, checker: User) -> None:
    client.post("/accounts/2fa/reauthenticate/", {"code": people.totp_code()})
    client.post("/accounts/2fa/recovery-codes/generate/")
    page = client.get("/accounts/2fa/recovery-codes/").content.decode()
    codes = re.findall(r"\b\d{8}\b", page) or re.findall(r"\b[0-9a-f]{8}\b", page)
    long_ago(client)
    answer = client.post("/accounts/2fa/reauthenticate/", {"code": codes[0]})
    assert answer.status_code == 302
    assert client.get("/guarded/finance/").content == b"finance"
    assert client.get("/guarded/approve/").status_code == 302


def test_a_factor_that_a_password_enrolled_opens_no_console(client: Client, nomfa: User) -> None:
    for page in ("/guarded/finance/", "/guarded/approve/"):
        answer = client.get(page)
        assert answer.status_code == 403
        assert "waits for a confirmation" in answer.content.decode()


def test_a_confirmed_factor_opens_the_console_and_moves_money_later(client: Client, nomfa: User, at: datetime) -> None:
    admin = people.user("adm@example.org", at, ("admin",), second_factor=True)
    now = timezone.now()
    with pytest.raises(UnableToConfirmFactor, match="their own"):
        confirm_factors(user=admin, by=admin, at=now, seen=FRESH)
    with pytest.raises(UnableToAct):
        confirm_factors(user=nomfa, by=nomfa, at=now, seen=FRESH)
    assert confirm_factors(user=nomfa, by=admin, at=now, seen=FRESH) == 1
    with pytest.raises(UnableToConfirmFactor, match="no second factor that waits"):
        confirm_factors(user=nomfa, by=admin, at=now, seen=FRESH)
    assert client.get("/guarded/finance/").content == b"finance"
    answer = client.get("/guarded/approve/")
    assert answer.status_code == 403
    assert "moves money from" in answer.content.decode()
    # Recorded as if it had been confirmed a day earlier.
    row = ConfirmedFactor.objects.get(user=nomfa)
    assert row.settles_at == now + timedelta(hours=24)
    assert factors.trusted(nomfa, settled_at=row.settles_at) == {row.factor}
    assert factors.trusted(nomfa, settled_at=row.settles_at - timedelta(seconds=1)) == set()
    line = AuditEvent.objects.get(action="confirm_factors")
    assert (line.actor, line.subject) == (admin, f"user:{nomfa.pk}")


def test_the_database_lets_nobody_confirm_their_own_factor(nomfa: User) -> None:
    (new,) = factors.unconfirmed(nomfa)
    now = timezone.now()
    with pytest.raises(IntegrityError, match="a_factor_is_confirmed_by_another"), transaction.atomic():
        ConfirmedFactor.objects.create(user=nomfa, factor=new.pk, confirmed_by=nomfa, confirmed_at=now, settles_at=now)


def test_the_operator_confirms_at_the_machine(client: Client, nomfa: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("confirm_factor", nomfa.email)
    assert "is confirmed" in capsys.readouterr().out
    assert client.get("/guarded/finance/").content == b"finance"


def test_a_second_factor_of_a_thief_does_not_lock_out_the_first(client: Client, checker: User) -> None:
    Authenticator.objects.create(user=checker, type="webauthn", data={"name": "new", "credential": {}})
    client.post("/accounts/2fa/reauthenticate/", {"code": people.totp_code()})
    assert client.get("/guarded/approve/").content == b"form"


def test_on_the_first_day_a_new_factor_counts_at_once_and_ever_after(
    client: Client, at: datetime, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    settings.BOOKS_ARE_EMPTY = "ledger.queries.books.are_empty"
    user = people.user("one@example.org", at, ("finance_checker",))
    people.log_in(client, user.email)
    with django_capture_on_commit_callbacks(execute=True):
        enrol(client)
    long_ago(client)
    client.post("/accounts/2fa/reauthenticate/", {"code": people.totp_code(_secret(user))})
    assert client.get("/guarded/approve/").content == b"form"
    settings.BOOKS_ARE_EMPTY = f"{__name__}.not_empty"
    assert client.get("/guarded/approve/").content == b"form"


def test_staff_use_their_factor_again_after_an_idle_hour_and_after_half_a_day(client: Client, checker: User) -> None:
    client.post("/accounts/2fa/reauthenticate/", {"code": people.totp_code()})
    assert client.get("/guarded/finance/").content == b"finance"
    for _ in range(3):
        long_ago(client, 59 * 60)
        assert client.get("/guarded/finance/").content == b"finance"
    long_ago(client, 61 * 60)
    assert client.get("/guarded/finance/").status_code == 302
    session = client.session
    session["console_seen_at"] = time.time()
    session.save()
    assert client.get("/guarded/finance/").content == b"finance"
    long_ago(client, 12 * 3600)
    session = client.session
    session["console_seen_at"] = time.time()
    session.save()
    assert client.get("/guarded/finance/").status_code == 302


def test_a_mail_server_that_fails_undoes_no_change(client: Client, at: datetime, settings: Any) -> None:
    user = people.user("pat@example.org", at)
    people.log_in(client, user.email)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    sent = {"oldpassword": people.PASSWORD, "password1": "another one 77", "password2": "another one 77"}
    assert client.post("/accounts/password/change/", sent).status_code == 302
    user.refresh_from_db()
    assert user.check_password("another one 77")


def test_the_first_address_hears_of_another_one(client: Client, at: datetime) -> None:
    user = people.user("pat@example.org", at)
    people.log_in(client, user.email)
    client.post("/accounts/reauthenticate/", {"password": people.PASSWORD})
    client.post("/accounts/email/", {"email": "other@example.org", "action_add": ""})
    (confirmation,) = mail.outbox
    address = next(word for word in str(confirmation.body).split() if "/confirm-email/" in word)
    client.post(address)
    assert mail.outbox[-1].to == ["pat@example.org"]
    assert "Another e-mail address was added" in str(mail.outbox[-1].body)


def test_mails_name_the_site_and_not_the_host_of_the_request(client: Client, at: datetime, settings: Any) -> None:
    people.user("pat@example.org", at)
    settings.ALLOWED_HOSTS = ["*"]
    for email in ("pat@example.org", "nobody@example.org"):
        client.post("/accounts/password/reset/", {"email": email}, headers={"host": "127.0.0.1:1"})
    client.post(
        "/accounts/signup/",
        {"email": "pat@example.org", "password1": people.PASSWORD, "password2": people.PASSWORD},
        headers={"host": "127.0.0.1:1"},
    )
    assert len(mail.outbox) == 3
    for message in mail.outbox:
        addresses = re.findall(r"https?://\S+", str(message.body))
        assert addresses
        assert all(address.startswith(settings.SITE_URL) for address in addresses), addresses


def test_log_ins_of_staff_and_wrong_passwords_stand_in_the_log(client: Client, at: datetime) -> None:
    user = people.user("max@example.org", at, ("finance_maker",), second_factor=True)
    client.post("/accounts/login/", {"login": user.email, "password": "wrong"})
    people.log_in(client, user.email, code=people.totp_code)
    people.log_in(Client(), people.user("pat@example.org", at).email)
    assert list(AuditEvent.objects.order_by("sequence").values_list("action", "subject")) == [
        ("log_in_refused", f"user:{user.pk}"),
        ("log_in", f"user:{user.pk}"),
    ]
