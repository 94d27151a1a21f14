"""Coordinates of gradients: a layer's Kronecker eigenbasis, its kept eigen-coordinates and their whitening.

The eigenbasis is that of EK-FAC (George et al. 2018). Knows nothing of how a basis is fitted or a gradient comes about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from influence.gradients.matrices import Gradient, Outer
from influence.gradients.projection import Route, cheapest_route


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


@dataclass(frozen=True)
class LayerBasis:
    """The kept eigen-coordinates of a layer (flat positions in (O, I)) and the whitening factor of each."""

    factors: LayerFactors
    positions: Tensor
    whitening: Tensor
    precision: torch.dtype = torch.float32
    """The inputs of products; they are added up in float32 at least."""

    def to(self, device: torch.device, precision: torch.dtype) -> LayerBasis:
        return LayerBasis(self.factors.to(device), self.positions.to(device), self.whitening.to(device), precision)

    @cached_property
    def needed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvectors of inputs (I, I') and outputs (O, O') with a kept coordinate, and the places (n,) of the kept
        coordinates in (O', I'). In a narrow layer between wide ones that leaves a tenth of the products."""
        wide = self.factors.eigenvalues.shape[1]
        rows, columns = self.positions // wide, self.positions % wide
        inputs, outputs = self.factors.inputs, self.factors.outputs
        if inputs.numel():
            inputs, columns, wide = _used(inputs, columns)
        if outputs.numel():
            outputs, rows, _ = _used(outputs, rows)
        return inputs.to(self.precision), outputs.to(self.precision), rows * wide + columns

    def route(self, places: int) -> Route | None:
        """Find a cheaper way to the same coordinates of a sum over about so many positions; None where there is no such
        way."""
        # Lengths vary, and the cheapest way for one is nearly the cheapest for another.
        about = 1 << (places - 1).bit_length()
        if about not in self._routes:
            inputs, outputs = (side.to(self.precision) for side in (self.factors.inputs, self.factors.outputs))
            has_sides = inputs.numel() and outputs.numel() and len(self.positions)
            self._routes[about] = cheapest_route(inputs, outputs, self.positions, about) if has_sides else None
        return self._routes[about]

    @cached_property
    def _routes(self) -> dict[int, Route | None]:
        return {}

    def coordinates(self, gradient: Gradient) -> Tensor:
        """The kept coordinates of B examples, whitened, (B, coordinates)."""
        if isinstance(gradient, Outer):
            route = self.route(gradient.inputs.shape[1])
            if route is not None:
                parts = [part for stairs in route.stairs for part in gradient.in_steps(stairs)]
                return torch.cat(parts, 1).index_select(1, route.cells) * self.whitening
        inputs, outputs, cells = self.needed
        return _taken(gradient.rotated(inputs, outputs).flatten(1), cells) * self.whitening


def _used(vectors: Tensor, places: Tensor) -> tuple[Tensor, Tensor, int]:
    """The eigenvectors that are named, each place among them, and how many they are."""
    used, among = torch.unique(places, return_inverse=True)
    return vectors[:, used].contiguous(), among, len(used)


def _taken(rows: Tensor, cells: Tensor) -> Tensor:
    """These columns, in this order. They name each column once: as many are all of them."""
    return rows if cells.shape[0] == rows.shape[1] and _counts_up(cells) else rows.index_select(1, cells)


def _counts_up(numbers: Tensor) -> bool:
    return bool((numbers == torch.arange(len(numbers), device=numbers.device)).all())


@dataclass(frozen=True)
class Basis:
    """Whitened coordinates of every layer, in order, then a projection (coordinates, k), orthonormal."""

    layers: Mapping[str, LayerBasis]
    projection: Tensor | None
    energy: float
    """Which part of the expected squared feature the kept coordinates hold."""
    precision: torch.dtype = torch.float32

    def to(self, device: torch.device, precision: torch.dtype) -> Basis:
        layers = {name: layer.to(device, precision) for name, layer in self.layers.items()}
        projection = None if self.projection is None else self.projection.to(device)
        return Basis(layers, projection, self.energy, precision)

    def projected(self, whitened: Tensor) -> Tensor:
        """Return whitened coordinates after the projection, (B, k); unchanged before a projection is fitted."""
        if self._factor is None:
            return whitened
        return (whitened.to(self.precision) @ self._factor).float()

    @cached_property
    def _factor(self) -> Tensor | None:
        return None if self.projection is None else self.projection.to(self.precision)
