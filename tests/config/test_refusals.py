"""What no page takes is refused in words: a NUL character anywhere, a form's address that is opened as a page."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.test import Client

from tests.contributors import people


@pytest.mark.django_db
def test_a_nul_character_in_an_address_names_the_field(client: Client) -> None:
    response = client.get("/", {"q": "a\x00b"})
    assert response.status_code == 400
    assert "“q”" in response.content.decode()


@pytest.mark.django_db
def test_an_address_that_takes_forms_explains_itself_when_it_is_opened(client: Client, at: datetime) -> None:
    people.contributor("Ada", at)
    people.log_in(client, "ada@example.org")
    response = client.get("/portal/payouts/threshold/")
    assert (response.status_code, response["Allow"], response["X-Frame-Options"]) == (405, "POST", "DENY")
    assert "only takes forms" in response.content.decode()


@pytest.mark.django_db
def test_programs_read_what_the_api_says_about_a_method(client: Client) -> None:
    response = client.get("/api/v1/generations")
    assert response["Content-Type"] == "application/problem+json"
    assert client.get("/webhooks/stripe/").status_code == 405
