"""The generations that every ledger of the benchmark writes, and how its work is timed.

Credits fall on accounts with Zipf weights: a few authors are in all generations, most in few. Accounts are places in a
list, so that each ledger may number its own as it likes. Pure numpy: the peers' processes read a workload from a file.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CREDITS_A_GENERATION = 64
ZIPF = 1.1
GROSS = 50_000_000
_TICKS = os.sysconf("SC_CLK_TCK")

Int64s = npt.NDArray[np.int64]


class Workload:
    """`places[i]` and `amounts[i]` are the credits of generation i; they sum to GROSS, which its source is debited."""

    def __init__(self, places: list[Int64s], amounts: list[Int64s]) -> None:
        self.places, self.amounts = places, amounts

    @classmethod
    def drawn(cls, generations: int, accounts: int, seed: int = 1) -> Workload:
        made = np.random.default_rng(seed)
        weights = 1 / np.arange(1, accounts + 1) ** ZIPF
        cumulative = np.cumsum(weights / weights.sum())
        # Which authors are the famous ones says nothing about when they registered.
        place_of_rank = np.random.default_rng(accounts).permutation(accounts)
        places, amounts = [], []
        for _ in range(generations):
            draws = np.searchsorted(cumulative, made.random(CREDITS_A_GENERATION * 3))
            _, first = np.unique(draws, return_index=True)
            chosen = draws[np.sort(first)][:CREDITS_A_GENERATION]
            cuts = np.sort(made.choice(GROSS - 1, len(chosen) - 1, replace=False)) + 1
            places.append(place_of_rank[chosen])
            amounts.append(np.diff(np.concatenate([[0], cuts, [GROSS]])))
        return cls(places, amounts)

    def __len__(self) -> int:
        return len(self.places)

    def part(self, start: int, end: int) -> Workload:
        return Workload(self.places[start:end], self.amounts[start:end])

    @property
    def credits(self) -> int:
        return sum(len(row) for row in self.places)

    @property
    def lines(self) -> int:
        """Credits, and one debit a generation."""
        return self.credits + len(self)

    def save(self, path: Path) -> None:
        lengths = np.array([len(row) for row in self.places], dtype=np.int64)
        np.savez(path, lengths=lengths, places=np.concatenate(self.places), amounts=np.concatenate(self.amounts))

    @classmethod
    def load(cls, path: Path) -> Workload:
        with np.load(path) as stored:
            ends = np.cumsum(stored["lengths"])[:-1]
            return cls(np.split(stored["places"], ends), np.split(stored["amounts"], ends))


def new_generation_id() -> uuid.UUID:
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


# --- time ---------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Meter:
    """Cost of a path: the seconds of each transaction, and the processor time of this process and of its backend.

    A busy machine does not distort processor time. It is 0 for a backend on another machine.
    """

    backend: int
    transactions: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        cpu = cpu_of(self.backend)
        cpu, started = cpu + time.process_time(), time.perf_counter()
        yield
        self.transactions.append(time.perf_counter() - started)
        self.cpu_seconds += time.process_time() + cpu_of(self.backend) - cpu

    @property
    def seconds(self) -> float:
        return sum(self.transactions)

    def row(self, path: str, lines: int, **more: Any) -> dict[str, Any]:
        return {
            "path": path,
            "lines": lines,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "lines_per_second": lines / self.seconds,
            "ms_p50": float(np.percentile(self.transactions, 50)) * 1000,
            "ms_p99": float(np.percentile(self.transactions, 99)) * 1000,
            **more,
        }


def cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
