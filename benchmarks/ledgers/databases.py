"""Databases that are made for a benchmark and dropped after it, on one server for all that it compares."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg2

ROOT = Path(__file__).resolve().parent.parent.parent


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of a server; the embedded engine where DATABASE_URL is unset."""
    from config.engine import servers

    with contextlib.ExitStack() as stack:
        if "DATABASE_URL" in os.environ:
            yield os.environ["DATABASE_URL"]
        else:
            root = ROOT / ".cache" / "bench"
            stack.enter_context(servers.engine(root, valkey=False))
            yield servers.database_url(root)


@contextlib.contextmanager
def database(address: str) -> Iterator[str]:
    """A fresh database on the server, dropped at the end."""
    parts = urllib.parse.urlsplit(address)
    name = f"bench_{uuid.uuid4().hex[:12]}"
    admin = psycopg2.connect(parts._replace(path="/postgres").geturl())
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        try:
            yield parts._replace(path=f"/{name}").geturl()
        finally:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    admin.close()


def migrate(address: str) -> None:
    """Make the database the product's: its roles and tables, and the address that its settings read."""
    os.environ["DATABASE_URL"] = address
    os.environ.setdefault("DATABASE_IDLE_SECONDS_MAX", "600")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    subprocess.run([sys.executable, "manage.py", "setup_database", "-v", "0"], check=True, timeout=600, cwd=ROOT)


@contextlib.contextmanager
def migrated_database() -> Iterator[str]:
    """The address of a fresh, migrated database, which the settings name."""
    with server() as address, database(address) as own:
        migrate(own)
        yield own
