"""Guessing a password: after a few tries the right one does not help either, for a while."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.test import Client, override_settings

from people.operations.users import register_user


def test_guessing_a_password_is_slowed_down(db: None, at: datetime) -> None:
    register_user(email="ada@example.org", password="a long enough one", at=at)
    client = Client()
    for number in range(12):
        client.post("/accounts/login/", {"login": "ada@example.org", "password": f"wrong {number}"})
    response = client.post("/accounts/login/", {"login": "ada@example.org", "password": "a long enough one"})
    assert response.status_code in (200, 429)
    assert "_auth_user_id" not in client.session


def test_nobody_logs_in_while_tries_cannot_be_counted(db: None, at: datetime) -> None:
    register_user(email="ada@example.org", password="a long enough one", at=at)
    gone = {**settings.CACHES["default"], "LOCATION": "unix:///nowhere/at/all.sock"}
    client = Client()
    with override_settings(CACHES={"default": gone}):
        response = client.post("/accounts/login/", {"login": "ada@example.org", "password": "a long enough one"})
    assert (response.status_code, response["Retry-After"]) == (503, "60")
    assert "Try again in a few" in response.content.decode()
    assert "_auth_user_id" not in client.session
