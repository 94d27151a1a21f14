"""One sandbox for a whole module (`sandbox`), because a server takes seconds to start, or one for a single test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests.conftest import cloned_database
from tests.sandbox_server import StripeSandbox, running_sandbox


@pytest.fixture(scope="module")
def sandbox(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StripeSandbox]:
    """A sandbox that the tests of a module share: each works on accounts of its own."""
    log = tmp_path_factory.mktemp("sandbox") / "log"
    with django_db_blocker.unblock(), cloned_database() as clone, running_sandbox(clone.url, log=log) as server:
        server.settings(reads_per_second=0, writes_per_second=0)
        server.top_up(50_000_000)
        yield server


@pytest.fixture
def undisturbed(sandbox: StripeSandbox) -> Iterator[StripeSandbox]:
    """The shared sandbox, with every fault and setting put back afterwards."""
    before = sandbox.settings()
    yield sandbox
    sandbox.clear_faults()
    sandbox.settings(**{name: value for name, value in before.items() if name not in {"now", "clock_offset_seconds"}})
