"""Runs the programs of an installation as children of one command: web, workers, beat and, without a Stripe key, the
sandbox. A child that dies is started again; when the command ends, by Ctrl-C or by kill -9, so do its children.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
THIS_MACHINE = "127.0.0.1"
LOG_BYTES_MAX = 32 * 2**20
# Receives each request whole before a thread is busy with it.
BUFFERED = "config.engine.buffered.BufferedWorker"
MANAGE = Path(__file__).resolve().parents[2] / "manage.py"
# A program that dies at once, again and again, is broken: wait longer each time instead of spinning.
RESTART_SECONDS = (0.5, 2.0, 10.0, 30.0)


class UnableToStart(Exception):
    """A program did not come up; the message says which, why, and where its log lies."""


def _answers_http(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return int(response.status) < 500
    except OSError:
        return False


@dataclass
class Program:
    """One child: its command line, its log, and how to see that it serves."""

    name: str
    command: Sequence[str]
    ready_url: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    restarts: int = 0

    def is_ready(self) -> bool:
        # A worker needs no waiting: messages lie in the broker until it comes.
        return not self.ready_url or _answers_http(self.ready_url)


class Supervisor:
    """Starts programs in order, keeps them running, stops them in reverse order.

    The thread that enters it must outlive it: the kernel ends the children with the thread that started them.
    """

    def __init__(
        self, programs: Sequence[Program], *, logs: Path, environment: Mapping[str, str], tell: Callable[[str], None]
    ) -> None:
        self.programs = list(programs)
        self.logs = logs
        self.environment = {**os.environ, **environment}
        self.tell = tell
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="supervisor", daemon=True)

    def __enter__(self) -> Supervisor:
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            for program in self.programs:
                self._start(program)
            for program in self.programs:
                self._wait_until_ready(program)
        except BaseException:
            self._stop_all()
            raise
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join(timeout=5)
        self._stop_all()

    def _start(self, program: Program) -> None:
        prefix = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        with self._log(program).open("ab") as log:
            program.process = subprocess.Popen(
                [*prefix, *program.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                # Ctrl-C reaches this command alone, which then stops the children in order.
                start_new_session=True,
            )

    def _log(self, program: Program) -> Path:
        return self.logs / f"{program.name}.log"

    def _wait_until_ready(self, program: Program) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        assert program.process is not None
        while not program.is_ready():
            if program.process.poll() is not None:
                raise UnableToStart(f"{program.name} ended at once. Its log:\n{self._tail(program)}")
            if time.monotonic() > deadline:
                raise UnableToStart(
                    f"{program.name} did not answer within {READY_SECONDS_MAX:.0f} s. Its log:\n{self._tail(program)}"
                )
            time.sleep(0.1)

    def _tail(self, program: Program) -> str:
        lines = self._log(program).read_text(errors="replace").splitlines()[-15:]
        return "\n".join([*lines, f"({self._log(program)})"])

    def _keep(self) -> None:
        while not self._stopping.wait(0.5):
            for program in self.programs:
                turn_log(self._log(program))
                if program.process is None or program.process.poll() is None:
                    continue
                wait = RESTART_SECONDS[min(program.restarts, len(RESTART_SECONDS) - 1)]
                program.restarts += 1
                self.tell(f"{program.name} ended ({program.process.returncode}); started again after {wait:g} s")
                if self._stopping.wait(wait):
                    return
                self._start(program)

    def _stop_all(self) -> None:
        for program in reversed(self.programs):
            if program.process is not None and program.process.poll() is None:
                program.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for program in reversed(self.programs):
            if program.process is None:
                continue
            try:
                program.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                # The child leads its own session: its helpers end with it.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(program.process.pid, signal.SIGKILL)
                program.process.wait(5)


def turn_log(path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Keep a log below `bytes_max`: its text moves to a second file, which replaces the one before.

    Programs append to the open file, so that it is emptied in place.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size > bytes_max:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)


def claim_port(host: str, port: int, *, remedy: str = "Choose another with --port.") -> None:
    """Refuse with a clear error when another program already serves on the port. Raises UnableToStart."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnableToStart(f"{host}:{port} is taken ({error.strerror}). {remedy}") from error


def web(host: str, port: int, *, workers: int = 2) -> Program:
    """Serves on `host`, and on this machine in any case: for its own probe, and for the sandbox's webhooks."""
    hosts = [host] if host in {THIS_MACHINE, "localhost", "0.0.0.0", ""} else [host, THIS_MACHINE]
    bound = [part for name in hosts for part in ("--bind", f"{name}:{port}")]
    return Program(
        "web",
        [
            sys.executable, "-m", "gunicorn", "config.wsgi", *bound, "--workers", str(workers), "--threads", "4",
            "--worker-class", BUFFERED, "--timeout", "60", "--graceful-timeout", "10", "--max-requests", "5000",
            "--max-requests-jitter", "500", "--no-control-socket",
        ],
        ready_url=f"http://{THIS_MACHINE}:{port}/livez",
    )  # fmt: skip


def worker(name: str, queues: str, *, concurrency: int = 1) -> Program:
    return Program(
        name,
        [
            sys.executable, "-m", "celery", "-A", "config", "worker", "-Q", queues, "-c", str(concurrency),
            "-n", f"{name}@%h", "--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat",
        ],
    )  # fmt: skip


def beat() -> Program:
    # The schedule is static and made of intervals: nothing needs to survive on disk.
    command = [sys.executable, "-m", "celery", "-A", "config", "beat", "--loglevel", "WARNING"]
    return Program("beat", [*command, "--scheduler", "celery.beat:Scheduler"])


def sandbox(port: int, *, port_of_web: int) -> Program:
    """The Stripe-compatible server, delivering its webhooks to this installation."""
    webhooks = f"http://{THIS_MACHINE}:{port_of_web}/webhooks/stripe/"
    return Program(
        "sandbox",
        [
            sys.executable,
            str(MANAGE),
            "sandbox",
            "--port",
            str(port),
            "--webhook",
            webhooks,
            "--connect-webhook",
            f"{webhooks}connect/",
        ],
        ready_url=f"http://{THIS_MACHINE}:{port}/",
    )
