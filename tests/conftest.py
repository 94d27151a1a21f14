"""Fixtures for every test: the application role, a private data directory, a database in which commits are real."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from config.engine.roles import APP_ROLE, take_role
from tests.databases import CommittedDatabase, cloned_database, on_database, template

if TYPE_CHECKING:
    from tests.sandbox_server import StripeSandbox


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A clone of the migrated template for this process, seen by the application role.

    In place of pytest-django's fixture, which migrates a database in each process of a run.
    """
    with django_db_blocker.unblock():
        template()
    with cloned_database() as clone, on_database(clone.name):
        take_role(connection, APP_ROLE)
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords(django_test_environment: None) -> Iterator[None]:
    """Argon2 is slow by design, and few tests log in; those of the passwords take the product's own hasher."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


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


@pytest.fixture
def committed_database(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommittedDatabase]:
    """A fresh clone of the migrated template: threads and subprocesses see the rows that are committed in it.

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed of the order, which repeats a failure that depends on it."""
    seed = config.getoption("randomly_seed", None)
    if seed is not None:
        terminalreporter.write_line(f"The tests ran in random order; --randomly-seed={seed} repeats it.")
