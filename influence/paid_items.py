"""Rule 2 of shares: each training item is judged by itself, and a holder gets the sum over its items.

    pay(b, i) = max(x(b, i) - x_(K+1)(b), 0) * f(i)          f(i) = max(0, 1 - D(i) / U(i))

x(b, i) is the specific score of item i for generation b, x_(K+1)(b) the largest score but K, never below 0. U and D are
the item's mean tails over the model's own generations, beyond one spread: an item that harms as often as it helps is
paid nothing. Pay depends on no account, so that no arrangement of accounts, links or merges changes it: a value of each
item, summed, as semivalues are (Dubey et al. 1981). Of copies in a duplicate cluster the best counts, once, for all the
cluster's holders. Knows nothing of files, models or Django.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from influence.index.sums import NO_CLUSTER, owners_of_clusters, ownership
from influence.shares import ItemShares, UnableToShare, apportion_items

Array = npt.NDArray[Any]
Blocks = Iterable[tuple[Array, Array]]
"""Positions (n,) and scores (B, n) of items, block by block."""

ITEMS_PAID = 100
"""K, where no evaluation has chosen another."""
ITEMS_PAID_CHOICES = (20, 50, 100, 200)
OWN_GENERATIONS_MIN = 100
"""Tails of fewer own generations are chance: every f is then 1."""
PENDING_MAX = 4
"""Candidates are reduced when there are so many times more than can lead."""


class Itemised(Protocol):
    """An opened index that scores its items one by one."""

    @property
    def counted(self) -> Counted: ...

    @property
    def net_tails(self) -> Array | None:
        """(rows,): f of each row; None where it is 1 for want of own generations."""
        ...

    def item_scores(self, features: Any) -> Iterator[tuple[Array, Array]]:
        """Positions (n,) and specific scores (B, n) of all items that count, a bounded number at a time."""
        ...


class Counted:
    """The items of an index as the rule counts them, from the labels (3, rows) of all rows and the rows that count."""

    def __init__(self, labels: Array, alive: Array) -> None:
        self.labels = labels
        self.alive = alive
        self.owners = owners_of_clusters(labels[:, alive])
        self.units = _units(labels, alive)
        self.count = len(alive) if self.units is None else len(np.unique(self.units[alive]))


def _units(labels: Array, alive: Array) -> Array | None:
    """(rows,): the same number for copies. None where no work has a copy.

    Copies are the items at the same place of the works of a cluster.
    """
    clustered = alive[labels[2, alive] != NO_CLUSTER]
    if not len(clustered):
        return None
    order = clustered[np.argsort(labels[1, clustered], kind="stable")]
    works = labels[1, order]
    starts = np.flatnonzero(np.concatenate([[True], works[1:] != works[:-1]]))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    _, first, same = np.unique(np.stack([labels[2, order], place]), axis=1, return_index=True, return_inverse=True)
    units = np.arange(labels.shape[1])
    units[order] = order[first[same.reshape(-1)]]
    return units


@dataclass(frozen=True, slots=True)
class PaidItems:
    """The paid items of one generation, the largest excess first."""

    threshold: float
    """x_(K+1), in nats."""
    counted: int
    """Items that were judged, copies once."""
    works: Array
    """(n,) of the paid items: the work of each."""
    excess: Array
    """(n,) float64: score less threshold, in nats."""
    factors: Array
    """(n,) float64: f of each."""
    rows: Array
    """(m,): which of the n items, for each pair of an item and one of its holders."""
    holders: Array
    """(m,)"""

    @property
    def pay(self) -> Array:
        return np.asarray(self.excess * self.factors)

    def shares(self, *, key: str) -> ItemShares:
        """Divide by holder, in integers; `key` decides between equal remainders."""
        return apportion_items(pay=self.pay, rows=self.rows, holders=self.holders, key=key)


def paid_items(index: Itemised, features: Any, *, k: int) -> list[PaidItems]:
    """Judge every item of an index for each generation. Raises UnableToShare for a score that is not finite."""
    return Leaders(index, features, k).paid(k)


class Leaders:
    """The items that can be paid for some generations, at any K up to `most`: all items are scored once."""

    def __init__(self, index: Itemised, features: Any, most: int) -> None:
        self._index = index
        self._most = most
        self._places, self._positions, self._scores = leading(
            index.item_scores(features), most + 1, generations=len_of(features), units=index.counted.units
        )
        self._starts = np.searchsorted(self._places, np.arange(len_of(features) + 1))

    def paid(self, k: int) -> list[PaidItems]:
        """Return the paid items of each generation."""
        assert 1 <= k <= self._most
        return [self._of(slice(*self._starts[row : row + 2]), k) for row in range(len(self._starts) - 1)]

    def _of(self, part: slice, k: int) -> PaidItems:
        scores = self._scores[part].astype(np.float64)
        # Fewer items with a positive score than K + 1: all of each counts.
        threshold = float(scores[k]) if len(scores) > k else 0.0
        above = np.flatnonzero(scores[:k] > threshold)
        positions = self._positions[part][above]
        counted, tails = self._index.counted, self._index.net_tails
        labels = counted.labels[:, positions]
        factors = np.ones(len(positions)) if tails is None else tails[positions].astype(np.float64)
        rows, holders, _ = ownership(labels, counted.owners)
        return PaidItems(
            threshold, counted.count, labels[1], scores[above] - threshold, factors, rows=rows, holders=holders
        )


def len_of(features: Any) -> int:
    """Number of generations; features may be an array, a sparse matrix or several of them."""
    shape = getattr(features, "shape", None)
    return int(shape[0]) if shape else len(features)


def leading(blocks: Blocks, n: int, *, generations: int, units: Array | None = None) -> tuple[Array, Array, Array]:
    """Return the n items with the largest positive score of each generation: (generation, position, score), by
    generation and then by score. Copies (`units`) count once, with the best score.

    Memory does not grow with the number of items. Raises UnableToShare for a score that is not finite.
    """
    least = np.zeros(generations, dtype=np.float32)
    kept = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    pending, waiting = [kept], 0
    for positions, scores in blocks:
        if not np.isfinite(scores.sum(dtype=np.float64)):
            raise UnableToShare("The score of an item is not a finite number.")
        places, columns = np.nonzero(scores > least[:, None])
        if not len(places):
            continue
        pending.append((places, positions[columns], scores[places, columns]))
        waiting += len(places)
        if waiting > PENDING_MAX * n * generations:
            kept, least = _leaders(pending, n, least, units)
            pending, waiting = [kept], 0
    return _leaders(pending, n, least, units)[0]


def _leaders(
    pending: Sequence[tuple[Array, Array, Array]], n: int, least: Array, units: Array | None
) -> tuple[tuple[Array, Array, Array], Array]:
    """The leaders among candidates, and for each generation the score that a further item must exceed."""
    places, positions, scores = (np.concatenate([part[number] for part in pending]) for number in range(3))
    if units is not None:
        copies = units[positions]
        order = np.lexsort((positions, -scores, copies, places))
        best = np.ones(len(order), dtype=bool)
        best[1:] = (places[order][1:] != places[order][:-1]) | (copies[order][1:] != copies[order][:-1])
        places, positions, scores = (values[order[best]] for values in (places, positions, scores))
    order = np.lexsort((positions, -scores, places))
    places, positions, scores = (values[order] for values in (places, positions, scores))
    rank = np.arange(len(places)) - np.searchsorted(places, places)
    least = least.copy()
    last = rank == n - 1
    least[places[last]] = scores[last]
    among = rank < n
    return (places[among], positions[among], scores[among]), least


# --- net tails ------------------------------------------------------------------------------------------------------
def spreads(blocks: Callable[[], Blocks], *, generations: int) -> Array:
    """(G,) float64: the standard deviation of whole scores over items, for each own generation."""
    count, total, squares = 0, np.zeros(generations), np.zeros(generations)
    for positions, scores in blocks():
        wide = scores.astype(np.float64)
        count += len(positions)
        total += wide.sum(1)
        squares += (wide**2).sum(1)
    mean = total / max(count, 1)
    return np.asarray(np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0.0)))


def net_tails(blocks: Blocks, spread: Array) -> Iterator[tuple[Array, Array]]:
    """Positions and f, block by block, from whole scores (G, n) of items for own generations with these spreads."""
    for positions, scores in blocks:
        beyond = spread[:, None].astype(np.float32)
        up = np.maximum(scores - beyond, 0).mean(0, dtype=np.float64)
        down = np.maximum(-scores - beyond, 0).mean(0, dtype=np.float64)
        # An item without any tail was never tried: nothing speaks against it.
        harm = np.divide(down, up, out=np.where(down > 0, np.inf, 0.0), where=up > 0)
        yield positions, np.maximum(0.0, 1.0 - harm).astype(np.float32)
