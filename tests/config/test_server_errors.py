"""Without the database and on a full disk, pages and API answer 503 in words; a crash of the API is a problem too."""

from __future__ import annotations

import errno
import io
from datetime import datetime
from typing import Any

import psycopg2.errors
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import InterfaceError, OperationalError
from django.test import Client, RequestFactory

from config.problems import server_error
from tests.worlds import people


def raised(error: BaseException, path: str, cause: BaseException | None = None) -> Any:
    try:
        raise error from cause
    except BaseException:
        return server_error(RequestFactory().get(path))


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
def test_without_the_database_everybody_reads_503_and_when_to_come_back(error: Exception) -> None:
    answer = raised(error, "/api/v1/generations")
    assert (answer.status_code, answer["Content-Type"]) == (503, "application/problem+json")
    assert answer["Retry-After"] == "10"
    page = raised(error, "/portal/")
    assert (page.status_code, page["Retry-After"]) == (503, "10")
    assert b"database does not answer" in page.content


def test_a_full_disk_says_so() -> None:
    for error, cause in (
        (OperationalError("x"), psycopg2.errors.DiskFull()),
        (OSError(errno.ENOSPC, "No space left"), None),
    ):
        answer = raised(error, "/api/v1/generations", cause)
        assert answer.status_code == 503
        assert b"full" in answer.content


def test_a_crash_of_the_api_is_a_problem() -> None:
    answer = raised(ZeroDivisionError(), "/api/v1/usage")
    assert (answer.status_code, answer["Content-Type"]) == (500, "application/problem+json")


@pytest.mark.django_db
def test_too_many_files_are_called_so(client: Client, at: datetime) -> None:
    client.raise_request_exception = False
    owner = people.contributor("Ada", at)
    people.dataset(owner, at)
    people.log_in(client, "ada@example.org")
    files = [SimpleUploadedFile(f"{number}.txt", b"x") for number in range(201)]
    page = client.post("/portal/works/upload/", {"uploads": files})
    assert page.status_code == 400
    assert "too many files" in page.content.decode()
    assert "NUL" not in page.content.decode()


def test_a_picture_with_a_palette_has_fewer_pixels() -> None:
    from PIL import Image

    from contributors.fingerprints import fingerprint
    from contributors.formats import UnreadableContent

    written = io.BytesIO()
    Image.new("P", (4001, 4001)).save(written, "PNG")
    with pytest.raises(UnreadableContent, match="16,000,000 in all are allowed with a palette"):
        fingerprint("image", written.getvalue())
