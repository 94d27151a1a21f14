import contextlib
import os
import subprocess
import sys
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import InternalError, ProgrammingError, connection

from config.engine import servers
from config.engine.roles import APP_ROLE, ROLES_SQL
from tests.databases import CommittedDatabase

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.django_db
def test_a_test_acts_as_the_application_role() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone()[0] == APP_ROLE


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement", ["TRUNCATE django_session", "CREATE TABLE intruder (id int)", "DROP TABLE auth_group"]
)
def test_the_application_role_changes_no_schema_and_truncates_nothing(statement: str) -> None:
    with pytest.raises((ProgrammingError, InternalError)), connection.cursor() as cursor:
        cursor.execute(statement)


def test_a_committed_row_is_seen_by_another_process(committed_database: CommittedDatabase) -> None:
    Group.objects.create(name="seen")
    code = (
        "import django; django.setup();"
        "from django.contrib.auth.models import Group; print(Group.objects.filter(name='seen').count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "1", done.stderr


def test_a_clone_starts_without_the_rows_of_the_last_one(committed_database: CommittedDatabase) -> None:
    assert not Group.objects.filter(name="seen").exists()


def test_two_set_ups_at_once_create_the_roles_together(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(servers.engine(tmp_path / "server", valkey=False))
        url = servers.database_url(tmp_path / "server")
        first, second, observer = (stack.enter_context(contextlib.closing(psycopg2.connect(url))) for _ in range(3))
        observer.autocommit = True
        pool = stack.enter_context(ThreadPoolExecutor(1))
        first.cursor().execute(ROLES_SQL)
        waiting = pool.submit(second.cursor().execute, ROLES_SQL)
        with observer.cursor() as cursor:
            for _ in range(100):
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                if cursor.fetchone() == (1,):
                    break
                time.sleep(0.05)
            else:
                pytest.fail("the second set-up did not wait for the first one")
            first.commit()
            waiting.result(20)
            second.commit()
            cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tributary\\_%'")
            assert cursor.fetchone() == (2,)
            cursor.execute("SELECT count(*) FROM pg_auth_members WHERE member = current_user::regrole")
            assert cursor.fetchone() == (2,)


@pytest.fixture
def empty_database() -> Iterator[str]:
    """The address of a database in which nothing was ever set up."""
    parts = urllib.parse.urlsplit(settings.DATABASE_URL)
    name = f"empty_{uuid.uuid4().hex[:16]}"
    with contextlib.closing(psycopg2.connect(parts._replace(path="/postgres").geturl())) as administrator:
        administrator.autocommit = True
        with administrator.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            yield parts._replace(path=f"/{name}").geturl()
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("command", [["check_books"], ["export_journal"], ["build_index", "orator/orator-1"]])
def test_a_command_before_the_set_up_says_what_to_run_first(empty_database: str, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": empty_database},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("There are no tables in this database yet. Run `manage.py setup_database` first")
    assert "Traceback" not in done.stderr
