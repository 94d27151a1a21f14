"""Builds of any number of items and holders."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.index.measures import Anonymous, milliseconds


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

        from influence.adapters import Example

        return [
            Example(tuple(np.random.default_rng(position).integers(0, 16, 12).tolist()), 1) for position in positions
        ]


def _build(directory: Path, items: int, holders: int) -> dict[str, Any]:
    import torch

    from influence.index.reader import IndexConfig, build_index
    from tests.worlds.small_model import trained, training_items

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

    from influence.index.reader import open_index

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
