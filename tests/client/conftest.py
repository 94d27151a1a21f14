"""The product's own web server over a small real programme, for the client to talk to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from attribution.operations import model_services
from config.engine import processes, servers
from tests.attribution.conftest import indexed_database, trained
from tests.databases import cloned_database, on_database
from tests.worlds.programme import Programme
from tests.worlds.trained import IndexedDatabase

__all__ = ["indexed_database", "trained"]

SCOPES = ["generations:write", "generations:read"]
CLIENT_PATHS = str(Path(__file__).resolve().parents[2] / "clients" / "python" / "src")


@dataclass(frozen=True)
class Served:
    """A programme behind a running web server; this process works on its database."""

    url: str
    key: str
    programme: Programme
    data: Path

    def key_with(self, *scopes: str) -> str:
        """Issue a key of the same service."""
        return model_services.issue_key(service=self.programme.service, scopes=scopes, at=timezone.now())[1]


@pytest.fixture(scope="module")
def served(
    indexed_database: IndexedDatabase, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with ExitStack() as stack:
        stack.enter_context(django_db_blocker.unblock())
        clone = stack.enter_context(cloned_database(indexed_database.name))
        stack.enter_context(on_database(clone.name))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(settings, "TRIBUTARY_DATA", indexed_database.data)
        port = servers.free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {**clone.environment(), "TRIBUTARY_DATA": str(indexed_database.data), "SITE_URL": url}
        web = [processes.web("127.0.0.1", port)]
        logs = tmp_path_factory.mktemp("logs")
        stack.enter_context(processes.Supervisor(web, logs=logs, environment=environment, tell=print))
        key = model_services.issue_key(service=indexed_database.programme.service, scopes=SCOPES, at=timezone.now())[1]
        yield Served(url, key, indexed_database.programme, indexed_database.data)


@pytest.fixture
def on_served_data(served: Served, data_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process work on the server's files, in place of those of the test alone."""
    monkeypatch.setattr(settings, "TRIBUTARY_DATA", served.data)


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(served: Served, tmp_path: Path) -> Command:
    """Run `tributary` as a program of its own, with stored logins of this test alone."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRIBUTARY_")},
        "TRIBUTARY_CONFIG": str(tmp_path / "config"),
        "PYTHONPATH": CLIENT_PATHS,
    }

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tributary.cli.main", *arguments],
            env={**environment, **options.pop("environment", {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )

    return run
