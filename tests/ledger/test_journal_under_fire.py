"""Four posters deliver the same batches four times each way while clients and backends are killed; the books hold.

The two bugs that a first design had are kept as mutants: the same checks must catch them.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import pytest
from django.db import DatabaseError, connection
from pytest_django import DjangoDbBlocker

from config.engine import servers
from ledger.models import Accrual, Entry
from ledger.operations import periods
from ledger.queries.invariants import OF_THE_JOURNAL, check_all
from tests.databases import CommittedDatabase, copy_engine
from tests.ledger import poster

POSTERS = 4
DELIVERIES = 4


class Fire:
    """Posters under way, and the means to kill them and their backends."""

    def __init__(self, database: CommittedDatabase, directory: Path, batches: int, seed: int) -> None:
        self.database, self.directory, self.batches = database, directory, batches
        self.random = random.Random(seed)
        self.client_kills = self.backend_kills = 0
        self.started = 0
        periods.open_periods(at=datetime(2026, 11, 20, tzinfo=UTC))
        self.admin = psycopg2.connect(database.url)
        self.admin.autocommit = True
        self.own = [self.admin.info.backend_pid]
        connection.ensure_connection()
        self.own.append(connection.connection.info.backend_pid)

    def start(self) -> subprocess.Popen[bytes]:
        self.started += 1
        command = [
            sys.executable,
            "-m",
            "tests.ledger.poster",
            str(self.batches),
            str(self.started),
            str(self.directory / f"log{self.started}"),
        ]
        with (self.directory / f"errors{self.started}").open("wb") as errors:
            return subprocess.Popen(command, stdout=errors, stderr=errors)

    def kill_a_client(self, running: list[subprocess.Popen[bytes]]) -> None:
        victim = self.random.choice(running)
        if victim.poll() is None:
            victim.kill()
            victim.wait()
            self.client_kills += 1

    def kill_a_backend(self) -> None:
        """Terminate one that is at work, as an administrator does."""
        with self.admin.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> ALL(%s) AND state <> 'idle'"
                " ORDER BY random() LIMIT 1) x",
                [self.own],
            )
            self.backend_kills += next(iter(cursor.fetchall()))[0]

    def acknowledged(self) -> dict[int, set[int]]:
        """batch -> the entries that any poster heard back for it."""
        found: dict[int, set[int]] = defaultdict(set)
        for log in self.directory.glob("log*"):
            for line in log.read_text().splitlines():
                batch, entry = line.split()
                found[int(batch)].add(int(entry))
        return found

    def burn(self, client_kills: int, backend_kills: int, seconds_max: float) -> None:
        """Keep POSTERS running until DELIVERIES of them finished and the kills are done."""
        deadline = time.monotonic() + seconds_max
        finished = 0
        running = [self.start() for _ in range(POSTERS)]
        while finished < DELIVERIES or self.client_kills < client_kills or self.backend_kills < backend_kills:
            assert time.monotonic() < deadline, f"{finished} finished, {self.client_kills}+{self.backend_kills} kills"
            time.sleep(self.random.uniform(0.01, 0.15))
            if self.backend_kills < backend_kills:
                self.kill_a_backend()
            # A client needs a second to start: it is killed while it works.
            if self.client_kills < client_kills and self.random.random() < 0.1:
                self.kill_a_client(running)
            for place, process in enumerate(running):
                if process.poll() is not None:
                    assert process.returncode in (0, -9), self.errors()
                    finished += process.returncode == 0
                    running[place] = self.start()
        for process in running:
            process.kill()
            process.wait()
        self.admin.close()

    def errors(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self.directory.glob("errors*") if path.stat().st_size)


class Blaze(Fire):
    """The same with kill -9 of a backend, upon which the server throws out everybody and recovers."""

    def kill_a_backend(self) -> None:
        with contextlib.suppress(psycopg2.OperationalError, psycopg2.InterfaceError, ProcessLookupError):
            session = psycopg2.connect(self.database.url, connect_timeout=5)
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type ="
                    " 'client backend' AND pid <> pg_backend_pid() AND state <> 'idle' ORDER BY random() LIMIT 1"
                )
                for (pid,) in cursor.fetchall():
                    os.kill(pid, signal.SIGKILL)
                    self.backend_kills += 1
            session.close()


@contextlib.contextmanager
def an_engine_of_its_own() -> Iterator[CommittedDatabase]:
    """A migrated server that may be crashed without harm to other tests, with fsync on; the connection points to it."""
    before = connection.settings_dict.copy()
    # The path of a socket must be short.
    with (
        tempfile.TemporaryDirectory(prefix="blaze", dir="/tmp") as directory,
        contextlib.ExitStack() as stack,
    ):
        copy_engine(Path(directory))
        stack.enter_context(servers.engine(Path(directory), valkey=False))
        os.chmod(directory, 0o755)
        url = servers.database_url(Path(directory))
        connection.close()
        connection.settings_dict |= {"NAME": servers.DATABASE, "HOST": str(servers.socket_directory(Path(directory)))}
        try:
            yield CommittedDatabase(servers.DATABASE, url)
        finally:
            connection.close()
            connection.settings_dict.update(before)


def wait_for_recovery(seconds_max: float = 90) -> None:
    """Until the server that was crashed last takes connections again."""
    deadline = time.monotonic() + seconds_max
    while True:
        connection.close()
        try:
            return connection.ensure_connection()
        except DatabaseError:
            assert time.monotonic() < deadline, "the server does not come back"
            time.sleep(0.2)


def assert_the_books_hold(fire: Fire) -> None:
    acknowledged = fire.acknowledged()
    assert set(acknowledged) == set(range(fire.batches))
    assert all(len(entries) == 1 for entries in acknowledged.values()), "a batch was acknowledged as two entries"
    assert Entry.objects.count() == fire.batches
    assert Accrual.objects.count() == fire.batches * poster.GENERATIONS_A_BATCH
    found = check_all([*OF_THE_JOURNAL, "I13"])
    print(
        f"{fire.client_kills} clients and {fire.backend_kills} backends killed, {fire.started} posters,"
        f" {fire.batches} batches, {len(found)} invariants, {sum(bool(r.rows) for r in found)} violated"
    )
    assert {r.name: r.rows for r in found if r.rows} == {}


@pytest.mark.parametrize(
    ("batches", "client_kills", "backend_kills"),
    [(60, 3, 8), pytest.param(400, 60, 60, marks=pytest.mark.full)],
    ids=["small", "full"],
)
def test_batches_delivered_four_times_under_kills_are_posted_once(
    committed_database: CommittedDatabase, tmp_path: Path, batches: int, client_kills: int, backend_kills: int
) -> None:
    fire = Fire(committed_database, tmp_path, batches, seed=1)
    fire.burn(client_kills, backend_kills, seconds_max=1500)
    assert fire.client_kills >= client_kills
    assert fire.backend_kills >= backend_kills
    assert_the_books_hold(fire)


@pytest.mark.parametrize(
    ("batches", "backend_kills"), [(20, 2), pytest.param(150, 50, marks=pytest.mark.full)], ids=["small", "full"]
)
def test_batches_are_posted_once_while_the_server_itself_is_crashed(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batches: int,
    backend_kills: int,
) -> None:
    with django_db_blocker.unblock(), an_engine_of_its_own() as database:
        monkeypatch.setenv("DATABASE_URL", database.url)
        fire = Blaze(database, tmp_path, batches, seed=3)
        fire.burn(0, backend_kills, seconds_max=900)
        assert fire.backend_kills >= backend_kills
        wait_for_recovery()
        assert_the_books_hold(fire)


# --- mutants ------------------------------------------------------------------------------------------------------
def mutate(database: CommittedDatabase, *statements: str) -> None:
    session = psycopg2.connect(database.url)
    session.autocommit = True
    with session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    session.close()


def definition(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s", [name])
        return str(cursor.fetchone()[0])


def test_the_mutant_that_numbers_entries_before_the_lock_is_caught(
    committed_database: CommittedDatabase, tmp_path: Path
) -> None:
    # The number is drawn from a sequence before chain_head is taken, so that numbers and commits differ in order.
    before_lock = "PERFORM FROM ledger_chain_head WHERE ledger = 1 FOR UPDATE;"
    post = definition("ledger_post_accruals")
    write = definition("ledger_write")
    assert post.count(before_lock) == 1
    assert write.count("head.seq := head.seq + 1;") == 1
    mutate(
        committed_database,
        "CREATE SEQUENCE early",
        "GRANT ALL ON SEQUENCE early TO PUBLIC",
        # Another poster may come between the number and the lock, as it does under load.
        post.replace(before_lock, f"PERFORM nextval('early'), pg_sleep(random() * 0.02); {before_lock}"),
        write.replace("head.seq := head.seq + 1;", "head.seq := currval('early');"),
        "DROP TRIGGER one_step ON ledger_chain_head",
        "DROP TRIGGER whole ON ledger_entry",
    )
    fire = Fire(committed_database, tmp_path, 30, seed=2)
    fire.burn(0, 0, seconds_max=240)
    assert [r.rows for r in check_all(["I8"])] != [[]]


def test_the_mutant_that_guards_only_the_parents_is_caught(committed_database: CommittedDatabase) -> None:
    guard = definition("ledger_guard")
    only_parents = guard.replace("BEGIN\n", "BEGIN\n  IF p_table::text ~ '_(m)?[0-9]+$' THEN RETURN; END IF;\n", 1)
    assert only_parents != guard
    mutate(committed_database, only_parents)
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_make_partitions(current_date + 150)")
    faults = check_all(["I9"])[0].rows
    assert {row["fault"] for row in faults} == {
        "no trigger refuses a change",
        "no trigger checks what is inserted",
    }
