"""A programme with real commits, a sandbox and workers to kill."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.conf import settings

from tests.databases import CommittedDatabase
from tests.faults.workers import Workers, workers
from tests.sandbox_server import StripeSandbox
from tests.worlds.world import World


@pytest.fixture
def killable(stripe_sandbox: StripeSandbox, committed_database: CommittedDatabase) -> Iterator[Workers]:
    stripe_sandbox.settings(reads_per_second=0, writes_per_second=0)
    with workers(stripe_sandbox, committed_database.url) as made:
        yield made


@pytest.fixture
def committed_world(
    stripe_sandbox: StripeSandbox, django_db_blocker: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> World:
    """Now, and not the tests' usual moment: the workers and the sandbox run by the real clock."""
    monkeypatch.setattr(settings, "STRIPE_REQUESTS_PER_SECOND", 1000.0)
    world = World(datetime.now(UTC), stripe_sandbox)
    world.policy()
    return world
