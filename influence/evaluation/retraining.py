"""The truth of an evaluation: models retrained on parts of the items, and the utilities of the queries under each.

Retraining on random subsets is the experiment of datamodels (Ilyas et al. 2022).
Retraining runs in processes of its own (`python -m influence.evaluation.retraining DIRECTORY MODELS`), one thread each.
The utilities of every retrained model are a file named after everything that decides them. A killed run therefore goes
on where it stopped, and a larger run reuses the results of a smaller one. Knows nothing of holders or Django.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from influence.adapters import Adapter, Example, Retrain
from influence.index.shards import Array

TASK = "task.pickle"
QUERY_BATCH = 64
POLL_SECONDS = 0.2
Progress = Callable[[str, int, int], None]


class UnableToRetrain(Exception):
    """A retraining failed; the message gives its own reason."""

    status = 409
    problem = "unable-to-retrain"


@dataclass(frozen=True)
class Task:
    """Subsets of examples to retrain models on, and the queries for those models. Pickled once for all workers."""

    retrain: Retrain
    examples: tuple[Example, ...]
    queries: tuple[Example, ...]
    subsets: tuple[tuple[int, ...], ...]
    """Each one's positions in `examples`, ascending."""
    seeds: tuple[int, ...]
    """One for each subset."""

    @cached_property
    def sha256(self) -> str:
        """Digest of everything that all subsets share. The same in every process, unlike pickled bytes."""
        return self._digest(self.examples, self.queries)

    @cached_property
    def sha256_of_models(self) -> str:
        """Digest of everything that the models of all subsets share, for any queries."""
        return self._digest(self.examples)

    def _digest(self, *parts: Sequence[Example]) -> str:
        asked = [[told(example) for example in part] for part in parts]
        return hashlib.sha256(json.dumps([self.retrain.recipe, asked]).encode()).hexdigest()

    def name_of(self, number: int) -> str:
        told = json.dumps([self.subsets[number], self.seeds[number]])
        return f"retrained-{hashlib.sha256(told.encode()).hexdigest()[:20]}"


def retrain_subsets(task: Task, cache: Path, *, processes: int, progress: Progress | None = None) -> Array:
    """Return the utilities (subsets, queries), from files where an earlier run left them."""
    with Retraining(task, cache, processes=processes) as running:
        return running.utilities(progress)


class Retraining:
    """Worker processes that retrain the subsets of a task while the block runs, and the files that they leave.

    A task without queries is one of models alone: they are kept for a later task of the same examples and subsets,
    and both may run at the same time. Each subset is retrained by one worker only.
    """

    def __init__(self, task: Task, cache: Path, *, processes: int) -> None:
        self.task = task
        # Another task in the same cache directory has a directory of its own: results never mix.
        self.directory = cache / task.sha256[:16]
        self._models = cache / task.sha256_of_models[:16]
        self._processes = processes
        self._workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Retraining:
        for directory in (self.directory, self._models):
            directory.mkdir(parents=True, exist_ok=True)
        if self.done() < self.total:
            _write(self.directory / TASK, pickle.dumps(self.task))
            models = (self.directory, self._models)
            self._workers = [_start_worker(*models, number) for number in range(self._processes)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.terminate()
            worker.wait()

    @property
    def total(self) -> int:
        return len(self.task.subsets)

    def done(self) -> int:
        """Count the subsets that are retrained."""
        return sum(path.exists() for path in self._paths())

    def utilities(self, progress: Progress | None = None) -> Array:
        """Wait for every subset; return the utilities (subsets, queries). Raises UnableToRetrain."""
        assert self.task.queries, "Models that are asked nothing have no utilities."
        while True:
            finished = [worker for worker in self._workers if worker.poll() is not None]
            done = self.done()
            if progress is not None:
                progress("retrain", done, self.total)
            if done == self.total:
                return np.stack([np.load(path) for path in self._paths()])
            for worker in finished:
                if worker.returncode != 0:
                    reason = _last_words(self.directory, self._workers.index(worker))
                    raise UnableToRetrain(f"A retraining failed: {reason}")
            if len(finished) == len(self._workers):
                raise UnableToRetrain("The workers ended without a result for every part.")
            time.sleep(POLL_SECONDS)

    def _paths(self) -> list[Path]:
        return [_place_of(self.task, number, self.directory, self._models) for number in range(self.total)]


def utilities_of(task: Task, number: int, adapter: Adapter | None = None) -> Array:
    """Retrain on one subset, or take its model; return the utility of every query, (queries,) float32."""
    adapter = adapter or _retrained(task, number)
    with torch.no_grad():
        batches = [
            adapter.utility(task.queries[start : start + QUERY_BATCH]).values
            for start in range(0, len(task.queries), QUERY_BATCH)
        ]
    return np.asarray(torch.cat(batches).numpy())


def _retrained(task: Task, number: int) -> Adapter:
    seed = task.seeds[number]
    torch.manual_seed(seed)
    return task.retrain([task.examples[position] for position in task.subsets[number]], seed)


def _start_worker(directory: Path, models: Path, number: int) -> subprocess.Popen[bytes]:
    # A process of its own rather than multiprocessing. The caller may be a daemonic task worker, which must have no
    # children of that kind. Torch's threads do not survive a fork either.
    command = [sys.executable, "-m", "influence.evaluation.retraining", str(directory), str(models)]
    paths = [path or os.getcwd() for path in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    with (directory / f"worker-{number}.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _last_words(directory: Path, number: int) -> str:
    lines = (directory / f"worker-{number}.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no word from the worker"


def _work(directory: Path, models: Path) -> None:
    """Take every subset that no other worker has, then wait for theirs; end when the starting process is gone.

    Each result is kept as soon as it is done.
    """
    torch.set_num_threads(1)
    parent = os.getppid()
    task: Task = pickle.loads((directory / TASK).read_bytes())
    for patient in (False, True):
        for number in range(len(task.subsets)):
            place = _place_of(task, number, directory, models)
            if place.exists():
                continue
            with _claim(models / f"{task.name_of(number)}.lock", patient=patient) as mine:
                if os.getppid() != parent:
                    return
                if mine and not place.exists():
                    _write(place, _result_of(task, number, models))


def _result_of(task: Task, number: int, models: Path) -> bytes:
    """Return the file of one subset: the model where nothing is asked of it yet, its utilities otherwise."""
    if not task.queries:
        return pickle.dumps(_retrained(task, number))
    kept = models / f"{task.name_of(number)}.model"
    pickled = kept.read_bytes() if kept.exists() else b""
    written = io.BytesIO()
    np.save(written, utilities_of(task, number, pickle.loads(pickled) if pickled else None))
    # Used: an empty file takes no room, and tells a worker of models alone to pass on.
    _write(kept, b"")
    return written.getvalue()


def _place_of(task: Task, number: int, directory: Path, models: Path) -> Path:
    name = task.name_of(number)
    return directory / f"{name}.npy" if task.queries else models / f"{name}.model"


@contextlib.contextmanager
def _claim(path: Path, *, patient: bool) -> Iterator[bool]:
    """Hold a subset while the block runs; yields False where another worker has it. The kernel frees a dead one's."""
    with path.open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


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
    """Find the positions of the items of a coalition's holders, given each item's holder."""
    present = set(coalition)
    return tuple(position for position, holder in enumerate(holder_ids) if holder in present)


if __name__ == "__main__":
    # The module under its own name, so that unpickled objects have the classes that were pickled.
    from influence.evaluation import retraining as itself

    itself._work(Path(sys.argv[1]), Path(sys.argv[2]))
