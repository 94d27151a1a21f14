"""The truth that an audit compares with: models retrained on parts of the items, and what each then makes of queries.

Retraining runs in processes of its own (`python -m attribution.retraining DIRECTORY WORKER WORKERS`), one thread each.
What every retrained model made of the queries is kept as a file named after all that decides it, so that a killed run
goes on where it stopped and a larger one takes over what a smaller one found. Knows nothing of holders or Django.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from attribution.adapters import Example, Retrain
from attribution.shards import Array

QUERY_BATCH = 64
POLL_SECONDS = 0.2
Progress = Callable[[str, int, int], None]


class UnableToRetrain(Exception):
    """A retraining failed; the message gives its own reason."""

    status = 409
    problem = "unable-to-retrain"


@dataclass(frozen=True)
class Task:
    """Which parts of the examples a model is retrained on, and what it is asked then. Pickled once for all workers."""

    retrain: Retrain
    examples: tuple[Example, ...]
    queries: tuple[Example, ...]
    subsets: tuple[tuple[int, ...], ...]
    """Each one's positions in `examples`, ascending."""
    seeds: tuple[int, ...]
    """One for each subset."""

    @cached_property
    def sha256(self) -> str:
        """Of what all subsets have in common; the same in every process, which pickled bytes are not."""
        asked = [[told(example) for example in part] for part in (self.examples, self.queries)]
        return hashlib.sha256(json.dumps([self.retrain.recipe, asked]).encode()).hexdigest()

    def file_of(self, number: int) -> str:
        told = json.dumps([self.subsets[number], self.seeds[number]])
        return f"retrained-{hashlib.sha256(told.encode()).hexdigest()[:20]}.npy"


def retrain_subsets(task: Task, cache: Path, *, processes: int, progress: Progress | None = None) -> Array:
    """Utilities (subsets, queries), from files where a former run left them."""
    # Another task in the same cache directory has a directory of its own: results never mix.
    directory = cache / task.sha256[:16]
    directory.mkdir(parents=True, exist_ok=True)
    total = len(task.subsets)
    paths = [directory / task.file_of(number) for number in range(total)]
    workers: list[subprocess.Popen[bytes]] = []
    try:
        if not all(path.exists() for path in paths):
            _write(directory / "task.pickle", pickle.dumps(task))
            workers = [_start_worker(directory, number, processes) for number in range(processes)]
        while True:
            finished = [worker for worker in workers if worker.poll() is not None]
            done = sum(path.exists() for path in paths)
            if progress is not None:
                progress("retrain", done, total)
            if done == total:
                break
            for worker in finished:
                if worker.returncode != 0:
                    raise UnableToRetrain(f"A retraining failed: {_last_words(directory, workers.index(worker))}")
            if len(finished) == len(workers):
                raise UnableToRetrain("The workers ended without a result for every part.")
            time.sleep(POLL_SECONDS)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    return np.stack([np.load(path) for path in paths])


def utilities_of(task: Task, number: int) -> Array:
    """Retrain on one subset: the utility of every query, (queries,) float32."""
    seed = task.seeds[number]
    torch.manual_seed(seed)
    adapter = task.retrain([task.examples[position] for position in task.subsets[number]], seed)
    with torch.no_grad():
        batches = [
            adapter.utility(task.queries[start : start + QUERY_BATCH]).values
            for start in range(0, len(task.queries), QUERY_BATCH)
        ]
    return np.asarray(torch.cat(batches).numpy())


def _start_worker(directory: Path, number: int, workers: int) -> subprocess.Popen[bytes]:
    # A process of its own rather than multiprocessing: the caller may be a daemonic task worker, which must have no
    # children of that kind, and torch's threads do not survive a fork.
    command = [sys.executable, "-m", "attribution.retraining", str(directory), str(number), str(workers)]
    paths = [path or os.getcwd() for path in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    with (directory / f"worker-{number}.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _last_words(directory: Path, number: int) -> str:
    lines = (directory / f"worker-{number}.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no word from the worker"


def _work(directory: Path, number: int, workers: int) -> None:
    """One worker's subsets, each kept as soon as it is done; ends when the process that started it is gone."""
    torch.set_num_threads(1)
    parent = os.getppid()
    task: Task = pickle.loads((directory / "task.pickle").read_bytes())
    for subset in range(number, len(task.subsets), workers):
        path = directory / task.file_of(subset)
        if path.exists():
            continue
        if os.getppid() != parent:
            return
        written = io.BytesIO()
        np.save(written, utilities_of(task, subset))
        _write(path, written.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a worker that is killed leaves no half file under the name."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    os.replace(draft, path)


def told(example: Example) -> list[object]:
    """All that an example is, as plain JSON, for digests."""
    data = [hashlib.sha256(example.data).hexdigest()] if example.data else []
    return [example.tokens, example.prompt_tokens, *data]


def positions_of(holder_ids: Sequence[int], coalition: Sequence[int]) -> tuple[int, ...]:
    """Where the items of a coalition's holders are, given each item's holder."""
    present = set(coalition)
    return tuple(position for position, holder in enumerate(holder_ids) if holder in present)


if __name__ == "__main__":
    # The module under its own name, so that what is unpickled is of the classes that were pickled.
    from attribution import retraining as itself

    itself._work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
