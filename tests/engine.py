"""A pytest plugin, loaded before the settings are read: one embedded engine for the whole run.

The controlling process owns the servers; its xdist workers find them through the same addresses. Where DATABASE_URL
or BROKER_URL is set, that server is used and nothing embedded takes its place.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from xdist.scheduler import LoadScopeScheduling

from config.engine import servers

ROOT = Path(__file__).resolve().parent.parent / ".cache" / "test"
NEEDS_POSTGRES = "DATABASE_URL" not in os.environ
NEEDS_VALKEY = "BROKER_URL" not in os.environ

os.environ.setdefault("DATABASE_URL", servers.database_url(ROOT))
os.environ.setdefault("BROKER_URL", servers.broker_url(ROOT))
# Each process of the run has a cache of its own, which every test begins by emptying.
_NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ["CACHE_URL"] = servers.cache_url(os.environ["BROKER_URL"], 1 + _NUMBER % 14)
os.environ.setdefault("TRIBUTARY_DATA", str(ROOT / "data"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A test that computes between two statements is no stuck session.
os.environ.setdefault("DATABASE_IDLE_SECONDS_MAX", "120")
os.environ.setdefault("LOG_LEVEL", "WARNING")
# The processes of one run share this word: the names of its databases begin with it.
os.environ.setdefault("TRIBUTARY_TEST_RUN", uuid.uuid4().hex[:8])
# The browser's synchronous interface keeps an event loop in this thread, for which Django would refuse every query.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"

# Hundreds of processes import the product: each would compile it anew where the environment forbids compiled files.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# These folders are one unit of work each, because their tests share one installation.
FOLDERS = ("tests/journeys/",)
# Units that take long begin early: a late one would leave the other workers without work.
FIRST = (
    *FOLDERS,
    "tests/influence/test_attributors.py",
    "tests/faults/",
    "tests/config/",
    "tests/attribution/",
    "tests/influence/",
    "tests/races/",
    "tests/payouts",
)

_stack = contextlib.ExitStack()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    is_xdist_worker = hasattr(config, "workerinput")
    if is_xdist_worker or config.option.collectonly or not (NEEDS_POSTGRES or NEEDS_VALKEY):
        return
    # A proof about kill -9 of a client or a backend does not rest on fsync. The database of a run dies with it.
    options = ["fsync=off", "full_page_writes=off"]
    owned = servers.engine(ROOT, postgres=NEEDS_POSTGRES, valkey=NEEDS_VALKEY, postgres_options=options)
    if _stack.enter_context(owned) and NEEDS_POSTGRES:
        _drop_left_databases()


def _drop_left_databases() -> None:
    """Drop the clones of runs that were killed. Nobody else uses the engine, since this process owns it."""
    admin = psycopg2.connect(servers.database_url(ROOT, "postgres"), connect_timeout=10)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname ~ '^(clone|making|test)_'")
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    admin.close()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Skip the coverage of killed programs before pytest-cov sums the data files, in its hook around this one."""
    result = yield
    config = session.config
    if config.getoption("cov_source", None) and not hasattr(config, "workerinput"):
        from tests.coverage import remove_empty

        removed = remove_empty(config.rootpath / os.environ.get("COVERAGE_FILE", ".coverage"))
        if removed and (reporter := config.pluginmanager.get_plugin("terminalreporter")):
            reporter.ensure_newline()
            reporter.write_line(f"The coverage of {removed} killed programs was not written, and is not counted.")
    return result


def pytest_unconfigure(config: pytest.Config) -> None:
    _stack.close()


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Give each worker whole files, so that a file's shared fixtures are made once, and the long ones first."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in FOLDERS if nodeid.startswith(folder)), nodeid.split("::", 1)[0])

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=_place), last=False)
        super()._assign_work_unit(node)


def _place(unit: str) -> int:
    return next((place for place, first in enumerate(FIRST) if unit.startswith(first)), len(FIRST))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    return ByFile(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the modules out of every later collection of garbage: there are thousands, and none is let go."""
    gc.collect()
    gc.freeze()
