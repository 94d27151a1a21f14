"""Per-example gradients of a weight matrix (O, I) with the bias as one more column, not yet multiplied out.

A sum of outer products over positions (Linear, convolutions unfolded, a layer called several times, modules that share
one weight), a look-up (Embedding) or the gradient itself (LayerNorm). Source of the outer products: Goodfellow
2015, arXiv 1510.01799. Knows nothing of EK-FAC beyond the two moments and the turns that it needs, and nothing of how a
gradient comes about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

PRODUCT_COLUMNS = 128
"""Of a product with itself, as many at a time."""


class Gradient(Protocol):
    """One layer's gradients of the utilities of B examples, not yet multiplied out."""

    def moments(self) -> tuple[Tensor, Tensor]:
        """Sums of second moments, of inputs (I, I) and of output gradients (O, O). A diagonal one is a vector, and one
        without a wanted eigenbasis is empty."""
        ...

    def rotated(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """(B, O', I') in the eigenbasis, of which some vectors may be left out: inputs (I, I'), outputs (O, O').
        An empty basis is the identity."""
        ...


class Stairs(NamedTuple):
    """The part of a Kronecker basis that a gradient is asked for, in steps. One side is turned by all `vectors` (of it,
    n) and summed over positions with the other as it is. Then each step turns n' of the n by its own vectors (of the
    other side, m')."""

    inputs_first: bool
    vectors: Tensor
    steps: Sequence[tuple[int, Tensor]]


class Outer(NamedTuple):
    """A sum over positions T of outer products: (B, T, I) and (B, T, O)."""

    inputs: Tensor
    gradients: Tensor
    """Zero at positions that are padding."""
    has_bias: bool = False
    """One more input, which is always 1 and never written out: a copy of all inputs would cost a tenth of a turn."""
    real: Tensor | None = None
    """(B, T): which positions are no padding; None where none is known to be any."""

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the second moments of the inputs (I, I) and of the gradients (O, O), as sums."""
        a, s = self.inputs.flatten(0, 1), self.gradients.flatten(0, 1)
        if self.real is not None:
            a, s = a[self.real.flatten()], s[self.real.flatten()]
        a, s = wide(a), wide(s)
        moment = own_product(a).double()
        if self.has_bias:
            total = a.sum(0, dtype=torch.float64)[:, None]
            corner = total.new_full((1, 1), len(a))
            moment = torch.cat([torch.cat([moment, total], 1), torch.cat([total.T, corner], 1)])
        return moment, own_product(s).double()

    def rotated(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        # Each side is turned where that costs least: before positions are summed, or after, the narrower one first.
        a, g, has_bias = self.inputs, self.gradients, self.has_bias
        if _pays_before(a, g, inputs):
            a, inputs, has_bias = self._turned_inputs(inputs), inputs.new_zeros(0), False
        if _pays_before(g, a, outputs):
            g, outputs = g @ outputs.to(g.dtype), outputs.new_zeros(0)
        whole = g.mT @ a
        if has_bias:
            whole = torch.cat([whole, g.sum(1)[..., None]], 2)
        if inputs.numel() and outputs.numel():
            (wide, kept), (tall, left) = inputs.shape, outputs.shape
            if tall * kept * (wide + left) < left * wide * (tall + kept):
                whole, inputs = whole @ inputs.to(whole.dtype), inputs.new_zeros(0)
        if outputs.numel():
            # As one product; outputs.T @ whole would be one for each example, and slower.
            turned = whole.mT.flatten(0, 1) @ outputs.to(whole.dtype)
            whole = turned.view(len(whole), whole.shape[2], -1).mT
        return whole @ inputs.to(whole.dtype) if inputs.numel() else whole

    def in_steps(self, stairs: Stairs) -> list[Tensor]:
        """Parts of it, (B, n' m') each."""
        if stairs.inputs_first:
            turned, other = self._turned_inputs(stairs.vectors), self.gradients
        else:
            turned, other = self.gradients @ stairs.vectors.to(self.gradients.dtype), self.inputs
        # Vectors may be padded with zeros: the rest after the steps.
        counts = [count for count, _ in stairs.steps]
        turned = turned[..., : sum(counts)]
        constant = turned.sum(1) if self.has_bias and not stairs.inputs_first else None
        found, start = [], 0
        for part, (count, vectors) in zip(torch.split(turned.mT @ other, counts, 1), stairs.steps, strict=True):
            vectors = vectors.to(part.dtype)
            of_step = part.flatten(0, 1) @ vectors[: part.shape[2]]
            if constant is not None:
                of_step.addr_(constant[:, start : start + count].flatten(), vectors[-1])
            found.append(of_step.view(len(turned), -1))
            start += count
        return found

    def _turned_inputs(self, vectors: Tensor) -> Tensor:
        """(B, T, I') of the inputs, the constant one among them."""
        vectors = vectors.to(self.inputs.dtype)
        if not self.has_bias:
            return self.inputs @ vectors
        turned = torch.addmm(vectors[-1], self.inputs.flatten(0, 1), vectors[:-1])
        return turned.view(*self.inputs.shape[:2], -1)


def own_product(rows: Tensor) -> Tensor:
    """Multiply rows.T @ rows, (n, k) to (k, k). Little more than one half is computed."""
    width = rows.shape[1]
    if width < 2 * PRODUCT_COLUMNS:
        return rows.T @ rows
    whole = rows.new_empty(width, width)
    for start in range(0, width, PRODUCT_COLUMNS):
        products = rows[:, start : start + PRODUCT_COLUMNS].T @ rows[:, start:]
        whole[start : start + PRODUCT_COLUMNS, start:] = products
        whole[start:, start : start + PRODUCT_COLUMNS] = products.T
    return whole


def _pays_before(side: Tensor, other: Tensor, vectors: Tensor) -> bool:
    """Tell whether (B, T, D) times vectors (D, K), then (B, T, E) over T, costs less than the other order."""
    if not vectors.numel():
        return False
    (places, width), across, kept = side.shape[1:], other.shape[2], vectors.shape[1]
    return places * kept * (width + across) < width * across * (places + kept)


class Lookup(NamedTuple):
    """The same where each input is one row of a table of `size`: ids (B, T), gradients (B, T, O)."""

    ids: Tensor
    gradients: Tensor
    size: int

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the diagonal (I,) of the inputs' second moment, and that of the gradients (O, O), as sums."""
        s = wide(self.gradients.flatten(0, 1))
        # Inputs are unit vectors: their second moment is diagonal, and they are its eigenvectors.
        moved = (self.gradients != 0).any(-1).flatten().double()
        counts = torch.zeros(self.size, dtype=torch.float64, device=s.device)
        return counts.index_add_(0, self.ids.flatten(), moved), (s.T @ s).double()

    def rotated(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        assert inputs.dim() == 1, "The table's rows are their own eigenbasis."
        gradients = self.gradients @ outputs.to(self.gradients.dtype) if outputs.numel() else self.gradients
        # Added up one by one, unlike the sums of a product.
        gradients = wide(gradients)
        batch, _, width = gradients.shape
        whole = gradients.new_zeros(batch, self.size, width)
        whole.scatter_add_(1, self.ids[..., None].expand_as(gradients), gradients)
        return whole.mT


class Whole(NamedTuple):
    """Already (B, O, I): each number is a parameter of its own, and its own eigenvector."""

    gradient: Tensor

    def moments(self) -> tuple[Tensor, Tensor]:
        none = torch.zeros(0, dtype=torch.float64, device=self.gradient.device)
        return none, none

    def rotated(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        assert not inputs.numel()
        assert not outputs.numel()
        return self.gradient


def wide(values: Tensor) -> Tensor:
    """A model may be kept in half precision; sums over its gradients may not."""
    return values.float() if values.dtype in {torch.float16, torch.bfloat16} else values
