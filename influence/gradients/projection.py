"""The cheapest way from a layer's gradients to those of its eigen-coordinates that are kept.

The eigenbasis is that of EK-FAC (George et al. 2018). Eigenvalues of a Kronecker product fall off along both sides. The
kept part of (O, I) is therefore a staircase, and most of the rectangle around it is not kept. Its broad steps are best
taken from one side and its narrow ones from the other. Knows numbers of products, and nothing of how coordinates were
chosen or a gradient comes about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from influence.gradients.matrices import Stairs
from influence.index.shards import Array

STEP_PRODUCTS = 6_000
"""The cost of one more step besides its products, in multiplications for one example."""
COLUMNS = 16
"""Matrices are filled up to a multiple of so many columns: a product with 125 takes longer than one with 128."""
COLUMNS_BESIDES = 8
"""And one with few columns costs as if it had so many more."""


@dataclass(frozen=True, slots=True)
class Route:
    """Stairs that together hold every kept coordinate, and the place of each in their parts laid side by side."""

    stairs: tuple[Stairs, ...]
    cells: Tensor


def cheapest_route(inputs: Tensor, outputs: Tensor, positions: Tensor, places: int) -> Route | None:
    """For gradients that are sums over so many positions, in eigenvectors (I, I) and (O, O) of which the coordinates at
    `positions` of (O, I) are kept. None where no stairs cost less than the rectangle around them.
    """
    wide, tall = len(inputs), len(outputs)
    across, columns = np.unique(positions.cpu().numpy() % wide, return_inverse=True)
    down, rows = np.unique(positions.cpu().numpy() // wide, return_inverse=True)
    kept = np.zeros((len(down), len(across)), dtype=bool)
    kept[rows, columns] = True
    best: tuple[_Part, ...] = ()
    least = _cost_of_whole(len(across), len(down), wide=wide, tall=tall, places=places)
    for inputs_first in (True, False):
        mask, sides = (kept.T, (wide, tall)) if inputs_first else (kept, (tall, wide))
        counts = mask.sum(1)
        # Broad are its eigenvectors that have more coordinates than a half, a quarter, ... of the broadest.
        cuts = {int(np.count_nonzero(counts > counts.max() >> halved)): halved for halved in range(1, 32)}
        for halved in cuts.values():
            is_broad = counts > counts.max() >> halved
            broad, narrow = mask & is_broad[:, None], mask.T & ~is_broad
            if _cost_at_least(broad, *sides, places) + _cost_at_least(narrow, *sides[::-1], places) >= least:
                continue
            parts = (_Part(broad, *sides, inputs_first), _Part(narrow, *sides[::-1], not inputs_first))
            cost = sum(part.cost(places) for part in parts)
            if cost < least:
                best, least = parts, cost
    if not best:
        return None
    cells = np.zeros(kept.shape, dtype=np.int64)
    stairs, before = [], 0
    for part in best:
        if part.steps:
            before = part.number(cells.T if part.inputs_first else cells, before)
            named = ((inputs, across), (outputs, down))
            stairs.append(part.stairs(*(named if part.inputs_first else named[::-1])))
    return Route(tuple(stairs), torch.from_numpy(cells[rows, columns]).to(positions.device))


class _Part:
    """Stairs for the coordinates of a mask (D', E'): D of the side that is turned first, E of the other."""

    def __init__(self, mask: Array, height: int, width: int, inputs_first: bool) -> None:
        self.mask, self.height, self.width, self.inputs_first = mask, height, width, inputs_first
        self.steps: list[tuple[list[int], Array, int]] = []
        """Eigenvectors of the side that is turned first; which of the other's they need, (E',), and how many."""
        counts = mask.sum(1)
        for one in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist():
            if self.steps:
                used, needed, number = self.steps[-1]
                both = needed | mask[one]
                together = int(np.count_nonzero(both))
                more = (len(used) + 1) * _cost(together) - len(used) * _cost(number) - _cost(int(counts[one]))
                if more * width <= STEP_PRODUCTS:
                    self.steps[-1] = ([*used, one], both, together)
                    continue
            self.steps.append(([one], mask[one], int(counts[one])))

    def cost(self, places: int) -> int:
        """Multiplications for one example."""
        if not self.steps:
            return 0
        turned = sum(len(used) for used, _, _ in self.steps)
        after = sum(len(used) * self.width * _cost(number) + STEP_PRODUCTS for used, _, number in self.steps)
        return places * (self.height * _cost(turned) + turned * self.width) + after

    def stairs(self, first: tuple[Tensor, Array], other: tuple[Tensor, Array]) -> Stairs:
        """Build the stairs from the eigenvectors of both sides, and from those that the mask is about."""
        used = np.concatenate([used for used, _, _ in self.steps])
        steps = [(len(used), _columns(*other, np.flatnonzero(needed))) for used, needed, _ in self.steps]
        return Stairs(self.inputs_first, _columns(*first, used), steps)

    def number(self, cells: Array, before: int) -> int:
        """Write the place of each coordinate in the steps' results laid side by side, after `before` others."""
        for used, needed, number in self.steps:
            columns, width = np.flatnonzero(needed), _filled(number)
            there = np.ix_(np.asarray(used), columns)
            numbered = before + np.arange(len(used))[:, None] * width + np.arange(number)
            cells[there] = np.where(self.mask[there], numbered, cells[there])
            before += len(used) * width
        return before


def _cost_at_least(mask: Array, height: int, width: int, places: int) -> int:
    """Cost of stairs without a step that needs a coordinate outside the kept ones."""
    turned = int(np.count_nonzero(mask.any(1)))
    return places * turned * (height + width) + int(np.count_nonzero(mask)) * width


def _cost_of_whole(across: int, left: int, *, wide: int, tall: int, places: int) -> int:
    """Cost of the rectangle, the sides turned before or after the sum over positions, in the cheaper order."""
    return min(
        places * (wide * across + tall * left + across * left),
        places * (wide * across + tall * across) + tall * across * left,
        places * (tall * left + wide * left) + wide * across * left,
        places * wide * tall + min(tall * across * (wide + left), left * wide * (tall + across)),
    )


def _columns(vectors: Tensor, named: Array, chosen: Array) -> Tensor:
    """These eigenvectors of those that are named, and empty ones after them."""
    columns = vectors.new_zeros(len(vectors), _filled(len(chosen)))
    columns[:, : len(chosen)] = vectors[:, torch.from_numpy(named[chosen]).to(vectors.device)]
    return columns


def _cost(columns: int) -> int:
    return _filled(columns) + COLUMNS_BESIDES


def _filled(columns: int) -> int:
    return -(-columns // COLUMNS) * COLUMNS
