"""What every test may ask for: the application role, a private data directory, a database in which commits are real."""

from __future__ import annotations

import contextlib
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.test.utils import setup_databases, teardown_databases
from pytest_django import DjangoDbBlocker

from config.database import APP_ROLE, OWNER_ROLE, ROLES_SQL, take_role

if TYPE_CHECKING:
    from tests.sandbox_server import StripeSandbox


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
        cursor.execute(ROLES_SQL)
    take_role(connection, OWNER_ROLE)


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    django_db_blocker: DjangoDbBlocker,
    django_db_keepdb: bool,
    django_db_createdb: bool,
    django_db_modify_db_settings: None,
) -> Iterator[None]:
    """The migrated test database, from here on as the application role sees it.

    In place of pytest-django's fixture, which makes no database where every chosen test works on a clone of it.
    """
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, keepdb=django_db_keepdb and not django_db_createdb)
        take_role(connection, APP_ROLE)
    yield
    with django_db_blocker.unblock():
        take_role(connection, OWNER_ROLE)
        if not django_db_keepdb:
            teardown_databases(made, verbosity=0)


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TRIBUTARY_DATA of this test alone, also for the processes that it starts."""
    directory = tmp_path / "data"
    directory.mkdir()
    monkeypatch.setattr(settings, "TRIBUTARY_DATA", directory)
    monkeypatch.setenv("TRIBUTARY_DATA", str(directory))
    return directory


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    """No test is slowed down by the rate limits that another one used up."""
    cache.clear()


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


@contextlib.contextmanager
def cloned_database(template: str = "") -> Iterator[CommittedDatabase]:
    """A fresh clone of the migrated test database (or of `template`), for as long as the block runs. Nobody may be
    connected to what is cloned."""
    name = f"clone_{uuid.uuid4().hex[:16]}"
    parts = urllib.parse.urlsplit(settings.DATABASE_URL)
    template = template or str(connection.settings_dict["NAME"])
    connection.close()
    admin = _administrator()
    try:
        with admin.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" OWNER {OWNER_ROLE}')
        yield CommittedDatabase(name, parts._replace(path=f"/{name}").geturl())
    finally:
        with admin.cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        admin.close()


@contextlib.contextmanager
def on_database(name: str) -> Iterator[None]:
    """Let Django's connection be one to this database."""
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


@pytest.fixture
def committed_database(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommittedDatabase]:
    """A fresh clone of the migrated test database: what is committed is seen by threads and subprocesses.

    A clone, and not a TRUNCATE between tests, because the ledger refuses a TRUNCATE to everybody.
    """
    with django_db_blocker.unblock(), cloned_database() as clone, on_database(clone.name):
        monkeypatch.setenv("DATABASE_URL", clone.url)
        yield clone


@pytest.fixture
def stripe_sandbox(
    committed_database: CommittedDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StripeSandbox]:
    """A running sandbox on this test's own database; the product's settings, also of subprocesses, point at it."""
    from tests.sandbox_server import running_sandbox

    with running_sandbox(committed_database.url, log=tmp_path / "sandbox.log") as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
            monkeypatch.setattr(settings, name, [value] if name.endswith("_SECRETS") else value)
        yield server
