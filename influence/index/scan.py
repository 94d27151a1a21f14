"""Rows scanned for scores: of every item, one by one; or of one holder's works, and the works that score most.

Rows are int8 and read as floats a block at a time. Of many rows only the leaders are wanted. A first pass multiplies
int8 by the query in bfloat16, which costs little more than reading them, with a bound for its error by the standard
model of rounding (Higham 2002). Works that cannot be among the leaders are then skipped, and the rest are scored
exactly. Knows nothing of models or manifests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from influence.index.shards import Array, Items

SCAN_ITEMS = 1_024
"""As many rows as the cache holds as floats."""
ROUGH_ITEMS = 65_536
"""Rows of one rough product: they stay int8."""
ROUGH_FROM = 16_384
"""With fewer items two passes cost more than they save."""
HALF_ULP = 2.0**-8
"""A generous half of a unit in the last place of bfloat16."""


def item_scores(items: Items, positions: Array, queries: Tensor) -> Iterator[tuple[Array, Array]]:
    """Positions (n,) and scores (R, n) of these items for queries (R, M, K), summed over members, a block at a time.

    Exact in float32. The memory is that of a block, for any number of items.
    """
    floats = torch.empty(SCAN_ITEMS, *queries.shape[1:])
    by_member = [query.contiguous() for query in queries.unbind(1)]
    for chosen, stored, scale, _ in items.stored(positions, SCAN_ITEMS):
        block = floats[: len(stored)].copy_(torch.from_numpy(stored))
        scores = torch.zeros(len(queries), len(block))
        for member, query in enumerate(by_member):
            scores += (query @ block[:, member].T) * torch.from_numpy(scale[:, member])
        yield chosen, scores.numpy()


def work_scores(items: Items, positions: Array, queries: Tensor) -> tuple[Array, Array]:
    """Works (W,) of these items, ascending, and their scores (W, R) for queries (R, M, K), summed over members."""
    scores, done = np.empty((len(positions), len(queries)), dtype=np.float32), 0
    floats = torch.empty(SCAN_ITEMS, *queries.shape[1:])
    # Scaled when they are few numbers.
    works = np.empty(len(positions), dtype=np.int64)
    for _, stored, scale, of_works in items.stored(positions, SCAN_ITEMS):
        block = floats[: len(stored)].copy_(torch.from_numpy(stored))
        works[done : done + len(block)] = of_works
        found = torch.from_numpy(scores[done : done + len(block)]).zero_()
        for member, query in enumerate(queries.unbind(1)):
            found += (block[:, member] @ query.T) * torch.from_numpy(scale)[:, member, None]
        done += len(block)
    return _by_work(works, scores)


def leading_works(items: Items, positions: Array, queries: Tensor, n: int) -> tuple[Array, Array]:
    """Works (W,) and scores (W, R) as in work_scores, for at least the n works with the largest score of each query."""
    if len(positions) < ROUGH_FROM:
        return work_scores(items, positions, queries)
    left = _leaders(items, positions, queries, n)
    return work_scores(items, positions if left is None else left, queries)


def _leaders(items: Items, positions: Array, queries: Tensor, n: int) -> Array | None:
    """Positions of the items of all works that may lead. None where works do not follow on each other, as after items
    were added to them."""
    enough = np.full(len(queries), -np.inf, dtype=np.float32)
    """For each query the n-th largest score that is certain."""
    certain = np.full((len(queries), n), -np.inf, dtype=np.float32)
    kept: list[_Pieces] = []
    last = None
    for piece in _pieces(items, positions, queries):
        if last is not None and piece.works[0] < last:
            return None
        last = piece.works[-1]
        highest = piece.scores + piece.errors
        may: Array = np.any(highest >= enough[:, None], axis=0)
        # The first and the last work of a piece may go on in its neighbours: its score is known after adding them up.
        may[[0, -1]] = True
        chosen = np.flatnonzero(may)
        if len(inside := chosen[1:-1]):
            certain = np.concatenate([certain, (piece.scores - piece.errors)[:, inside]], axis=1)
            certain = np.sort(np.partition(certain, -n, axis=1)[:, -n:], axis=1)
            enough = certain[:, 0]
            leads = np.any(highest[:, inside] >= enough[:, None], axis=0)
            chosen = np.concatenate([chosen[:1], inside[leads], chosen[-1:]])
        kept.append(piece.only(chosen))
    names, places = np.unique(np.concatenate([piece.works for piece in kept]), return_inverse=True)
    sums = np.zeros((len(queries), len(names)))
    of_pieces = np.concatenate([piece.scores + piece.errors for piece in kept], axis=1)
    for of_query, pieces in zip(sums, of_pieces, strict=True):
        np.add.at(of_query, places, pieces)
    leads = np.any(sums >= enough[:, None], axis=0)[places]
    starts, ends = (np.concatenate([getattr(piece, side) for piece in kept])[leads] for side in ("starts", "ends"))
    places = np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])
    left: Array = positions[places]
    return left


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Works (W,) of a stretch of items, ascending: rough scores (R, W), by how much they may be wrong, and which of the
    positions are theirs."""

    works: Array
    scores: Array
    errors: Array
    starts: Array
    ends: Array

    def only(self, chosen: Array) -> _Pieces:
        return _Pieces(*(getattr(self, name)[..., chosen] for name in self.__slots__))


def _pieces(items: Items, positions: Array, queries: Tensor) -> Iterator[_Pieces]:
    rounded = queries.to(torch.bfloat16)
    k = queries.shape[2]
    # |x (q - q')| <= |x| |q - q'| with |x| <= 127 sqrt(k), and the rounding loss of float32 over k products.
    lost = (queries - rounded.float()).norm(dim=2) + k * 2.0**-24 * queries.norm(dim=2)
    missed = (127 * k**0.5 * lost).numpy()
    done, ones = 0, torch.ones(ROUGH_ITEMS, dtype=torch.bfloat16)
    for _, stored, scale, works in items.stored(positions, ROUGH_ITEMS):
        scores = np.zeros((len(queries), len(stored)), dtype=np.float32)
        errors = np.zeros_like(scores)
        for member in range(queries.shape[1]):
            rows = torch.from_numpy(np.ascontiguousarray(stored[:, member]))
            found = torch._weight_int8pack_mm(rounded[:, member].contiguous(), rows, ones[: len(rows)]).float().numpy()
            scores += found * scale[:, member]
            # In place: passes over memory decide the time here.
            np.multiply(np.abs(found, out=found), HALF_ULP, out=found)
            found += missed[:, member, None]
            found *= scale[:, member]
            errors += found
        starts, end = np.arange(done, done + len(stored) + 1), done + len(stored)
        if (further := works[1:] == works[:-1]).any():
            first = np.flatnonzero(np.concatenate([[True], ~further]))
            scores, errors = (np.add.reduceat(values, first, axis=1) for values in (scores, errors))
            works, starts = works[first], np.append(done + first, end)
        yield _Pieces(works, scores, errors, starts[:-1], starts[1:])
        done = end


def _by_work(works: Array, scores: Array) -> tuple[Array, Array]:
    """Distinct works (W,), and the sums (W, rows) of their items' scores. Items of a work follow on each other."""
    if not len(works):
        return works, scores
    starts = np.flatnonzero(np.concatenate([[True], works[1:] != works[:-1]]))
    if len(starts) < len(works):
        works, scores = works[starts], np.add.reduceat(scores, starts, axis=0)
    if (np.diff(works) > 0).all():
        return works, scores
    # A work that was cut by the end of a shard, or added to later.
    names, places = np.unique(works, return_inverse=True)
    total = np.zeros((len(names), scores.shape[1]), dtype=np.float32)
    np.add.at(total, places, scores)
    return names, total
