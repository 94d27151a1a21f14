"""`manage.py up`, as a user runs it: from nothing to served pages, and nothing left afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import Celery

from config.engine import servers
from tests.config.test_local import wait_until_gone
from tests.databases import CommittedDatabase, copy_engine

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGURED = (
    "DATABASE_URL",
    "BROKER_URL",
    "CACHE_URL",
    "STRIPE_SECRET_KEY",
    "STRIPE_API_BASE",
    "SANDBOX",
    "SITE_URL",
    "ALLOWED_HOSTS",
)


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found


def _named(pids: list[int], word: str) -> list[int]:
    return [pid for pid in pids if word in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()]


class Up:
    def __init__(
        self, data: Path, log: Path, *arguments: str, set_up: bool = True, **environment_of_its_own: str
    ) -> None:
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.data = data
        if set_up:
            copy_engine(data)
        environment = {name: value for name, value in os.environ.items() if name not in CONFIGURED}
        environment |= {"TRIBUTARY_DATA": str(data), "PYTHONUNBUFFERED": "1", **environment_of_its_own}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(self.port), *arguments],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until_served(self, seconds_max: float = 150) -> None:
        self.wait_for("Tributary serves at", seconds_max)

    def wait_for(self, words: str, seconds_max: float = 90) -> None:
        deadline = time.monotonic() + seconds_max
        while words not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)


@contextlib.contextmanager
def _running(tmp_path: Path, *arguments: str, set_up: bool = True, **environment: str) -> Iterator[Up]:
    """Run an installation: `set_up` with its tables made, else in an empty directory."""
    started = Up(tmp_path / "installation", tmp_path / "up.log", *arguments, set_up=set_up, **environment)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            # As a user does: a killed one leaves it to its programs to notice, which a busy worker may do late.
            started.process.send_signal(signal.SIGINT)
            started.process.wait(60)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with _running(tmp_path) as started:
        yield started


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Up]:
    with _running(tmp_path, set_up=False) as started:
        yield started


def test_a_first_installation_serves_mends_itself_and_leaves_nothing_running(first: Up) -> None:
    up = first
    up.wait_until_served()
    assert requests.get(f"{up.url}/livez", timeout=10).json() == {"status": "ok"}
    ready = requests.get(f"{up.url}/readyz", timeout=30)
    assert (ready.status_code, ready.json()["faults"]) == (200, {})
    assert "Tributary" in requests.get(up.url, timeout=30).text
    assert requests.get(f"{up.url}/metrics", timeout=10).status_code == 404

    everything = _descendants(up.process.pid)
    assert _named(everything, "celery")
    assert _named(everything, "gunicorn")
    beat = _named(everything, "config beat")[0]
    os.kill(beat, signal.SIGKILL)
    up.wait_for("beat ended (-9); started again")

    everything = _descendants(up.process.pid)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert wait_until_gone(everything, seconds_max=30) == []


def test_generations_are_attributed_while_the_worker_of_builds_is_occupied(up: Up) -> None:
    up.wait_until_served()
    everything = _descendants(up.process.pid)
    building, attributing = _named(everything, "-Q builds "), _named(everything, "-Q attribution ")
    assert building
    assert attributing
    for pid in [*building, *attributing]:
        assert b"OMP_NUM_THREADS=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    app = Celery(broker=servers.broker_url(up.data))
    host = socket.gethostname()
    attribution, builds = (app.control.inspect([f"{name}@{host}"], timeout=5) for name in ("attribution", "builds"))
    for worker in (attribution, builds):
        assert _told(worker)["pool"]["max-concurrency"] == 1
    for pid in building:
        # As far as anybody else can tell it is at a step that takes long.
        os.kill(pid, signal.SIGSTOP)
    try:
        app.send_task("attribution.tasks.take_build_step", (0,), queue="builds")
        app.send_task("attribution.tasks.attribute_received", queue="attribution")
        _wait_until_taken(attribution, "attribution.tasks.attribute_received")
        assert "attribution.tasks.take_build_step" not in _told(attribution)["total"]
    finally:
        for pid in building:
            os.kill(pid, signal.SIGCONT)
    _wait_until_taken(builds, "attribution.tasks.take_build_step")
    # A busy worker is not sent more messages about steps every few seconds.
    _wait_until_taken(builds, "attribution.tasks.sweep_builds")
    assert "attribution.tasks.sweep_builds" not in _told(attribution)["total"]


def _told(worker: Any, seconds_max: float = 60) -> dict[str, Any]:
    """Wait for a worker to come up and return its statistics."""
    deadline = time.monotonic() + seconds_max
    while not (answers := worker.stats()):
        assert time.monotonic() < deadline, "The worker does not answer."
    (told,) = answers.values()
    return dict(told)


def _wait_until_taken(worker: Any, task: str, seconds_max: float = 60) -> None:
    deadline = time.monotonic() + seconds_max
    while not _told(worker)["total"].get(task):
        assert time.monotonic() < deadline, f"{task} waits for a worker."
        time.sleep(0.2)


def test_a_killed_installation_takes_its_programs_with_it(up: Up) -> None:
    up.wait_until_served()
    everything = _descendants(up.process.pid)
    assert len(everything) > 5
    up.process.kill()
    up.process.wait(10)
    assert wait_until_gone(everything, seconds_max=30) == []


def test_an_installation_with_a_public_name_starts_and_hears_its_sandbox(tmp_path: Path) -> None:
    public: dict[str, Any] = {"SITE_URL": "https://royalties.example.org", "ALLOWED_HOSTS": "royalties.example.org"}
    with _running(tmp_path, "--host", "0.0.0.0", **public) as up:
        up.wait_until_served()
        page = requests.get(
            f"{up.url}/how-it-works/", headers={"Host": "royalties.example.org"}, allow_redirects=False, timeout=30
        )
        assert (page.status_code, page.headers["Location"]) == (301, "https://royalties.example.org/how-it-works/")
        assert requests.get(f"{up.url}/readyz", allow_redirects=False, timeout=30).status_code == 200
        for webhook in ("stripe/", "stripe/connect/"):
            unsigned = requests.post(f"{up.url}/webhooks/{webhook}", b"{}", allow_redirects=False, timeout=30)
            assert unsigned.status_code == 400


def test_a_taken_port_is_named(committed_database: CommittedDatabase, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "manage.py", "up", "--port", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **committed_database.environment(), "TRIBUTARY_DATA": str(tmp_path / "data")},
        )
    assert done.returncode != 0
    assert f"127.0.0.1:{port} is taken" in done.stderr
