"""`make up` on an empty folder: started as the page says, and ended as a service manager does."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.first_day.browser import UnableToGoOn

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 180
STOP_SECONDS_MAX = 90
FILES = ("Makefile", "manage.py", ".venv", "requirements.lock", "requirements.txt")
"""Enough of the repository to give the commands of the pages in a folder of one's own."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare_folder(folder: Path) -> None:
    """Make a folder in which `make up` and `.venv/bin/python manage.py` work, and in which a page may write files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).symlink_to(ROOT / name)


@dataclass(frozen=True)
class Installation:
    """A running installation: its address, and the address that makes its first administrator."""

    url: str
    first_address: str
    log: Path


@contextlib.contextmanager
def running(folder: Path, environment: Mapping[str, str], command: str) -> Iterator[Installation]:
    """Give the command of the page, and wait for the lines that the page promises. Raises UnableToGoOn."""
    log = folder / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _promised(process, log)
    finally:
        _stop(process)


def _promised(process: subprocess.Popen[bytes], log: Path) -> Installation:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        said = log.read_text(errors="replace")
        serves = re.search(r"Tributary serves at (\S+)\. Ctrl-C ends it\.", said)
        address = re.search(r"(http\S+/join/\S+)", said)
        if serves and address and "Mails go to" in said:
            return Installation(serves[1], address[1], log)
        time.sleep(0.1)
    raise UnableToGoOn(f"make up did not print its address: {log.read_text(errors='replace')[-3000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole group as a service manager does, and kill the rest after some time."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
