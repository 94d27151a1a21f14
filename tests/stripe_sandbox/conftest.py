"""One sandbox for all tests here, because a server takes seconds to start; each test works on accounts of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.databases import cloned_database
from tests.sandbox_server import StripeSandbox, running_sandbox


@pytest.fixture(scope="session")
def sandbox(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StripeSandbox]:
    """A sandbox on a database of its own, without rate limits and with money to send."""
    log = tmp_path_factory.mktemp("sandbox") / "log"
    with cloned_database() as clone, running_sandbox(clone.url, log=log) as server:
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
