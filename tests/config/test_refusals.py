"""Input that no page accepts is refused in words: a NUL character anywhere, a form's address opened as a page."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.test import Client

from tests.worlds import people


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


@pytest.mark.django_db
@pytest.mark.parametrize("charset", ["rot13", "zlib", "undefined"])
def test_a_charset_that_is_no_encoding_of_text_is_refused(client: Client, charset: str) -> None:
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    form = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'
    response = client.generic("POST", "/accounts/login/", form, content_type=kind)
    assert (response.status_code, f"The charset {charset}" in response.content.decode()) == (400, True)
    response = client.generic("POST", "/api/v1/generations", b"{}", content_type=f"application/json; charset={charset}")
    assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")


@pytest.mark.django_db
@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "unheard-of"])
def test_other_charsets_are_left_to_those_who_read_the_text(client: Client, charset: str) -> None:
    response = client.generic("GET", "/?q=%C3%A9", b"", content_type=f"text/plain; charset={charset}")
    assert response.status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "status"),
    [("/api/v1/model-versions?name=%00", 400), ("/api/v1/generations/not-a-uuid", 404), ("/api/v1/nowhere", 404)],
)
def test_programs_are_told_as_a_problem_what_ends_before_the_api(client: Client, address: str, status: int) -> None:
    response = client.get(address)
    assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json")
    assert response.json()["status"] == status


@pytest.mark.django_db
def test_people_read_a_page_where_there_is_nothing(client: Client) -> None:
    response = client.get("/nowhere/")
    assert (response.status_code, response["Content-Type"]) == (404, "text/html; charset=utf-8")
