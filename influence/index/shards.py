"""Items on disk: int8 features with a scale per row and member, and their holders; memory-mapped, read by holder.

A shard holds at most 65,536 items in three files: `.i8.npy` (n, M, K), `.scale.npy` (n, M), `.labels.npy` (3, n) with
holder, work and cluster. Its rows are ordered by holder and then by work. All rows of a holder are one stretch, found
by bisection, and nobody else's rows are looked at. Items keep their position for ever; removed items are listed by
position.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from influence.index.artefacts import UnableToBuildIndex
from influence.index.config import SHARD_ITEMS_MAX

CHUNK_ITEMS = 4_096
"""Items turned back to floats at once, so that reading a shard does not need four times its size."""
Array = npt.NDArray[Any]
_ENDINGS = ("i8", "scale", "labels")


@dataclass(frozen=True, slots=True)
class Shard:
    """The manifest's entry for a shard: enough to know whether a holder can be in it."""

    name: str
    items: int
    first_holder: int
    last_holder: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def files(self) -> list[str]:
        return [f"{self.name}.{ending}.npy" for ending in _ENDINGS]


def save_array(path: Path, values: Array) -> None:
    """Write an array of any shape beside its place and rename it: a file of this name is complete."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as written:
        np.save(written, values)
        written.flush()
        os.fsync(written.fileno())
    os.replace(draft, path)


def write_shard(directory: Path, name: str, features: Array, labels: Array, *, divisor: int) -> Shard:
    """Quantise features (n, M, K) row by row; `divisor` goes into the scale, so that tiny values keep their bits.

    `labels` (3, n) are holder, work and cluster, ordered by holder and then by work. Raises UnableToBuildIndex, naming
    the work, for features that are not finite: one such row would make every sum that it is part of no number.
    """
    assert len(features) == labels.shape[1] <= SHARD_ITEMS_MAX
    assert (np.diff(labels[0]) >= 0).all(), "The rows of a shard are ordered by holder."
    rounded = np.empty(features.shape, dtype=np.int8)
    scale = np.empty(features.shape[:2], dtype=np.float32)
    for start in range(0, len(features), CHUNK_ITEMS):
        part = slice(start, start + CHUNK_ITEMS)
        largest = np.abs(features[part]).max(axis=2) / 127
        unfit = np.flatnonzero(~np.isfinite(largest).all(axis=1))
        if len(unfit):
            work = labels[1, start + unfit[0]]
            raise UnableToBuildIndex(
                f"The features of an item of work {work} are not finite: the model cannot read it."
            )
        rounded[part] = np.rint(features[part] / np.where(largest > 0, largest, 1)[:, :, None])
        scale[part] = largest / divisor
    save_array(directory / f"{name}.i8.npy", rounded)
    save_array(directory / f"{name}.scale.npy", scale)
    # Last: a process that finds the labels also finds the rest.
    save_array(directory / f"{name}.labels.npy", labels.astype(np.int64))
    return describe_shard(directory, name)


def labels_of_works(labels: Array) -> Array:
    """(3, W): holder, work and cluster of each work, ascending, from the labels (3, n) of items."""
    _, first = np.unique(labels[1], return_index=True)
    return np.asarray(labels[:, first])


def describe_shard(directory: Path, name: str) -> Shard:
    holders = np.load(directory / f"{name}.labels.npy", mmap_mode="r")[0]
    return Shard(name, len(holders), int(holders[0]), int(holders[-1]))


class Items:
    """The items of an index, numbered through all shards; those taken out are passed over.

    Nothing is read before it is asked for: a shard that cannot hold the holder in question is not even opened.
    """

    def __init__(self, directory: Path, shards: Sequence[Shard], removed: Array | None = None) -> None:
        self._directory = directory
        self.shards = tuple(shards)
        self.removed: Array = np.zeros(0, dtype=np.int64) if removed is None else removed
        self._starts = np.cumsum([0, *(shard.items for shard in shards)])
        self._open: dict[str, Array] = {}

    def __len__(self) -> int:
        """Rows, those taken out included."""
        return int(self._starts[-1])

    def _map(self, shard: Shard, ending: str) -> Array:
        name = f"{shard.name}.{ending}.npy"
        if name not in self._open:
            # Copy on write: torch takes no array that cannot be written, and nothing here writes. A plain array, since
            # each slice of a memmap takes microseconds.
            self._open[name] = np.load(self._directory / name, mmap_mode="c").view(np.ndarray)
        return self._open[name]

    def labels(self) -> Iterator[tuple[int, Array]]:
        """(first position, labels (3, n)) of each shard, memory-mapped, those taken out included."""
        for shard, start in zip(self.shards, self._starts, strict=False):
            yield int(start), self._map(shard, "labels")

    def all_labels(self) -> Array:
        """Labels (3, rows) of all rows, those taken out included."""
        return np.concatenate([np.zeros((3, 0), dtype=np.int64), *(labels for _, labels in self.labels())], axis=1)

    def labels_at(self, positions: Array) -> Array:
        """Labels (3, n) of these positions, ascending."""
        found = [np.zeros((3, 0), dtype=np.int64)]
        for number, shard in enumerate(self.shards):
            start, end = self._starts[number : number + 2]
            first, last = np.searchsorted(positions, [start, end])
            if first < last:
                found.append(self._map(shard, "labels")[:, _rows(positions[first:last], start)])
        return np.concatenate(found, axis=1)

    def where(self, row: int, wanted: Array) -> Array:
        """Positions (n,), ascending, of the items that count and have one of the wanted holders (row 0), works (1) or
        clusters (2)."""
        found = [np.zeros(0, dtype=np.int64)]
        for start, labels in self.labels():
            found.append(start + np.flatnonzero(np.isin(labels[row], wanted)))
        return self._counting(np.concatenate(found))

    def of_holder(self, holder: int) -> Array:
        """Positions (n,) of a holder's items that count, ascending, by bisection in the shards that can hold it."""
        found = [np.zeros(0, dtype=np.int64)]
        for shard, start in zip(self.shards, self._starts, strict=False):
            if shard.first_holder <= holder <= shard.last_holder:
                holders = self._map(shard, "labels")[0]
                first, last = np.searchsorted(holders, [holder, holder + 1])
                found.append(np.arange(start + first, start + last))
        return self._counting(np.concatenate(found))

    @cached_property
    def alive(self) -> Array:
        """Positions (n,) of all items that count, ascending."""
        return self._counting(np.arange(len(self)))

    def _counting(self, positions: Array) -> Array:
        if not len(self.removed):
            return positions
        places = np.searchsorted(self.removed, positions)
        places[places == len(self.removed)] = 0
        counting: Array = positions[self.removed[places] != positions]
        return counting

    def chunks(self, positions: Array) -> Iterator[tuple[Array, Array]]:
        """(positions, features (n, M, K) float32) of these items, ascending, a bounded number at a time."""
        for chosen, rows, scale, _ in self.stored(positions, CHUNK_ITEMS):
            found = rows.astype(np.float32)
            found *= scale[:, :, None]
            yield chosen, found

    def stored(self, positions: Array, size: int) -> Iterator[tuple[Array, Array, Array, Array]]:
        """(positions, int8 (n, M, K), scales (n, M), works (n,)) of these items, ascending, at most `size` at a time.

        A stretch without gaps is a view of the file: nothing is copied.
        """
        for number, shard in enumerate(self.shards):
            start, end = self._starts[number : number + 2]
            first, last = np.searchsorted(positions, [start, end])
            for begin in range(first, last, size):
                chosen = positions[begin : min(begin + size, last)]
                rows = _rows(chosen, start)
                works = self._map(shard, "labels")[1][rows]
                yield chosen, self._map(shard, "i8")[rows], self._map(shard, "scale")[rows], works


def _rows(positions: Array, start: int) -> Any:
    """The rows, in a shard that starts there, of these ascending positions; where there is no gap as a slice, which
    copies nothing."""
    if positions[-1] - positions[0] + 1 == len(positions):
        return slice(int(positions[0]) - start, int(positions[-1]) - start + 1)
    return positions - start
