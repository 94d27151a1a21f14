"""In which coordinates gradients are looked at: a layer's Kronecker eigenbasis, and what of it is kept and whitened.

Knows which products the kept coordinates need, and nothing of how a basis is fitted or a gradient comes about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attribution.layers import Gradient

STEPS_MAX = 4


@dataclass(frozen=True, slots=True)
class LayerFactors:
    """One layer (I inputs, the bias counted as one more; O outputs): H is about S (x) A in this eigenbasis."""

    inputs: Tensor
    """Eigenvectors of the inputs' second moment, (I, I); empty where they are the coordinates themselves."""
    outputs: Tensor
    """Eigenvectors of the output gradients' second moment, (O, O), or empty likewise."""
    eigenvalues: Tensor
    """Refitted: mean squared gradient in the eigenbasis, (O, I)."""

    def to(self, device: torch.device) -> LayerFactors:
        return LayerFactors(self.inputs.to(device), self.outputs.to(device), self.eigenvalues.to(device))


@dataclass(frozen=True, slots=True)
class Step:
    """Some inputs' eigenvectors that have about as many coordinates kept: how many they are (I'), the outputs'
    eigenvectors that these coordinates need (O, O'), which of (I', O') they are, and which of the layer's."""

    inputs: int
    outputs: Tensor
    cells: Tensor
    places: Tensor


@dataclass(frozen=True)
class LayerBasis:
    """Which eigen-coordinates of a layer are kept (flat positions in (O, I)) and what whitens each of them."""

    factors: LayerFactors
    positions: Tensor
    whitening: Tensor

    def to(self, device: torch.device) -> LayerBasis:
        return LayerBasis(self.factors.to(device), self.positions.to(device), self.whitening.to(device))

    @cached_property
    def needed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvectors of inputs (I, I') and outputs (O, O') without those in which nothing is kept, and where the kept
        coordinates are in (O', I'): in a narrow layer between wide ones that leaves a tenth of the products."""
        wide = self.factors.eigenvalues.shape[1]
        rows, columns = self.positions // wide, self.positions % wide
        inputs, outputs = self.factors.inputs, self.factors.outputs
        if inputs.numel():
            inputs, columns, wide = _used(inputs, columns)
        if outputs.numel():
            outputs, rows, _ = _used(outputs, rows)
        return inputs, outputs, rows * wide + columns

    @cached_property
    def staircase(self) -> tuple[Tensor, list[Step]]:
        """The same coordinates another way: eigenvalues of a Kronecker product fall off along both sides, so that what
        is kept is a staircase, and most of (O', I') is not. Inputs' eigenvectors (I, I') in the order of its steps; no
        steps where one side has no eigenvectors, or all would be one."""
        wide = self.factors.eigenvalues.shape[1]
        rows, columns = self.positions // wide, self.positions % wide
        inputs, outputs = self.factors.inputs, self.factors.outputs
        if not (inputs.numel() and outputs.numel() and len(columns)):
            return inputs, []
        kept = torch.bincount(columns)
        height = (kept.max() / kept[columns]).log2().floor().clamp(max=STEPS_MAX - 1)
        order, steps = [], []
        for one in torch.unique(height):
            places = (height == one).nonzero().flatten()
            used, across = torch.unique(columns[places], return_inverse=True)
            needed, down, tall = _used(outputs, rows[places])
            order.append(used)
            steps.append(Step(len(used), needed, across * tall + down, places))
        return (inputs[:, torch.cat(order)].contiguous(), steps) if len(steps) > 1 else (inputs, [])

    def coordinates(self, gradient: Gradient) -> Tensor:
        """The kept coordinates of B examples, whitened, (B, coordinates)."""
        inputs, steps = self.staircase
        parts = gradient.in_steps(inputs, [(step.inputs, step.outputs) for step in steps]) if steps else None
        if parts is None:
            inputs, outputs, cells = self.needed
            return _taken(gradient.rotated(inputs, outputs).flatten(1), cells) * self.whitening
        found = parts[0].new_empty(len(parts[0]), len(self.positions))
        for part, step in zip(parts, steps, strict=True):
            found.index_copy_(1, step.places, _taken(part, step.cells))
        return found.mul_(self.whitening)


def _used(vectors: Tensor, places: Tensor) -> tuple[Tensor, Tensor, int]:
    """The eigenvectors that are named, each place among them, and how many they are."""
    used, among = torch.unique(places, return_inverse=True)
    return vectors[:, used].contiguous(), among, len(used)


def _taken(rows: Tensor, cells: Tensor) -> Tensor:
    """These columns, in this order. They name each column once: as many are all of them."""
    return rows if cells.shape[0] == rows.shape[1] and _counts_up(cells) else rows.index_select(1, cells)


def _counts_up(numbers: Tensor) -> bool:
    return bool((numbers == torch.arange(len(numbers), device=numbers.device)).all())


@dataclass(frozen=True, slots=True)
class Basis:
    """Whitened coordinates of every layer, in order, then a projection (coordinates, k), orthonormal."""

    layers: Mapping[str, LayerBasis]
    projection: Tensor | None
    energy: float
    """Which part of the expected squared feature the kept coordinates hold."""

    def to(self, device: torch.device) -> Basis:
        layers = {name: layer.to(device) for name, layer in self.layers.items()}
        return Basis(layers, None if self.projection is None else self.projection.to(device), self.energy)
