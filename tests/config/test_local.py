"""The embedded engine, on servers of its own: these tests kill them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
import redis

from config.engine import servers as local

HOLDER = """
import signal, sys, time
from pathlib import Path
from config.engine import servers as local
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
with local.engine(Path(sys.argv[1])) as servers:
    try:
        print("ready", *[server.process.pid for server in servers], flush=True)
        time.sleep(120)
    except KeyboardInterrupt:
        pass
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def hold_engine(root: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """Another process that runs the engine, and the pids of its servers."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    word, *pids = process.stdout.readline().split()
    assert word == "ready"
    return process, [int(pid) for pid in pids]


def wait_until_gone(pids: list[int], seconds_max: float = 15) -> list[int]:
    deadline = time.monotonic() + seconds_max
    alive = pids
    while alive and time.monotonic() < deadline:
        alive = [
            pid for pid in alive if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        time.sleep(0.05)
    return alive


def query(root: Path, sql: str) -> str:
    connection = psycopg2.connect(local.database_url(root))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone() if cursor.description else None
    connection.close()
    return str(row[0]) if row else ""


def broker(root: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(local.socket_directory(root) / "valkey.sock"))


def test_both_servers_answer_and_nothing_runs_afterwards(root: Path) -> None:
    with local.engine(root) as servers:
        pids = [server.process.pid for server in servers if server.process]
        assert query(root, "SHOW server_version").startswith("18")
        assert broker(root).ping()
    assert wait_until_gone(pids) == []


def test_rows_and_messages_survive_a_kill_9_of_everything(root: Path) -> None:
    holder, pids = hold_engine(root)
    query(root, "CREATE TABLE kept AS SELECT 42 AS n")
    broker(root).lpush("queue", "message")
    for pid in [holder.pid, *pids]:
        os.kill(pid, signal.SIGKILL)
    holder.wait(10)
    with local.engine(root):
        assert query(root, "SELECT n FROM kept") == "42"
        assert broker(root).lrange("queue", 0, -1) == [b"message"]


def test_a_killed_server_is_back_within_ten_seconds_with_its_rows(root: Path) -> None:
    holder, pids = hold_engine(root)
    query(root, "CREATE TABLE kept AS SELECT 42 AS n")
    broker(root).lpush("queue", "message")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    begun, found = time.monotonic(), ""
    while not found:
        assert time.monotonic() - begun < 10
        time.sleep(0.1)
        with contextlib.suppress(psycopg2.Error, redis.RedisError):
            if broker(root).lrange("queue", 0, -1) == [b"message"]:
                found = query(root, "SELECT n FROM kept")
    assert found == "42"
    holder.send_signal(signal.SIGINT)
    assert holder.wait(20) == 0
    with pytest.raises(psycopg2.OperationalError):
        query(root, "SELECT 1")


def test_the_servers_end_with_a_command_that_was_killed(root: Path) -> None:
    holder, pids = hold_engine(root)
    holder.kill()
    holder.wait(10)
    assert wait_until_gone(pids) == []


def test_ctrl_c_leaves_nothing_running(root: Path) -> None:
    holder, pids = hold_engine(root)
    holder.send_signal(signal.SIGINT)
    assert holder.wait(20) == 0
    assert wait_until_gone(pids) == []


def test_a_second_command_uses_the_engine_of_the_first_and_leaves_it_running(root: Path) -> None:
    holder, pids = hold_engine(root)
    with local.engine(root) as servers:
        assert servers == []
        assert query(root, "SELECT 1") == "1"
    assert query(root, "SELECT 1") == "1"
    holder.send_signal(signal.SIGINT)
    holder.wait(20)
    assert wait_until_gone(pids) == []


def test_an_interrupted_initialisation_is_begun_anew(root: Path) -> None:
    building = root / "engine" / "postgres.building"
    building.mkdir(parents=True)
    (building / "PG_VERSION").write_text("18\n")
    (root / "engine" / "postgres").mkdir()
    with local.engine(root, valkey=False):
        assert query(root, "SELECT 1") == "1"


def test_a_long_path_gets_sockets_elsewhere(tmp_path: Path) -> None:
    root = tmp_path / ("deep" * 20) / ("down" * 20)
    with local.engine(root, valkey=False):
        assert query(root, "SELECT 1") == "1"
    shutil.rmtree(local.socket_directory(root))


def test_a_cluster_of_another_version_is_refused_and_kept(root: Path) -> None:
    cluster = root / "engine" / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("12\n")
    with pytest.raises(local.EngineUnavailable, match="created by PostgreSQL 12"), local.engine(root):
        pass
    assert (cluster / "PG_VERSION").read_text() == "12\n"


def test_a_wrong_pg_bin_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_BIN", "/nowhere")
    with pytest.raises(local.EngineUnavailable, match="PG_BIN=/nowhere"), local.engine(root):
        pass


@pytest.fixture
def other_postgres() -> Path:
    """The second PostgreSQL: the wheel carries version 16 beside 18, a real other server with other binaries."""
    return local.postgres_binaries().parent.parent / "pginstall" / "bin"


def test_pg_bin_runs_another_postgresql(root: Path, other_postgres: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_BIN", str(other_postgres))
    with local.engine(root, valkey=False):
        assert query(root, "SHOW server_version").startswith("16")


def test_the_engine_runs_as_an_ordinary_user_too(root: Path) -> None:
    as_user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    code = "import os; assert os.geteuid() != 0\n" + HOLDER.replace("time.sleep(120)", "pass")
    done = subprocess.run(
        [*as_user, sys.executable, "-c", code, str(root)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("ready"), done.stderr


def test_a_file_that_many_write_at_once_is_one_of_theirs_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    with ThreadPoolExecutor(8) as pool:
        told = set(pool.map(lambda n: local.write_once(path, str(n) * 100_000), range(8)))
    assert told == {path.read_text()}
    assert set(path.read_text()) in [{str(n)} for n in range(8)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
