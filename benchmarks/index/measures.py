"""How much memory and processor time something takes, alone in a process."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def alone(name: str, sizes: dict[str, int]) -> dict[str, Any]:
    """One part in a process of its own, so that its peak of memory is its own."""
    print(f"{name} {sizes} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.index", "--part", name, json.dumps(sizes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOG_LEVEL": "ERROR"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = {**sizes, **json.loads(ended.stdout.splitlines()[-1])}
    return found


def peak_rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Anonymous:
    """The largest amount of memory that is this process's own, in bytes: pages of mapped files can be given back."""

    def __enter__(self) -> Anonymous:
        self.before = self.largest = self._now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.largest = max(self.largest, self._now())

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def milliseconds(act: Callable[[], Any], times: int = 15) -> float:
    """Median of the processor time: other processes on the machine count less than in time on the wall."""
    return in_turn(act, times=times)[0]


def in_turn(*acts: Callable[[], Any], times: int) -> list[float]:
    """Time several acts in turn, in milliseconds, to take their ratio: memory speed varies, for all of them alike."""
    found: list[list[float]] = [[] for _ in acts]
    for act in acts:
        act()
    for _ in range(times):
        for act, seconds in zip(acts, found, strict=True):
            started = time.process_time()
            act()
            seconds.append(time.process_time() - started)
    return [1000 * statistics.median(seconds) for seconds in found]
