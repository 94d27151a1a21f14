"""Databases for tests: one migrated template, and as many clones of it as the run needs.

Migrations take longer than most tests together, so one process of a run applies them and the others clone the result.
The template stays in the test engine until the product's code or its requirements change.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg2
from django.conf import settings
from django.db import connection

from config.engine import servers
from config.engine.roles import OWNER_ROLE, ROLES_SQL, take_role

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "test"
# The processes of one run share this word, so that the end of the run can drop their leftovers.
RUN = os.environ.setdefault("TRIBUTARY_TEST_RUN", uuid.uuid4().hex[:8])
# Not digested: none of these can change a table.
APART = {"tests", "docs", "benchmarks", "clients", "templates", "static", "staticfiles", "var"}


def administrator(database: str = "postgres") -> Any:
    """Connect as the login role, which alone may create and drop databases."""
    parts = urllib.parse.urlsplit(settings.DATABASE_URL)
    admin = psycopg2.connect(parts._replace(path=f"/{database}").geturl(), connect_timeout=10)
    admin.autocommit = True
    return admin


def _digest() -> str:
    """Digest the product's Python, SQL and requirements: from anything else no migration reads."""
    digest = hashlib.sha256()
    folders = sorted(path for path in ROOT.iterdir() if path.is_dir() and path.name not in APART)
    files = [ROOT / "requirements.txt"]
    for folder in folders:
        if not folder.name.startswith("."):
            files += sorted(path for suffix in ("py", "sql") for path in folder.rglob(f"*.{suffix}"))
    for file in files:
        digest.update(f"{file.relative_to(ROOT)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@cache
def template() -> str:
    """Return the name of the migrated template. The first process to ask makes it; the others wait for it."""
    name = f"template_{_digest()}"
    with contextlib.closing(administrator()) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('template'))")
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'template\\_%'")
        found = {row[0] for row in cursor.fetchall()}
        if name not in found:
            _migrate(f"making_{RUN}")
            cursor.execute(f'ALTER DATABASE "making_{RUN}" RENAME TO "{name}"')
        _use(name)
        for old in found - {name}:
            cursor.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [old])
            if cursor.fetchone() == (True,):
                cursor.execute(f'DROP DATABASE IF EXISTS "{old}"')
    return name


_in_use: list[Any] = []


def _use(name: str) -> None:
    """Hold a lock on this template until the process ends: another version of the product must not drop it."""
    session = administrator()
    session.cursor().execute("SELECT pg_advisory_lock_shared(hashtext(%s))", [name])
    _in_use.append(session)


def _migrate(name: str) -> None:
    """Create the database `name` with every table, as the owner of the tables."""
    with contextlib.closing(administrator()) as admin, admin.cursor() as cursor:
        cursor.execute(ROLES_SQL)
    before = connection.settings_dict["NAME"]
    take_role(connection, OWNER_ROLE)
    connection.settings_dict["TEST"]["NAME"] = name
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    connection.close()
    connection.settings_dict["NAME"] = settings.DATABASES["default"]["NAME"] = before


def copy_engine(to: Path) -> None:
    """Copy a migrated embedded engine to the data directory `to`, where a new installation finds its tables."""
    made = _migrated_engine() / "engine" / "postgres"
    shutil.copytree(made, to / "engine" / "postgres")


@cache
def _migrated_engine() -> Path:
    """Return the data directory of a migrated engine that is stopped. The first process to ask makes it."""
    directory = CACHE / f"engine_{_digest()}"
    with contextlib.closing(administrator()) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('engine'))")
        CACHE.mkdir(parents=True, exist_ok=True)
        if not directory.exists():
            for old in CACHE.glob("engine_*"):
                shutil.rmtree(old)
            with tempfile.TemporaryDirectory(dir=CACHE) as making:
                root = Path(making) / "engine"
                with servers.engine(root, valkey=False):
                    environment = {**os.environ, "DATABASE_URL": servers.database_url(root)}
                    command = [sys.executable, "manage.py", "setup_database", "-v", "0"]
                    subprocess.run(command, check=True, env=environment, cwd=ROOT, timeout=300)
                root.rename(directory)
    return directory


@dataclass(frozen=True)
class CommittedDatabase:
    """A database with rows that threads and other processes can see."""

    name: str
    url: str

    def environment(self) -> dict[str, str]:
        """Return the variables that let a subprocess work on this database."""
        return {"DATABASE_URL": self.url}


@contextlib.contextmanager
def cloned_database(source: str = "") -> Iterator[CommittedDatabase]:
    """Clone the migrated template, or `source`, for as long as the block runs. Nobody may be connected to `source`."""
    clone = new_clone(source)
    try:
        yield clone
    finally:
        drop(clone.name)


def new_clone(source: str = "") -> CommittedDatabase:
    """Clone the migrated template, or `source`; the end of the run drops the clone."""
    source = source or template()
    connection.close()
    name = f"clone_{RUN}_{uuid.uuid4().hex[:12]}"
    with contextlib.closing(administrator()) as admin, admin.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}" OWNER {OWNER_ROLE}')
    parts = urllib.parse.urlsplit(settings.DATABASE_URL)
    return CommittedDatabase(name, parts._replace(path=f"/{name}").geturl())


def drop(name: str) -> None:
    """Drop the database, even while others are connected to it."""
    with contextlib.closing(administrator()) as admin, admin.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextlib.contextmanager
def on_database(name: str) -> Iterator[None]:
    """Point Django's connection to this database."""
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before
