"""Items on disk: features in int8 with a scale per row and member, and whose they are; memory-mapped.

A shard holds at most 65,536 items in three files: `.i8.npy` (n, M, K), `.scale.npy` (n, M), `.labels.npy` (n, 3) with
work, holder and cluster. Items keep their position for ever; what is taken out is listed by position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SHARD_ITEMS = 65_536
CHUNK_ITEMS = 4_096
"""Items turned back to floats at once, so that reading a shard does not need four times its size."""
Array = npt.NDArray[Any]
_ENDINGS = ("i8", "scale", "labels")


def shard_files(shards: Sequence[str]) -> list[str]:
    return [f"{shard}.{ending}.npy" for shard in shards for ending in _ENDINGS]


def write_shard(directory: Path, shard: str, features: Array, labels: Array, *, divisor: int) -> None:
    """Quantise features (n, M, K) row by row; `divisor` goes into the scale, so that tiny values keep their bits."""
    assert len(features) == len(labels) <= SHARD_ITEMS
    scale = np.abs(features).max(axis=2) / 127
    rounded = np.rint(features / np.where(scale > 0, scale, 1)[:, :, None]).astype(np.int8)
    np.save(directory / f"{shard}.i8.npy", rounded)
    np.save(directory / f"{shard}.scale.npy", (scale / divisor).astype(np.float32))
    np.save(directory / f"{shard}.labels.npy", labels.astype(np.int64))


class Items:
    """The items of an index, numbered through all shards; those taken out are passed over."""

    def __init__(self, directory: Path, shards: Sequence[str], removed: Array) -> None:
        self._shards = [np.load(directory / f"{shard}.i8.npy", mmap_mode="r") for shard in shards]
        self._scales = [np.load(directory / f"{shard}.scale.npy", mmap_mode="r") for shard in shards]
        labels = np.concatenate([np.load(directory / f"{shard}.labels.npy") for shard in shards])
        self.works, self.holders, self.clusters = labels.T
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self._alive = np.ones(len(labels), dtype=bool)
        self._alive[removed] = False

    @cached_property
    def alive(self) -> Array:
        """Positions of the items that count, ascending."""
        return np.flatnonzero(self._alive)

    @cached_property
    def _by_holder(self) -> Array:
        return np.argsort(self.holders, kind="stable")

    def of_holder(self, holder: int) -> Array:
        """Positions of a holder's items, ascending, without a look at anybody else's."""
        by_holder = self._by_holder
        first = np.searchsorted(self.holders, holder, "left", sorter=by_holder)
        last = np.searchsorted(self.holders, holder, "right", sorter=by_holder)
        positions = np.sort(by_holder[first:last])
        alive: Array = positions[self._alive[positions]]
        return alive

    def chunks(self, positions: Array) -> Iterator[tuple[Array, Array]]:
        """(positions, features (n, M, K) float32) of these items, ascending, a bounded number at a time."""
        for number, (shard, scale) in enumerate(zip(self._shards, self._scales, strict=True)):
            start, end = self._starts[number : number + 2]
            inside = positions[(positions >= start) & (positions < end)]
            for first in range(0, len(inside), CHUNK_ITEMS):
                chosen = inside[first : first + CHUNK_ITEMS]
                rows = chosen - start
                yield chosen, shard[rows].astype(np.float32) * scale[rows][:, :, None]
