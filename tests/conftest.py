"""What every test may ask for: the application role, a private data directory, a database in which commits are real."""

from __future__ import annotations

import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from django.conf import settings
from django.db import connection
from pytest_django import DjangoDbBlocker

from config.database import APP_ROLE, OWNER_ROLE, ROLES_SQL, take_role


def _administrator(database: str = "postgres") -> Any:
    """A connection as the login role, for what no application may do: creating and dropping databases."""
    parts = urllib.parse.urlsplit(settings.DATABASE_URL)
    admin = psycopg2.connect(parts._replace(path=f"/{database}").geturl(), connect_timeout=10)
    admin.autocommit = True
    return admin


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Create and migrate the test database as its owner; `django_db_setup` then hands it to the application role."""
    with _administrator() as admin, admin.cursor() as cursor:
        # Roles belong to the whole server: two test processes must not create them at once.
        cursor.execute("SELECT pg_advisory_lock(7461)")
        cursor.execute(ROLES_SQL)
        cursor.execute("SELECT pg_advisory_unlock(7461)")
    take_role(connection, OWNER_ROLE)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The migrated test database, from here on as the application role sees it."""
    with django_db_blocker.unblock():
        take_role(connection, APP_ROLE)
    yield
    with django_db_blocker.unblock():
        take_role(connection, OWNER_ROLE)


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TRIBUTARY_DATA of this test alone, also for the processes that it starts."""
    directory = tmp_path / "data"
    directory.mkdir()
    monkeypatch.setattr(settings, "TRIBUTARY_DATA", directory)
    monkeypatch.setenv("TRIBUTARY_DATA", str(directory))
    return directory


@pytest.fixture
def at() -> datetime:
    """The moment at which a test takes place."""
    return datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class CommittedDatabase:
    name: str
    url: str

    def environment(self) -> dict[str, str]:
        """What a subprocess needs to work on this database."""
        return {"DATABASE_URL": self.url}


@pytest.fixture
def committed_database(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommittedDatabase]:
    """A fresh clone of the migrated test database: what is committed is seen by threads and subprocesses.

    A clone, and not a TRUNCATE between tests, because the ledger refuses a TRUNCATE to everybody.
    """
    template = connection.settings_dict["NAME"]
    name = f"clone_{uuid.uuid4().hex[:16]}"
    parts = urllib.parse.urlsplit(settings.DATABASE_URL)
    with django_db_blocker.unblock():
        connection.close()
        admin = _administrator()
        with admin.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" OWNER {OWNER_ROLE}')
        url = parts._replace(path=f"/{name}").geturl()
        monkeypatch.setenv("DATABASE_URL", url)
        connection.settings_dict["NAME"] = name
        try:
            yield CommittedDatabase(name, url)
        finally:
            connection.close()
            connection.settings_dict["NAME"] = template
            with admin.cursor() as cursor:
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            admin.close()
