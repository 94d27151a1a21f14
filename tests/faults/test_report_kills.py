"""Reports while the web, the worker, the broker, the database and the client are killed: none lost, none doubled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Count
from pytest_django import DjangoDbBlocker

from attribution.models import Attribution, Generation
from attribution.operations import indexes
from attribution.operations.base_pool import pay_by_base_pool
from config.engine import servers
from ledger.models import Accrual
from ledger.queries import invariants
from tests.attribution.conftest import trained
from tests.coverage import unmeasured
from tests.databases import copy_engine
from tests.faults.test_worker_killed import adopt_plan
from tests.ledger.test_journal_under_fire import wait_for_recovery
from tests.web_server import free_port, kill_session, start_web
from tests.worlds.programme import Programme
from tests.worlds.trained import SMALL_INDEX, Committed, Trained, start_programme

__all__ = ["trained"]

VICTIMS = ("web", "worker", "broker", "database", "client")
BETWEEN_SECONDS = (0.5, 2.5)


class Installation:
    """A whole installation with an engine of its own, of which any part can be killed and started again."""

    def __init__(
        self, owned: list[servers.Server], root: Path, programme: Programme, batches: int, size: int, logs: Path
    ) -> None:
        self.engine = dict(zip(("database", "broker"), owned, strict=True))
        self.programme, self.batches, self.size, self.logs = programme, batches, size, logs
        self.port = free_port()
        broker = servers.broker_url(root)
        self.environment = {
            **unmeasured(os.environ),
            "DATABASE_URL": servers.database_url(root),
            "BROKER_URL": broker,
            "CACHE_URL": servers.cache_url(broker),
            "TRIBUTARY_DATA": str(settings.TRIBUTARY_DATA),
            "SWEEP_SECONDS": "3",
            "REPORT_RATE": "100000/min",
            "OMP_NUM_THREADS": "1",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.kills = dict.fromkeys(VICTIMS, 0)

    def start(self, name: str) -> None:
        if name in self.engine:
            self.engine[name].start()
        elif name == "web":
            log = self.logs / "web.log"
            self.processes[name] = start_web(self.environment, log=log, workers=2, port=self.port)
        else:
            self.processes[name] = self._run(name, self._worker() if name == "worker" else self._client())

    def _run(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.logs / f"{name}.log").open("ab") as output:
            return subprocess.Popen(command, env=self.environment, stdout=output, stderr=output, start_new_session=True)

    def _worker(self) -> list[str]:
        options = "worker -Q attribution,default -c 2 --beat --scheduler celery.beat:Scheduler --loglevel WARNING"
        quiet = "--without-gossip --without-mingle --without-heartbeat"
        return [sys.executable, "-m", "celery", "-A", "config", *options.split(), *quiet.split()]

    def _client(self) -> list[str]:
        reported = [self.programme.key, self.programme.model_version.name, str(self.batches), str(self.size)]
        address = f"http://127.0.0.1:{self.port}"
        return [sys.executable, "-m", "tests.faults.reporter", address, *reported, str(self.logs)]

    def kill(self, name: str) -> None:
        """Kill a part by SIGKILL, with all its children, and start it again."""
        if name in self.engine:
            process = self.engine[name].process
            assert process is not None, f"{name} runs."
            process.kill()
            process.wait(10)
        else:
            kill_session(self.processes[name])
        self.kills[name] += 1
        self.start(name)

    def end(self) -> None:
        for process in self.processes.values():
            kill_session(process)

    def words(self) -> str:
        return "\n".join(path.read_text()[-1500:] for path in sorted(self.logs.glob("*.log")))

    def heard(self) -> dict[str, set[str]]:
        """external id -> the ids that any client heard for it."""
        found: dict[str, set[str]] = {}
        for path in self.logs.glob("heard-*"):
            # The last line of a killed client may be cut.
            for line in path.read_text().rpartition("\n")[0].splitlines():
                external_id, pk = line.split()
                found.setdefault(external_id, set()).add(pk)
        return found


@contextlib.contextmanager
def installation(trained: Trained, batches: int, size: int, logs: Path) -> Iterator[Installation]:
    before = connection.settings_dict.copy()
    # The path of a socket must be short.
    with (
        tempfile.TemporaryDirectory(prefix="kills", dir="/tmp") as directory,
        contextlib.ExitStack() as stack,
    ):
        root = Path(directory)
        copy_engine(root)
        owned = stack.enter_context(servers.engine(root))
        os.chmod(directory, 0o755)
        connection.close()
        connection.settings_dict |= {"NAME": servers.DATABASE, "HOST": str(servers.socket_directory(root))}
        stack.callback(connection.settings_dict.update, before)
        stack.callback(connection.close)
        at = datetime.now(UTC)
        programme = start_programme(trained, at)
        built = indexes.build_index(model_version=programme.model_version, config=SMALL_INDEX, at=at)
        programme.indexes.append(pay_by_base_pool(index=built, at=at))
        running = Installation(owned, root, programme, batches, size, logs)
        adopt_plan(Committed(programme, running.environment))
        stack.callback(running.end)
        for name in ("web", "worker", "client"):
            running.start(name)
        yield running


def wait_until_stored(running: Installation, count: int, seconds_max: float) -> None:
    """Wait for the first reports: a kill before them would hit nobody at work."""
    deadline = time.monotonic() + seconds_max
    while Generation.objects.count() < count:
        assert running.processes["client"].poll() is None, running.words()
        assert time.monotonic() < deadline, running.words()
        time.sleep(0.1)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("batches", "size", "kills"),
    [(60, 20, 1), pytest.param(400, 250, 8, marks=pytest.mark.full)],
    ids=["small", "full"],
)
def test_no_report_is_lost_or_doubled_whatever_is_killed(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    trained: Trained,
    tmp_path: Path,
    batches: int,
    size: int,
    kills: int,
) -> None:
    drawn, total = random.Random(5), batches * size
    with django_db_blocker.unblock(), installation(trained, batches, size, tmp_path) as running:
        wait_until_stored(running, size, seconds_max=180)
        victims = list(VICTIMS) * kills
        drawn.shuffle(victims)
        at_work = 0
        for victim in victims:
            at_work += running.processes["client"].poll() is None
            running.kill(victim)
            time.sleep(drawn.uniform(*BETWEEN_SECONDS))
        (tmp_path / "hurry").touch()
        assert running.processes["client"].wait(600 + total / 100) == 0, running.words()
        # Otherwise the reports were through before the kills, and this test would prove nothing.
        assert at_work >= len(victims) - 1
        assert running.kills == dict.fromkeys(VICTIMS, kills)

        wait_for_recovery()
        heard = running.heard()
        stored = {name: str(pk) for name, pk in Generation.objects.values_list("external_id", "pk")}
        assert len(stored) == Generation.objects.count() == total
        assert heard == {name: {pk} for name, pk in stored.items()}

        deadline = time.monotonic() + 300 + total / 50
        while Accrual.objects.count() < total:
            assert time.monotonic() < deadline, f"{Accrual.objects.count()} are accrued: {running.words()}"
            # A worker may end when its broker does; an installation's supervisor starts it again.
            if running.processes["worker"].poll() is not None:
                running.start("worker")
            time.sleep(0.5)
        assert not Attribution.objects.values("generation").annotate(n=Count("pk")).exclude(n=1).exists()
        assert Accrual.objects.count() == Attribution.objects.count() == total
        assert [check.name for check in invariants.check_all() if check.rows] == []


def test_a_killed_part_is_really_gone() -> None:
    """The tools of this file kill with a signal that no process can catch."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    kill_session(process)
    assert process.returncode == -signal.SIGKILL
