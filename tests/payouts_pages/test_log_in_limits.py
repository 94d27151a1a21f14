"""Guessing a password: after a few tries the right one does not help either, for a while."""

from __future__ import annotations

from datetime import datetime

from django.test import Client

from contributors.operations import register_user


def test_guessing_a_password_is_slowed_down(db: None, at: datetime) -> None:
    register_user(email="ada@example.org", password="a long enough one", at=at)
    client = Client()
    for number in range(12):
        client.post("/accounts/login/", {"login": "ada@example.org", "password": f"wrong {number}"})
    response = client.post("/accounts/login/", {"login": "ada@example.org", "password": "a long enough one"})
    assert response.status_code in (200, 429)
    assert "_auth_user_id" not in client.session
