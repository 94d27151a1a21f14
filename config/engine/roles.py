"""The two database roles: one that owns the tables, one that may only use them.

Migrations run as `tributary_owner`; web, worker, beat and tests act as `tributary_app`, which can neither change the
schema nor truncate a table, and to which the ledger grants still less. A role is taken on connect through libpq's
`options`, so that no code path can forget it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

OWNER_ROLE = "tributary_owner"
APP_ROLE = "tributary_app"

# Roles belong to the whole server, and no lock reaches across its databases. A second process waits for the first one's
# commit inside CREATE or GRANT, then finds the work done.
ROLES_SQL = f"""
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER_ROLE}') THEN
    CREATE ROLE {OWNER_ROLE} NOLOGIN CREATEDB;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
    CREATE ROLE {APP_ROLE} NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$ BEGIN
  IF (SELECT count(*) FROM pg_auth_members WHERE member = current_user::regrole
      AND roleid IN ('{OWNER_ROLE}'::regrole, '{APP_ROLE}'::regrole)) < 2 THEN
    GRANT {OWNER_ROLE}, {APP_ROLE} TO CURRENT_USER;
  END IF;
EXCEPTION WHEN unique_violation THEN NULL;
END $$;
"""


def connection_options(role: str, *, idle_seconds_max: int) -> str:
    """libpq options for a session that acts as `role` ("" keeps the login role)."""
    options = [f"-c idle_in_transaction_session_timeout={idle_seconds_max * 1000}"]
    if role:
        options.append(f"-c role={role}")
    return " ".join(options)


def take_role(connection: BaseDatabaseWrapper, role: str) -> None:
    """Make this and every later session of `connection` act as `role` ("" is the login role)."""
    connection.close()
    idle_seconds_max = int(connection.settings_dict.get("IDLE_SECONDS_MAX", 15))
    options = connection.settings_dict.setdefault("OPTIONS", {})
    options["options"] = connection_options(role, idle_seconds_max=idle_seconds_max)
    connection.settings_dict["ROLE"] = role


@contextlib.contextmanager
def acting_as(role: str, alias: str = "default") -> Iterator[BaseDatabaseWrapper]:
    """Act as `role` inside the block, and as before after it."""
    connection = connections[alias]
    before = str(connection.settings_dict.get("ROLE", ""))
    take_role(connection, role)
    try:
        yield connection
    finally:
        take_role(connection, before)


def ensure_roles(alias: str = "default") -> None:
    """Create both roles and hand the database to the owner role. Needs a login that may create roles."""
    with acting_as("", alias) as connection, connection.cursor() as cursor:
        cursor.execute(ROLES_SQL)
        cursor.execute("SELECT quote_ident(current_database())")
        cursor.execute(f"ALTER DATABASE {cursor.fetchone()[0]} OWNER TO {OWNER_ROLE}")


def is_set_up(alias: str = "default") -> bool:
    """Whether setup_database has made tables here; asked as the login role, since the others may not exist."""
    with acting_as("", alias) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
        return bool(cursor.fetchone()[0])
