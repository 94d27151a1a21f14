"""Does an index predict what happens when contributors are taken away? Retrains coalitions and compares.

The measure is the linear datamodeling score over contributor coalitions (LDS, Park et al. 2023): train on the works of
half of the holders, drawn many times; for each query, rank-correlate the utilities that result with the sums of the
present holders' scores; average over queries. Always beside pro rata, which knows the number of items only. How sure
the result is decides how much money goes by attribution (weight_ppb). Knows nothing of Django.

Retraining runs in processes of its own (`python -m attribution.audit TASK WORKER WORKERS`), one thread each, and every
coalition's utilities are kept as a file: a killed audit goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attribution.adapters import Example, LoadedModel, Retrain
from attribution.index import Index, IndexItem, Scores
from attribution.shards import Array
from attribution.shares import BILLION

BOOTSTRAPS = 2_000
BOOTSTRAPS_AT_ONCE = 50
COALITIONS_MIN = 4
QUERY_BATCH = 64
POLL_SECONDS = 0.2
Progress = Callable[[str, int, int], None]


class UnableToAudit(Exception):
    """The audit cannot be made, or a retraining failed; the message says why."""

    status = 409
    problem = "unable-to-audit"


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker needs; pickled once, read by every worker."""

    retrain: Retrain
    examples: tuple[Example, ...]
    holder_ids: tuple[int, ...]
    """Of each example."""
    queries: tuple[Example, ...]
    coalitions: tuple[tuple[int, ...], ...]
    seed: int

    @property
    def sha256(self) -> str:
        """The same in every process for the same task, which pickled bytes are not."""
        told = [self.retrain.recipe, self.holder_ids, self.coalitions, self.seed]
        told += [
            [(example.tokens, example.prompt_tokens) for example in part] for part in (self.examples, self.queries)
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def audit(
    index: Index,
    *,
    model: LoadedModel,
    items: Sequence[IndexItem],
    held_out: Sequence[Example],
    own_generations: Sequence[Example],
    cache: Path,
    coalitions: int = 16,
    processes: int = 2,
    seed: int = 0,
    weight_low: float = 0.05,
    weight_high: float = 0.50,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Retrain coalitions of the index's holders and report, as plain JSON, how well its scores predict the outcome.

    The weight follows from the specific part on the model's own generations, because that is what is paid for.
    """
    if model.retrain is None:
        raise UnableToAudit("This model cannot be retrained: its factory gives no way to.")
    if not held_out or not own_generations:
        raise UnableToAudit("There must be held-out examples and own generations to compare on.")
    started = time.monotonic()
    chosen = choose_coalitions(index.holder_ids, count=coalitions, seed=seed)
    task = Task(
        retrain=model.retrain,
        examples=tuple(item.example for item in items),
        holder_ids=tuple(item.holder_id for item in items),
        queries=(*held_out, *own_generations),
        coalitions=chosen,
        seed=seed,
    )
    utilities = _retrain_all(task, cache, processes, progress)
    present = np.array([[holder in coalition for holder in index.holder_ids] for coalition in chosen], dtype=float)
    counts = np.array([sum(holder == item.holder_id for item in items) for holder in index.holder_ids], dtype=float)
    parts = {"held_out": slice(0, len(held_out)), "own_generations": slice(len(held_out), None)}
    measured = {
        name: _compare(index, present, counts, index.score(index.embed(task.queries[part])), utilities[:, part], seed)
        for name, part in parts.items()
    }
    own = measured["own_generations"]
    lds_low = own["specific"]["low"]
    weight = weight_ppb(lds_low, weight_low=weight_low, weight_high=weight_high)
    return {
        "index_sha256": index.sha256,
        "method": index.manifest["method"],
        "coalitions": len(chosen),
        "seed": seed,
        "queries": {"held_out": len(held_out), "own_generations": len(own_generations)},
        **measured,
        "lds_low": lds_low,
        "weight_low": weight_low,
        "weight_high": weight_high,
        "weight_ppb": weight,
        "passed": weight > 0 and own["undivided"]["lds"] > own["pro_rata"]["lds"],
        "seconds": round(time.monotonic() - started, 1),
    }


def weight_ppb(lds_low: float, *, weight_low: float, weight_high: float) -> int:
    """Which part of the pool goes by attribution: from nothing at weight_low to all of it at weight_high."""
    return round(BILLION * min(max((lds_low - weight_low) / (weight_high - weight_low), 0.0), 1.0))


def choose_coalitions(holder_ids: Sequence[int], *, count: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Different halves of the holders, at random."""
    half = len(holder_ids) // 2
    possible = math.comb(len(holder_ids), half)
    if not COALITIONS_MIN <= count <= possible:
        raise UnableToAudit(
            f"{len(holder_ids)} holders have {possible} different halves; between {COALITIONS_MIN} and that many "
            f"coalitions can be retrained, not {count}."
        )
    chance = random.Random(seed)
    chosen: set[tuple[int, ...]] = set()
    while len(chosen) < count:
        chosen.add(tuple(sorted(chance.sample(list(holder_ids), half))))
    return tuple(sorted(chosen))


def bootstrapped_lds(predicted: Array, actual: Array, *, seed: int) -> dict[str, float]:
    """LDS of predictions (coalitions, queries), with 5 % and 95 % bounds over both coalitions and queries.

    The few coalitions are the larger part of the uncertainty: drawing queries alone would promise too much.
    """
    chance = np.random.default_rng(seed)
    coalitions, queries = predicted.shape
    draws: list[float] = []
    while len(draws) < BOOTSTRAPS:
        rows = chance.multinomial(coalitions, [1 / coalitions] * coalitions, BOOTSTRAPS_AT_ONCE)
        columns = chance.multinomial(queries, [1 / queries] * queries, BOOTSTRAPS_AT_ONCE)
        correlations = _rank_correlations(predicted, actual, rows.astype(float))
        draws.extend((correlations * columns).sum(1) / queries)
    low, high = np.quantile(draws, [0.05, 0.95])
    lds = float(_rank_correlations(predicted, actual, np.ones((1, coalitions))).mean())
    return {"lds": round(lds, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _compare(
    index: Index, present: Array, counts: Array, scores: Scores, utilities: Array, seed: int
) -> dict[str, dict[str, float]]:
    """Undivided scores and pro rata against the utilities, the specific part against what sets a query apart.

    How many items a coalition has moves all utilities together, which pro rata predicts, too: the difference from the
    mean over queries does not contain that, and it is what the specific shares are paid for.
    """
    queries = utilities.shape[1]
    apart = utilities - utilities.mean(1, keepdims=True)
    pro_rata = np.repeat((present @ counts)[:, None], queries, axis=1)
    return {
        "undivided": bootstrapped_lds(present @ (scores.specific + scores.general).T, utilities, seed=seed),
        "specific": bootstrapped_lds(present @ scores.specific.T, apart, seed=seed),
        "general": bootstrapped_lds((present @ scores.general)[:, None], utilities.mean(1, keepdims=True), seed=seed),
        "pro_rata": bootstrapped_lds(pro_rata, utilities, seed=seed),
    }


def _rank_correlations(predicted: Array, actual: Array, weights: Array) -> Array:
    """Spearman's rank correlation of each column (queries), for each row of weights: how often a coalition was drawn.

    (D, queries) for weights (D, coalitions). A column without any order has no correlation, hence 0.
    """
    a, b = (_weighted_ranks(values, weights) for values in (predicted, actual))
    products = [(weights[:, :, None] * x * y).sum(1) for x, y in ((a, b), (a, a), (b, b))]
    norm = np.sqrt(products[1] * products[2])
    return np.asarray(products[0] / np.where(norm > 0, norm, 1.0))


def _weighted_ranks(values: Array, weights: Array) -> Array:
    """Mean ranks (D, n, queries) less their mean, ties shared, were row i of values there weights[d, i] times."""
    before = (values[:, None] < values) + 0.5 * (values[:, None] == values)
    ranks = np.tensordot(weights, before, 1)
    total = weights.sum(1)[:, None, None]
    return np.asarray(ranks - (weights[:, :, None] * ranks).sum(1, keepdims=True) / total)


def _retrain_all(task: Task, cache: Path, processes: int, progress: Progress | None) -> Array:
    """Utilities (coalitions, queries), from files where a former run left them."""
    # Another task in the same cache directory has a directory of its own: results never mix.
    directory = cache / task.sha256[:16]
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "task.pickle", pickle.dumps(task))
    total = len(task.coalitions)
    paths = [directory / f"coalition-{number:03d}.npy" for number in range(total)]
    workers = []
    try:
        if not all(path.exists() for path in paths):
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
                    raise UnableToAudit(f"A retraining failed: {_last_words(directory, workers.index(worker))}")
            if len(finished) == len(workers):
                raise UnableToAudit("The workers ended without a result for every coalition.")
            time.sleep(POLL_SECONDS)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    return np.stack([np.load(path) for path in paths])


def _start_worker(directory: Path, number: int, workers: int) -> subprocess.Popen[bytes]:
    # A process of its own rather than multiprocessing: the caller may be a daemonic task worker, which must have no
    # children of that kind, and torch's threads do not survive a fork.
    command = [sys.executable, "-m", "attribution.audit", str(directory), str(number), str(workers)]
    paths = [path or os.getcwd() for path in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    with (directory / f"worker-{number}.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _last_words(directory: Path, number: int) -> str:
    lines = (directory / f"worker-{number}.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no word from the worker"


def _work(directory: Path, number: int, workers: int) -> None:
    """One worker's coalitions, each kept as soon as it is done; ends when the audit that started it is gone."""
    torch.set_num_threads(1)
    parent = os.getppid()
    task: Task = pickle.loads((directory / "task.pickle").read_bytes())
    for coalition in range(number, len(task.coalitions), workers):
        path = directory / f"coalition-{coalition:03d}.npy"
        if path.exists():
            continue
        if os.getppid() != parent:
            return
        written = io.BytesIO()
        np.save(written, _utilities(task, coalition))
        _write(path, written.getvalue())


def _utilities(task: Task, coalition: int) -> Array:
    present = set(task.coalitions[coalition])
    examples = [example for example, holder in zip(task.examples, task.holder_ids, strict=True) if holder in present]
    seed = task.seed * 1_000 + coalition
    torch.manual_seed(seed)
    adapter = task.retrain(examples, seed)
    with torch.no_grad():
        batches = [
            adapter.utility(task.queries[start : start + QUERY_BATCH]).values
            for start in range(0, len(task.queries), QUERY_BATCH)
        ]
    return np.asarray(torch.cat(batches).numpy())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a worker that is killed leaves no half file under the name."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    os.replace(draft, path)


if __name__ == "__main__":
    # The module under its own name, so that what is unpickled is of the classes that were pickled.
    from attribution import audit as itself

    itself._work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
