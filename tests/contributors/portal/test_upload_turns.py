"""Uploads take turns: one of a person, two of a web process, and a limit of works in an hour."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.utils import timezone

from contributors.models import Work
from contributors.operations import works
from people.models import User
from tests.worlds import people

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client: Client, at: datetime) -> Any:
    owner = people.contributor("Ada", at)
    people.log_in(client, "ada@example.org")
    return people.dataset(owner, at)


def upload(client: Client, dataset: Any, seed: int) -> str:
    files = [SimpleUploadedFile(f"{seed}.txt", people.text(seed).encode())]
    answer = client.post("/portal/works/upload/", {"dataset": str(dataset.public_id), "uploads": files}, follow=True)
    return str(answer.content.decode())


def test_a_person_uploads_one_lot_at_a_time(client: Client, ada: Any) -> None:
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            user = User.objects.get(email="ada@example.org")
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", [works.UPLOAD_LOCK, user.pk])
            assert "Another upload of yours is still being checked" in upload(client, ada, 1)
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [works.UPLOAD_LOCK, user.pk])
    finally:
        other.close()
    assert not Work.objects.exists()
    upload(client, ada, 1)
    upload(client, ada, 2)
    assert Work.objects.count() == 2


def test_a_process_checks_two_uploads_at_a_time(client: Client, ada: Any) -> None:
    held = [works._CHECKING.acquire(blocking=False) for _ in range(2)]
    try:
        assert held == [True, True]
        assert "Other uploads are being checked" in upload(client, ada, 1)
    finally:
        for _ in held:
            works._CHECKING.release()
    upload(client, ada, 1)
    assert Work.objects.count() == 1


def test_the_works_of_an_hour_are_limited(client: Client, ada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "WORKS_PER_HOUR_MAX", 2)
    for seed in range(3):
        page = upload(client, ada, seed)
    assert "At most 2 works are uploaded in an hour" in page
    assert Work.objects.count() == 2
    later = timezone.now() + timedelta(hours=2)
    with works.upload_turn(user=User.objects.get(), contributor=ada.contributor, at=later):
        pass
