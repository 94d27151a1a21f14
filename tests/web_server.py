"""The real web server of the product, as processes of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from config.engine import processes
from tests.coverage import unmeasured

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_web(environment: Mapping[str, str], *, log: Path, workers: int = 1, port: int = 0) -> Iterator[int]:
    """Run gunicorn as the installation does, with as many workers; give the port as soon as it answers."""
    port = port or free_port()
    process = start_web(environment, log=log, workers=workers, port=port)
    try:
        wait_for_web(process, port, log)
        yield port
    finally:
        kill_session(process)


def start_web(environment: Mapping[str, str], *, log: Path, workers: int, port: int) -> subprocess.Popen[bytes]:
    command = processes.web("127.0.0.1", port, workers=workers).command
    with log.open("ab") as output:
        return subprocess.Popen(
            command, cwd=ROOT, env=unmeasured(environment), stdout=output, stderr=output, start_new_session=True
        )


def wait_for_web(process: subprocess.Popen[bytes], port: int, log: Path, *, seconds_max: float = 60) -> None:
    deadline = time.monotonic() + seconds_max
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5):
            return
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with all its children, without a chance to say good-bye."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
