"""One sandbox for all payout tests of a process; a test's own rows are rolled back, and share no id with another's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest
from django.conf import settings
from pytest_django import DjangoDbBlocker

from tests.databases import cloned_database
from tests.sandbox_server import StripeSandbox, running_sandbox
from tests.worlds.world import World


@pytest.fixture(scope="session")
def shared_sandbox(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StripeSandbox]:
    log = tmp_path_factory.mktemp("sandbox") / "log"
    with django_db_blocker.unblock(), cloned_database() as clone, running_sandbox(clone.url, log=log) as server:
        server.settings(reads_per_second=0, writes_per_second=0)
        server.top_up(5_000_000)
        yield server


@pytest.fixture
def sandbox(shared_sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeSandbox]:
    """The product's settings point at the sandbox, and its faults are gone afterwards."""
    use(shared_sandbox, monkeypatch)
    yield shared_sandbox
    shared_sandbox.clear_faults()


def use(server: StripeSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "STRIPE_SECRET_KEY", server.key)
    monkeypatch.setattr(settings, "STRIPE_READ_KEY", server.read_key)
    monkeypatch.setattr(settings, "STRIPE_API_BASE", server.url)
    monkeypatch.setattr(settings, "STRIPE_WEBHOOK_SECRETS", [server.webhook_secret])
    monkeypatch.setattr(settings, "STRIPE_CONNECT_WEBHOOK_SECRETS", [server.connect_webhook_secret])
    monkeypatch.setattr(settings, "STRIPE_REQUESTS_PER_SECOND", 1000.0)


@pytest.fixture
def world(db: None, at: datetime) -> World:
    """A programme in which nothing talks to Stripe."""
    made = World(at)
    made.policy()
    return made


@pytest.fixture
def paying(db: None, sandbox: StripeSandbox, at: datetime) -> World:
    """A programme that pays through the sandbox; the ledger's balance there equals Stripe's."""
    made = World(at, sandbox)
    made.policy()
    made.same_balance_as_stripe()
    return made
