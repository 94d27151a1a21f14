"""The first steps of an installation: commands that let people in, the page Set up, the doctor."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core import mail as outbox
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from config.setup.checklist import STEPS
from config.setup.steps import check
from people.models import AuditEvent, Invitation, Programme, User
from people.queries.programme import legal_entity, sender_of_papers
from tests.worlds.people import log_in, totp_code, user

pytestmark = pytest.mark.django_db


def printed(name: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(name, *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.mark.parametrize(
    "command", [("create_admin", "ada@example.org"), ("createsuperuser", "--email", "ada@example.org")]
)
def test_the_commands_of_an_administrator_print_an_address_that_works(command: tuple[str, ...], client: Client) -> None:
    first = printed(*command).strip()
    second = printed(*command).strip()
    assert first.startswith("http://127.0.0.1:8000/join/")
    assert client.get(first.removeprefix("http://127.0.0.1:8000")).status_code == 410
    page = client.get(second.removeprefix("http://127.0.0.1:8000"))
    assert page.status_code == 200
    assert "ada@example.org" in page.content.decode()
    assert Invitation.objects.filter(revoked_at=None).get().roles == ["admin"]
    assert AuditEvent.objects.filter(action="invite_staff", actor=None).count() == 2
    assert outbox.outbox == []


def test_createsuperuser_without_an_address_names_the_command() -> None:
    with pytest.raises(CommandError, match="create_admin EMAIL"):
        call_command("createsuperuser", "--noinput")


def test_staff_is_invited_by_command_with_a_mail() -> None:
    address = printed("invite_staff", "mara@example.org", "--role", "finance_maker", "--role", "auditor").strip()
    (sent,) = outbox.outbox
    assert address in str(sent.body)
    assert Invitation.objects.get().roles == ["auditor", "finance_maker"]
    with pytest.raises(CommandError, match="invalid choice"):
        call_command("invite_staff", "x@example.org", "--role", "boss")
    with pytest.raises(CommandError, match="not an e-mail address"):
        call_command("invite_staff", "x", "--role", "auditor")


def test_the_legal_entity_stands_on_papers() -> None:
    named = ["--name", "Acme Royalties", "--legal-name", "Acme SE", "--address", "Main St 1, 10115 Berlin"]
    call_command("describe_programme", *named, "--country", "de", stdout=io.StringIO())
    assert sender_of_papers()[:4] == ("Acme SE", "Main St 1", "10115 Berlin", "Germany")
    with pytest.raises(CommandError, match="ISO 3166"):
        call_command("describe_programme", *named, "--country", "XX")
    told = io.StringIO()
    call_command("describe_programme", *named, "--country", "DE", "--tax-number", "DE 123.456/789", stdout=told)
    # Without the option the number stays.
    call_command("describe_programme", *named, "--country", "DE", stdout=told)
    assert told.getvalue().count("tax number DE 123.456/789") == 2
    assert legal_entity() == ("Acme SE", "Main St 1", "10115 Berlin", "Germany", "Tax number DE 123.456/789")
    for wrong in ("=1+1", "x" * 41, "-", "DE\u200b1"):
        with pytest.raises(CommandError, match="tax number has up to 40"):
            call_command("describe_programme", *named, "--country", "DE", "--tax-number", wrong)


def test_the_doctor_names_every_step_and_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", "--json", stdout=out)
    told = json.loads(out.getvalue())
    steps = {row["step"]: row for row in told["steps"]}
    assert steps.keys() == {step.key for step in STEPS}
    assert all(row["page"] or row["command"] for row in steps.values())
    assert steps["database"]["state"] == steps["roles"]["state"] == steps["broker"]["state"] == "done"
    assert steps["admin"] == {
        "step": "admin",
        "title": "First administrator",
        "state": "to do",
        "page": "",
        "words": "Nobody administers this installation.",
        "command": "manage.py create_admin EMAIL",
    }
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", stdout=out)
    assert "mended by manage.py create_admin EMAIL" in out.getvalue()


def test_the_doctor_names_the_address_at_which_the_installation_serves(
    data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SITE_URL", raising=False)
    (data_directory / "site_url").write_text("http://127.0.0.1:8145\n")
    site = next(step for step in STEPS if step.key == "site")
    (found,) = check((site,), timezone.now())
    assert found.finding.words.startswith("http://127.0.0.1:8145 has no TLS")


def test_one_person_in_both_halves_is_not_enough() -> None:
    at = timezone.now()
    user("both@example.org", at, ("finance_maker", "finance_checker"))
    staff = next(step for step in STEPS if step.key == "staff")
    assert check((staff,), at)[0].finding.words.startswith("One person is both")
    user("other@example.org", at, ("finance_checker",))
    assert check((staff,), at)[0].finding.state == "done"


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.BROKER_URL = "redis://127.0.0.1:1/0"
    broker = next(step for step in STEPS if step.key == "broker")
    (found,) = check((broker,), timezone.now())
    assert found.finding.state == "broken"


def test_the_setup_page_links_each_step(client: Client) -> None:
    at = timezone.now()
    user("ada@example.org", at, ("admin",), second_factor=True)
    log_in(client, "ada@example.org", code=totp_code)
    page = client.get("/console/setup/").content.decode()
    for step in STEPS:
        assert step.title in page
        if step.page and not step.is_machine and "contributors" not in step.page:
            assert f'href="{step.page}"' in page
            assert client.get(step.page).status_code in {200, 302}
    assert "This programme is new" in client.get("/console/").content.decode()


def test_the_pages_of_the_legal_entity_and_of_mail(client: Client, settings: Any) -> None:
    at = timezone.now()
    user("ada@example.org", at, ("admin",), second_factor=True)
    user("mara@example.org", at, ("finance_maker",), second_factor=True)
    log_in(client, "ada@example.org", code=totp_code)
    given = {"name": "Acme", "legal_name": "Acme SE", "address": "Main St 1\n10115 Berlin", "country": "DE"}
    assert client.post("/console/programme/", {**given, "country": ""}).status_code == 422
    assert client.post("/console/programme/", given).status_code == 302
    assert Programme.objects.get().payer == "Acme SE"
    assert client.post("/console/mail/").status_code == 302
    (sent,) = outbox.outbox
    assert (sent.to, sent.subject) == (["ada@example.org"], "Acme: A test of the mail settings")
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    assert "ConnectionRefusedError" in client.post("/console/mail/", follow=True).content.decode()
    maker = Client()
    log_in(maker, "mara@example.org", code=totp_code)
    assert "Only an administrator changes this" in maker.get("/console/programme/").content.decode()
    assert maker.post("/console/programme/", given).status_code == 403
    assert maker.get("/console/mail/").status_code == 403


def test_the_model_team_sees_services_and_no_money(client: Client) -> None:
    at = timezone.now()
    user("theo@example.org", at, ("model_team",), second_factor=True)
    log_in(client, "theo@example.org", code=totp_code)
    assert client.get("/console/")["Location"] == "/console/services/"
    page = client.get("/console/services/").content.decode()
    assert "Payout runs" not in page
    assert client.post("/console/services/", {"name": "Acme painter"}).status_code == 302
    for url in ("/console/attention/", "/console/setup/", "/console/staff/"):
        assert client.get(url).status_code == 200
    for url in ("/console/runs/", "/console/periods/", "/console/plans/", "/console/audit/"):
        assert client.get(url).status_code == 403, url
    assert client.get("/console/staff/invite/").status_code == 403


def test_a_person_changes_their_own_name(client: Client) -> None:
    made = user("ada@example.org", timezone.now())
    log_in(client, "ada@example.org")
    assert client.post("/profile/", {"name": "Ada L."}).status_code == 302
    assert User.objects.get(pk=made.pk).name == "Ada L."
    assert client.post("/profile/", {"name": ""}).status_code == 422
    assert AuditEvent.objects.get(action="rename_user").after == {"name": "Ada L."}
