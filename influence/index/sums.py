"""Holders' sums on disk: summed shard by shard, merged block by block, changed without a look at anybody else's rows.

A base of every holder's sum is kept twice. The float32 copy (M, C, K) is multiplied with queries. From the float64 copy
(C, M, K) works can be taken out again without a trace of rounding. A change is an overlay: the complete sums of the
holders that it touched. Knows the order of rows and nothing of how they were computed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from influence.index.shards import Array, Items, save_array

NO_CLUSTER = -1
BLOCK_BYTES = 32 * 2**20
HOLDERS, SUMS, EXACT = "holders.npy", "sums.npy", "exact.npy"


@dataclass(frozen=True, slots=True)
class HolderSums:
    """Sums of some holders: ids ascending, how many items count for each, and float64 sums (h, M, K)."""

    holders: Array
    counts: Array
    sums: Array

    def of(self, wanted: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """(counts, sums) of the wanted holders, nought for those that are not here."""
        counts, sums = np.zeros(len(wanted), dtype=np.int64), np.zeros((len(wanted), *shape))
        if len(self.holders):
            places = np.minimum(np.searchsorted(self.holders, wanted), len(self.holders) - 1)
            here = self.holders[places] == wanted
            counts[here], sums[here] = self.counts[places[here]], self.sums[places[here]]
        return counts, sums


# --- who owns what --------------------------------------------------------------------------------------------------
def owners_of_clusters(labels: Array) -> Array:
    """Distinct pairs (2, p) of cluster and holder, ordered, among labels (3, n)."""
    clustered = labels[2] != NO_CLUSTER
    pairs = np.unique(np.stack([labels[2][clustered], labels[0][clustered]]), axis=1)
    return pairs.astype(np.int64)


def ownership(labels: Array, owners: Array) -> tuple[Array, Array, Array]:
    """Return (rows, holders, parts): the part of each item that counts for each holder, ordered by item.

    An item of a duplicate cluster counts for every distinct holder of the cluster in equal parts. Copies are merged
    before anything is clipped, and linearly, so that nobody gains by handing a work in twice.
    """
    alone = labels[2] == NO_CLUSTER
    first, last = (np.searchsorted(owners[0], labels[2], side) for side in ("left", "right"))
    times = np.where(alone, 1, last - first)
    rows = np.repeat(np.arange(labels.shape[1]), times)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    holders = labels[0][rows].copy()
    shared = ~alone[rows]
    holders[shared] = owners[1][first[rows[shared]] + within[shared]]
    return rows, holders, 1.0 / times[rows]


def sum_by_holder(items: Items, positions: Array, owners: Array) -> HolderSums:
    """Sum the features of these items by holder, (C, M, K), a chunk of rows at a time."""
    total: HolderSums | None = None
    for chosen, found in items.chunks(positions):
        rows, holders, parts = ownership(items.labels_at(chosen), owners)
        order = np.argsort(holders, kind="stable")
        names, starts, counts = np.unique(holders[order], return_index=True, return_counts=True)
        weighted = found[rows[order]] * parts[order][:, None, None]
        part = HolderSums(names, counts, np.add.reduceat(weighted, starts, axis=0))
        total = part if total is None else add(total, part)
    assert total is not None, "There is at least one item."
    return total


def add(one: HolderSums, other: HolderSums, *, sign: int = 1) -> HolderSums:
    """One plus (or minus) the other, holder by holder."""
    shape = (one if len(one.holders) else other).sums.shape[1:]
    holders = np.union1d(one.holders, other.holders)
    (counts, sums), (other_counts, other_sums) = one.of(holders, shape), other.of(holders, shape)
    return HolderSums(holders, counts + sign * other_counts, sums + sign * other_sums)


# --- files ----------------------------------------------------------------------------------------------------------
def save(directory: Path, name: str, found: HolderSums) -> list[str]:
    """Two files, the second of which says that both are there."""
    files = [f"{name}.exact.npy", f"{name}.holders.npy"]
    save_array(directory / files[0], found.sums)
    save_array(directory / files[1], np.stack([found.holders, found.counts]))
    return files


def load(directory: Path, name: str) -> HolderSums:
    """Memory-mapped."""
    holders, counts = np.load(directory / f"{name}.holders.npy")
    return HolderSums(holders, counts, np.load(directory / f"{name}.exact.npy", mmap_mode="r"))


def merge(directory: Path, parts: Sequence[str]) -> None:
    """Merge the shards' sums into the base, in blocks of holders: memory is bounded for any number of holders."""
    found = [load(directory, part) for part in parts]
    holders = np.unique(np.concatenate([part.holders for part in found]))
    members, k = found[0].sums.shape[1:]
    counts = np.zeros(len(holders), dtype=np.int64)
    step = max(1, BLOCK_BYTES // (8 * members * k))
    drafts = {name: directory / f".{name}.{os.getpid()}" for name in (EXACT, SUMS)}
    with drafts[EXACT].open("wb") as exact, drafts[SUMS].open("wb") as sums:
        _write_header(exact, (len(holders), members, k), np.dtype(np.float64))
        _write_header(sums, (members, len(holders), k), np.dtype(np.float32))
        begin = sums.tell()
        for start in range(0, len(holders), step):
            block = holders[start : start + step]
            total = np.zeros((len(block), members, k))
            for part in found:
                first, last = np.searchsorted(part.holders, [block[0], block[-1] + 1])
                rows = np.searchsorted(block, part.holders[first:last])
                total[rows] += part.sums[first:last]
                counts[start + rows] += part.counts[first:last]
            exact.write(total.tobytes())
            for member in range(members):
                sums.seek(begin + 4 * k * (member * len(holders) + start))
                sums.write(total[:, member].astype(np.float32).tobytes())
        for written in (exact, sums):
            written.flush()
            os.fsync(written.fileno())
    for name, draft in drafts.items():
        os.replace(draft, directory / name)
    save_array(directory / HOLDERS, np.stack([holders, counts]))


def _write_header(written: BinaryIO, shape: tuple[int, ...], kind: Any) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(written, described)


def exact_of(directory: Path, wanted: Array, overlay: str | None) -> HolderSums:
    """Counts (C,) and float64 sums (C, M, K) of the wanted holders as they are now; reads their rows only."""
    holders, counts = np.load(directory / HOLDERS)
    base = HolderSums(holders, counts, np.load(directory / EXACT, mmap_mode="r"))
    shape = base.sums.shape[1:]
    found = base.of(wanted, shape)
    if overlay is not None:
        changed = load(directory, overlay)
        newer = np.isin(wanted, changed.holders)
        of_overlay = changed.of(wanted[newer], shape)
        found[0][newer], found[1][newer] = of_overlay
    return HolderSums(wanted, *found)


def overlay_with(directory: Path, touched: HolderSums, overlay: str | None) -> HolderSums:
    """Collect all that differs from the base: earlier changes and this one."""
    if overlay is None:
        return touched
    before = load(directory, overlay)
    kept = ~np.isin(before.holders, touched.holders)
    rest = HolderSums(before.holders[kept], before.counts[kept], before.sums[kept])
    return add(rest, touched)


def item_counts(directory: Path, overlay: str | None) -> Array:
    """Number of items that count for each holder of open_sums, (C,)."""
    holders, counts = np.load(directory / HOLDERS)
    if overlay is None:
        return np.asarray(counts)
    changed = load(directory, overlay)
    counted = dict(zip(holders.tolist(), counts.tolist(), strict=True))
    counted |= dict(zip(changed.holders.tolist(), changed.counts.tolist(), strict=True))
    return np.array([counted[holder] for holder in sorted(counted) if counted[holder]], dtype=np.int64)


def open_sums(directory: Path, overlay: str | None) -> tuple[Array, Array]:
    """Holders (C,) ascending, and their sums (M, C, K) float32: memory-mapped, or in memory where holders came or
    went since the base."""
    holders, _ = np.load(directory / HOLDERS)
    # Copy on write: an overlay changes this process's pages only.
    base = np.load(directory / SUMS, mmap_mode="c")
    if overlay is None:
        return holders, base
    changed = load(directory, overlay)
    gone = changed.holders[changed.counts == 0]
    names = np.setdiff1d(np.union1d(holders, changed.holders), gone)
    alive = changed.counts > 0
    if np.array_equal(names, holders):
        sums = base
    else:
        sums = np.empty((base.shape[0], len(names), base.shape[2]), dtype=np.float32)
        kept = np.isin(holders, names)
        places = np.searchsorted(names, holders[kept])
        for member in range(len(base)):
            sums[member, places] = base[member, kept]
    sums[:, np.searchsorted(names, changed.holders[alive])] = changed.sums[alive].transpose(1, 0, 2)
    return names, sums
