"""Mails about password and factor, in a database in which commits are real: allauth sends some after the commit."""

from __future__ import annotations

import re
from datetime import datetime

from django.core import mail
from django.test import Client

from people.models import AuditEvent
from tests.databases import CommittedDatabase
from tests.worlds import people


def test_changes_of_password_and_factor_are_mailed_and_logged(
    committed_database: CommittedDatabase, client: Client, at: datetime
) -> None:
    user = people.user("pat@example.org", at)
    people.log_in(client, user.email)
    client.post("/accounts/reauthenticate/", {"password": people.PASSWORD})
    page = client.get("/accounts/2fa/totp/activate/").content.decode()
    found = re.search(r"\b[A-Z2-7]{32}\b", page)
    assert found is not None
    secret = found[0]
    assert client.post("/accounts/2fa/totp/activate/", {"code": people.totp_code(secret)}).status_code == 302
    sent = {"oldpassword": people.PASSWORD, "password1": "another one 77", "password2": "another one 77"}
    assert client.post("/accounts/password/change/", sent).status_code == 302
    client.post("/accounts/2fa/recovery-codes/generate/")
    client.post("/accounts/2fa/totp/deactivate/")
    assert list(AuditEvent.objects.order_by("sequence").values_list("action", flat=True)) == [
        "totp_activated",
        "password_changed",
        "recovery_codes_generated",
        "totp_deactivated",
    ]
    assert [message.to for message in mail.outbox] == [[user.email]] * 4
    assert all("If you did not do this" in str(message.body) for message in mail.outbox)
