"""A pytest plugin, loaded before the settings are read: one embedded engine for the whole run.

The controlling process owns the servers; its xdist workers find them through the same addresses. Where DATABASE_URL
or BROKER_URL is set, that server is used and nothing embedded takes its place.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

import psycopg2
import pytest

from config import local

ROOT = Path(__file__).resolve().parent.parent / ".cache" / "test"
NEEDS_POSTGRES = "DATABASE_URL" not in os.environ
NEEDS_VALKEY = "BROKER_URL" not in os.environ

os.environ.setdefault("DATABASE_URL", local.database_url(ROOT))
os.environ.setdefault("BROKER_URL", local.broker_url(ROOT))
# Each process of the run has a cache of its own, which every test begins by emptying.
_NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ["CACHE_URL"] = local.cache_url(os.environ["BROKER_URL"], 1 + _NUMBER % 14)
os.environ.setdefault("TRIBUTARY_DATA", str(ROOT / "data"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A test that computes between two statements is no stuck session.
os.environ.setdefault("DATABASE_IDLE_SECONDS_MAX", "120")
os.environ.setdefault("LOG_LEVEL", "WARNING")
# The processes of one run share this word: the names of its databases begin with it.
os.environ.setdefault("TRIBUTARY_TEST_RUN", uuid.uuid4().hex[:8])
# The browser's synchronous interface keeps an event loop in this thread, for which Django would refuse every query.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"

_stack = contextlib.ExitStack()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    is_xdist_worker = hasattr(config, "workerinput")
    if is_xdist_worker or config.option.collectonly or not (NEEDS_POSTGRES or NEEDS_VALKEY):
        return
    # What a run proves about kill -9 of a client or a backend does not rest on fsync; its database dies with it.
    options = ["fsync=off", "full_page_writes=off"]
    owned = local.engine(ROOT, postgres=NEEDS_POSTGRES, valkey=NEEDS_VALKEY, postgres_options=options)
    if _stack.enter_context(owned) and NEEDS_POSTGRES:
        _drop_left_databases()


def _drop_left_databases() -> None:
    """Drop the clones of runs that were killed. Nobody else uses the engine, since this process owns it."""
    admin = psycopg2.connect(local.database_url(ROOT, "postgres"), connect_timeout=10)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname ~ '^(clone|making|test)_'")
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    admin.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    _stack.close()
