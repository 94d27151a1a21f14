"""The index at scale: what a query, a scan, a build and a worker cost, beside what the memory alone would cost.

    python -m benchmarks.index [--quick] [--json FILE]

Every part runs in a process of its own, with one torch thread, and states its peak of memory. What counts are ratios:
to reading the same bytes once, to a tenth of the works, to a tenth of the items. The worker's part attributes sampled
generations of the demo's model through the product's own operation, against a PostgreSQL of its own. Below the tables
stand the goals, met or not; figures of a busy machine are worth their ratios only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("query", "scan", "changes", "build", "holders", "worker")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of every size")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--part", nargs=2, metavar=("NAME", "SIZES"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        name, sizes = args.part
        functions: dict[str, Callable[..., dict[str, Any]]] = {
            "query": query, "scan": scan, "changes": changes, "build": build, "holders": holders, "worker": worker,
        }  # fmt: skip
        found = functions[name](**json.loads(sizes))
        print(json.dumps({**found, "peak_rss_mib": round(peak_rss() / 2**20)}))
        return
    figures = {"machine": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()[0], "quick": args.quick}
    figures |= measure(args.only, 10 if args.quick else 1)
    show(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(only: Sequence[str], smaller: int) -> dict[str, Any]:
    sizes: dict[str, list[dict[str, int]]] = {
        "query": [{"holders": 10_000, "items": items, "k": 512} for items in (20_000, 200_000 // min(smaller, 4))],
        "scan": [{"items": 1_000_000 // smaller, "k": 512}],
        "changes": [{"items": 20_000, "holders": 100, "k": 512}],
        "build": [{"items": items // smaller, "holders": items // smaller // 20} for items in (20_000, 200_000)],
        "holders": [{"items": 200_000 // smaller, "holders": 100_000 // smaller}],
        "worker": [{"generations": 1_024 // smaller, "authors": 8 if smaller == 1 else 3}],
    }
    return {name: [alone(name, wanted) for wanted in sizes[name]] for name in only}


def alone(name: str, sizes: dict[str, int]) -> dict[str, Any]:
    """One part in a process of its own, so that its peak of memory is its own."""
    print(f"{name} {sizes} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.index", "--part", name, json.dumps(sizes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOG_LEVEL": "ERROR"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = {**sizes, **json.loads(ended.stdout.splitlines()[-1])}
    return found


# --- measuring ----------------------------------------------------------------------------------------------------
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
    act()
    found = []
    for _ in range(times):
        started = time.process_time()
        act()
        found.append(time.process_time() - started)
    return 1000 * statistics.median(found)


# --- an index of any size -----------------------------------------------------------------------------------------
def synthetic(directory: Path, *, items: int, holders: int, k: int) -> Any:
    """An index whose rows are noise, written and opened by the product's own code; the gradients alone are missing."""
    import numpy as np

    from attribution import artefacts, sums
    from attribution.building import FORMAT, MEAN_QUERY, files_of
    from attribution.configuration import IndexConfig
    from attribution.index import open_index
    from attribution.shards import Items, save_array, write_shard

    directory.mkdir()
    chance = np.random.default_rng(0)
    config = IndexConfig(k=k)
    shards = []
    for number, start in enumerate(range(0, items, config.shard_items)):
        positions = np.arange(start, min(start + config.shard_items, items))
        owned = positions * holders // items
        labels = np.stack([owned, positions, np.full(len(positions), sums.NO_CLUSTER)])
        rows = chance.standard_normal((len(positions), 1, k), dtype=np.float32)
        shards.append(write_shard(directory, f"items-{number:05d}", rows, labels, divisor=items))
        found = Items(directory, shards[-1:])
        nobody = np.zeros((2, 0), dtype=np.int64)
        sums.save(directory, f"part-{number}", sums.sum_by_holder(found, found.alive, nobody))
    sums.merge(directory, [f"part-{number}" for number in range(len(shards))])
    save_array(directory / MEAN_QUERY, np.zeros((1, k), dtype=np.float32))
    manifest = {
        "format": FORMAT, "config": config.to_json(), "members": 0, "revision": 1, "removed_file": None,
        "overlay": None, "shards": [shard.to_json() for shard in shards], "layers": [], "items_at_build": items,
        "added": {"items": 0, "energy_whole": 0.0, "energy_held": 0.0},
        "counts": {"items": items, "works": items, "holders": holders, "removed_items": 0},
    }  # fmt: skip
    artefacts.write_manifest(directory, manifest, files_of(manifest))
    artefacts.drop_strangers(directory)
    return open_index(directory)


def query(*, holders: int, items: int, k: int) -> dict[str, Any]:
    """One generation's scores of every holder, beside reading the holders' matrix once."""
    import numpy as np

    with tempfile.TemporaryDirectory() as scratch:
        index = synthetic(Path(scratch) / "index", items=items, holders=holders, k=k)
        features = np.random.default_rng(1).standard_normal((1, 1, k), dtype=np.float32)
        matrix = np.load(index.path / "sums.npy").view(np.int64)
        return {
            "query_ms": milliseconds(lambda: index.score(features)),
            "read_ms": milliseconds(matrix.sum),
            "bytes_an_item": sum(path.stat().st_size for path in index.path.glob("items-*")) / items,
        }


def scan(*, items: int, k: int) -> dict[str, Any]:
    """The five works of a holder that score most, and all of its works' scores, beside reading their rows once."""
    import numpy as np

    with tempfile.TemporaryDirectory() as scratch:
        index = synthetic(Path(scratch) / "index", items=items, holders=1, k=k)
        features = np.random.default_rng(1).standard_normal((1, 1, k), dtype=np.float32)
        rows = np.concatenate([np.load(path) for path in sorted(index.path.glob("items-*.i8.npy"))])
        words = rows.view(np.int64)
        positions = index._items.of_holder(0)

        def multiply() -> None:
            from attribution.scanning import SCAN_ITEMS

            floats = np.empty((SCAN_ITEMS, 1, k), dtype=np.float32)
            for _, stored, _, _ in index._items.stored(positions, SCAN_ITEMS):
                floats[: len(stored)] = stored

        return {
            "scan_ms": milliseconds(lambda: index.top_works(features, [[0]], 5), times=5),
            "every_ms": milliseconds(lambda: index.work_scores(features, 0, [0]), times=5),
            "convert_ms": milliseconds(multiply, times=5),
            "read_ms": milliseconds(words.sum, times=5),
        }


def changes(*, items: int, holders: int, k: int) -> dict[str, Any]:
    """The sums of an index from which a holder's works were taken out, beside sums made afresh of what is left."""
    import numpy as np

    from attribution import sums
    from attribution.index import remove_works

    with tempfile.TemporaryDirectory() as scratch:
        index = synthetic(Path(scratch) / "index", items=items, holders=holders, k=k)
        positions = index._items.of_holder(3)
        # All works of one holder, and every other one of the next.
        gone = np.concatenate([positions, index._items.of_holder(4)[::2]])
        started = time.process_time()
        left = remove_works(index.path, work_ids=gone.tolist())
        seconds = time.process_time() - started
        fresh = sums.sum_by_holder(left._items, left._items.alive, np.zeros((2, 0), dtype=np.int64))
        ours = left._sums.numpy().transpose(1, 0, 2)
        assert left.holder_ids == tuple(fresh.holders.tolist())
        error = np.abs(ours - fresh.sums).max() / np.abs(fresh.sums).max()
        return {"removed": len(gone), "seconds": round(seconds, 2), "relative_error": float(error)}


# --- builds -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Sentences:
    """Training items that are made when they are asked for, as a manifest's are read then."""

    items: int
    holders: int

    @property
    def sha256(self) -> str:
        return f"{self.items} of {self.holders}"

    def __len__(self) -> int:
        return self.items

    def labels(self) -> Any:
        import numpy as np

        positions = np.arange(self.items)
        return np.stack([positions % self.holders, positions, np.full(self.items, -1)])

    def examples(self, positions: Sequence[int]) -> list[Any]:
        import numpy as np

        from attribution.adapters import Example

        return [
            Example(tuple(np.random.default_rng(position).integers(0, 16, 12).tolist()), 1) for position in positions
        ]


def _build(directory: Path, items: int, holders: int) -> dict[str, Any]:
    import torch

    from attribution.index import IndexConfig, build_index
    from tests.attribution.small_model import trained, training_items

    torch.set_num_threads(1)
    source = Sentences(items, holders)
    model = trained(training_items(), steps=30, members=1)
    config = IndexConfig(k=64, coordinates=512, fit_items=2_048, pca_items=2_048, batch=256)
    own = source.examples(range(64))
    started, spent = time.monotonic(), time.process_time()
    with Anonymous() as memory:
        build_index(directory, model=model, items=source, config=config, mean_of=own)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - spent, 1),
        "before_mib": round(memory.before / 2**20),
        "own_mib": round((memory.largest - memory.before) / 2**20, 1),
        "labels_mib": round(32 * items / 2**20, 1),
    }


def build(*, items: int, holders: int) -> dict[str, Any]:
    """A whole build by the product's code: a tiny model, short items, every step."""
    with tempfile.TemporaryDirectory() as scratch:
        return _build(Path(scratch) / "index", items, holders)


def holders(*, items: int, holders: int) -> dict[str, Any]:
    """Many holders: the build, then queries against the opened index in a process that has nothing else."""
    import numpy as np

    from attribution.index import open_index

    with tempfile.TemporaryDirectory() as scratch:
        built = _build(Path(scratch) / "index", items, holders)
        with Anonymous() as memory:
            index = open_index(Path(scratch) / "index")
            features = np.random.default_rng(1).standard_normal((1, 1, 64), dtype=np.float32)
            query_ms = milliseconds(lambda: index.score(features))
            matrix = np.load(index.path / "sums.npy", mmap_mode="r")
            words = np.array(matrix).view(np.int64)
            read_ms = milliseconds(words.sum)
        queries = {"query_ms": query_ms, "read_ms": read_ms, "matrix_mib": round(matrix.nbytes / 2**20)}
        return {**built, **queries, "query_own_mib": round((memory.largest - memory.before) / 2**20)}


# --- worker -------------------------------------------------------------------------------------------------------
def worker(*, generations: int, authors: int) -> dict[str, Any]:
    """Generations that one worker attributes in a second of one core, and where the time goes."""
    from benchmarks.ledgers.databases import migrated_database

    with tempfile.TemporaryDirectory() as data, migrated_database():
        os.environ["TRIBUTARY_DATA"] = data
        import django

        django.setup()
        return _attribute(Path(data), generations, authors)


def _attribute(data: Path, generations: int, authors: int) -> dict[str, Any]:
    from datetime import UTC, datetime

    import torch

    from attribution import operations
    from attribution.operations import attributions
    from attribution.operations.indexes import open_built
    from config.demo import corpus, model
    from tests.attribution.conftest import register_people

    torch.set_num_threads(1)
    at = datetime.now(UTC)
    chosen = [address for address in corpus.read_addresses() if address.author in corpus.AUTHORS[:authors]]
    tokeniser = model.Tokeniser.train(address.body for address in chosen)
    cut = corpus.cut_works(chosen, encode=tokeniser.encode)
    examples, held_out = (
        [tokeniser.item(chosen[item.work].content, item.token_start, item.token_end) for item in part]
        for part in (cut.items, cut.held_out)
    )
    # The size of the demo's model, after a few steps: what it costs does not depend on how good it is.
    few = examples[:128]
    training = model.Training(epochs=3)
    model.train(data / "m", items=few, held_out=held_out, tokeniser=tokeniser, training=training)
    _, _, works = register_people(tuple(chosen))
    service = operations.register_service(name="orator", at=at)
    version = operations.register_model_version(
        service=service, name="orator-1", adapter="causal_lm", factory="demo", config={}, directory=data / "m",
        trained_at=at, at=at,
    )  # fmt: skip
    items = [
        operations.NewItem(works[item.work].pk, ordinal, item.token_start, item.token_end)
        for ordinal, item in enumerate(cut.items)
    ]
    operations.register_manifest(model_version=version, items=items, at=at)
    started = time.process_time()
    index = operations.build_index(model_version=version, at=at)
    built = time.process_time() - started
    loaded = open_built(index=index).model
    assert loaded.sample is not None
    outputs = loaded.sample(generations, 7)
    for start in range(0, generations, 500):
        told = [
            {
                "external_id": f"g{start + number}", "model_version": version.name, "occurred_at": at.isoformat(),
                "prompt": {"text": tokeniser.decode(example.tokens[: example.prompt_tokens])},
                "output": {
                    "text": tokeniser.decode(example.tokens[example.prompt_tokens :]),
                    "token_ids": list(example.tokens[example.prompt_tokens :]),
                },
            }
            for number, example in enumerate(outputs[start : start + 500])
        ]  # fmt: skip
        reported = operations.report_generations(service=service, generations=told, at=at)
        assert all(result.status == 201 for result in reported), reported[0]
    spent = dict.fromkeys(("gradients", "scores", "evidence"), 0.0)
    opened = open_built(index=index)
    of_index = {"embed": "gradients", "score": "scores", "top_works": "evidence"}
    with Timed(opened.index, of_index, spent), Timed(attributions, {"_row": "shares"}, spent):
        started, wall = time.process_time(), time.monotonic()
        done = 0
        while settled := operations.attribute_batch(limit=64, at=at):
            done += settled
        cpu, wall = time.process_time() - started, time.monotonic() - wall
    assert done == generations
    spent["rows"] = cpu - sum(spent.values())
    return {
        "index_items": len(cut.items), "build_cpu_seconds": round(built, 1),
        "per_cpu_second": round(done / cpu, 1), "per_second": round(done / wall, 1),
        "ms_a_generation": {name: round(1000 * seconds / done, 3) for name, seconds in spent.items()},
    }  # fmt: skip


class Timed:
    """Counts the processor time of an object's functions while the block lasts."""

    def __init__(self, target: Any, names: dict[str, str], spent: dict[str, float]) -> None:
        self.target, self.names, self.spent = target, names, spent

    def __enter__(self) -> None:
        self.before = {name: getattr(self.target, name) for name in self.names}
        for name, label in self.names.items():
            setattr(self.target, name, self._counting(self.before[name], label))

    def __exit__(self, *_: object) -> None:
        for name, function in self.before.items():
            setattr(self.target, name, function)

    def _counting(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            started = time.process_time()
            try:
                return function(*args, **options)
            finally:
                self.spent[label] = self.spent.get(label, 0.0) + time.process_time() - started

        return counted


# --- telling ------------------------------------------------------------------------------------------------------
def show(figures: dict[str, Any]) -> None:
    print(f"\n{figures['machine']}, {figures['cores']} cores, load {figures['load']:.1f}, one torch thread\n")
    for line in lines(figures):
        print(line)
    print("\nGoals")
    for goal, met in goals(figures):
        print(f"  {'met    ' if met else 'not met'}  {goal}")


def lines(figures: dict[str, Any]) -> Iterator[str]:
    for row in figures.get("query", ()):
        yield (
            f"query    {row['holders']:>9,} holders x {row['k']}, {row['items']:>9,} works  {row['query_ms']:8.2f} ms "
            f"  {row['query_ms'] / row['read_ms']:5.1f} x reading the matrix   {row['bytes_an_item']:.0f} bytes an item"
        )
    for row in figures.get("scan", ()):
        yield (
            f"scan     {row['items']:>9,} items x {row['k']} int8  {row['scan_ms']:8.1f} ms "
            f"  {row['scan_ms'] / row['read_ms']:5.1f} x reading them; every work's score "
            f"{row['every_ms'] / row['read_ms']:.1f} x, rows into floats {row['convert_ms'] / row['read_ms']:.1f} x"
        )
    for row in figures.get("changes", ()):
        yield (
            f"changes  {row['removed']:>9,} of {row['items']:,} items taken out in {row['seconds']:.2f} s; sums "
            f"differ from fresh ones by {row['relative_error']:.0e} of the largest"
        )
    for name in ("build", "holders"):
        for row in figures.get(name, ()):
            yield (
                f"build    {row['items']:>9,} items, {row['holders']:>7,} holders  {row['cpu_seconds']:7.1f} CPU s   "
                f"{row['own_mib']:6.1f} MiB of its own above {row['before_mib']}, labels {row['labels_mib']} of them; "
                f"peak RSS {row['peak_rss_mib']} MiB with mapped files"
            )
    for row in figures.get("holders", ()):
        yield (
            f"query    {row['holders']:>9,} holders x 64  {row['query_ms']:8.2f} ms   "
            f"{row['query_ms'] / row['read_ms']:5.1f} x reading the matrix of {row['matrix_mib']} MiB"
        )
    for row in figures.get("worker", ()):
        parts = ", ".join(f"{name} {ms:.2f}" for name, ms in row["ms_a_generation"].items())
        yield (
            f"worker   {row['per_cpu_second']:.0f} generations in a second of one core ({row['per_second']:.0f} on the "
            f"wall); ms each: {parts}"
        )


def goals(figures: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    if rows := figures.get("query"):
        few, many = rows[0], rows[-1]
        yield (
            f"10,000 holders, k = 512: a query in 2 ms (now {many['query_ms']:.2f})",
            many["query_ms"] <= 2.0,
        )
        ratio = many["query_ms"] / few["query_ms"]
        yield f"ten times the works cost a query nothing (now {ratio:.2f} x)", ratio < 1.25
    for row in figures.get("scan", ()):
        ratio = row["scan_ms"] / row["read_ms"]
        yield f"a scan within 3.5 x of reading memory (now {ratio:.1f})", ratio <= 3.5
    for row in figures.get("changes", ()):
        error = row["relative_error"]
        yield f"sums after a change are fresh sums to 1e-5 (now {error:.0e})", error <= 1e-5
    if rows := figures.get("build"):
        few, many = (row["own_mib"] - row["labels_mib"] for row in (rows[0], rows[-1]))
        yield (
            f"ten times the items, memory but for labels at most 1.5 x (now {many:.0f} MiB after {few:.0f})",
            many <= 1.5 * few,
        )


if __name__ == "__main__":
    main()
