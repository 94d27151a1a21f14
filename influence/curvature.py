"""Gradients to features: EK-FAC at the midpoint model, such that an inner product of two features is an influence.

The value of item i for generation z is the integrand of Owen's form of the Shapley value at inclusion rate t,

    grad u_z(theta_t)^T (t H + lambda)^-1 grad u_i(theta_t),
    theta_t = theta* - (1 - t) lambda (t H + lambda)^-1 (theta* - theta_0),

with H the Gauss-Newton matrix in EK-FAC form (George et al. 2018; Grosse et al. 2023): in the Kronecker eigenbasis of
each layer every inverse is a division, and its square root, applied to both sides, whitens. Utilities here are
log-likelihoods, hence no minus sign. A two-stage basis (the eigen-coordinates with most energy, then PCA) keeps
features small. Knows nothing of contributors, files or Django.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from influence.adapters import Example
from influence.bases import Basis, LayerBasis, LayerFactors
from influence.gradients.devices import on_cpu
from influence.gradients.layers import TracedLayer, UnableToTrace
from influence.gradients.matrices import Gradient, own_product, wide
from influence.gradients.tracing import Tracer

Progress = Callable[[str, int, int], None]
OVERSAMPLING = 32
SUBSPACE_ROUNDS = 8
ROUNDING = 1e-6
"""Eigenvalues of a matrix of float32 that are less than so much of the largest are its rounding."""
WHITENED_CELLS = 2**22
"""As many coordinates, of several batches, are projected at a time."""


@dataclass(slots=True)
class Energy:
    """The part of whitened gradients that a projection holds. It falls when the basis no longer fits new items."""

    whole: float = 0.0
    held: float = 0.0

    def add(self, whitened: Tensor, projected: Tensor) -> None:
        self.whole += _squared_norm(whitened)
        self.held += _squared_norm(projected)

    @property
    def part(self) -> float:
        return self.held / self.whole if self.whole > 0 else 1.0


def _squared_norm(rows: Tensor) -> float:
    # By row: a sample fills hundreds of megabytes, and must not be copied for the sake of one number.
    return float(torch.linalg.vector_norm(rows, dim=1).double().square().sum())


def fit_factors(
    tracer: Tracer, examples: Sequence[Example], *, batch: int, seed: int, progress: Progress | None = None
) -> dict[str, LayerFactors]:
    """EK-FAC from labels the model draws itself: one pass for the factors' eigenvectors, one for the eigenvalues.

    Both passes are sums over examples, so that a large fit is cut into parts and added up (influence/index/build.py).
    """
    bases = eigenbases(moments(tracer, examples, batch=batch, seed=seed, progress=progress))
    squared = squares(tracer, bases, examples, batch=batch, seed=seed, progress=progress)
    return factors_of(bases, squared, count=len(examples))


def moments(
    tracer: Tracer,
    examples: Sequence[Example],
    *,
    batch: int,
    seed: int,
    precision: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """First pass: per layer the sums of the inputs' (I, I) and the output gradients' (O, O) second moments, float64.
    At any precision of the model's passes, these products are made in float32 or better."""
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for traced in _passes(tracer, examples, batch, seed, precision, "factors", progress):
        for name, gradient in traced.items():
            found = gradient.moments()
            previous = sums.get(name)
            sums[name] = found if previous is None else (previous[0] + found[0], previous[1] + found[1])
    moments_on_cpu: dict[str, tuple[Tensor, Tensor]] = on_cpu(sums)
    return moments_on_cpu


def eigenbases(sums: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Compute, between the passes, the eigenvectors (I, I) and (O, O) of each layer; empty for a diagonal moment."""
    return {name: (_eigenvectors(a), _eigenvectors(s)) for name, (a, s) in sums.items()}


def squares(
    tracer: Tracer,
    bases: Mapping[str, tuple[Tensor, Tensor]],
    examples: Sequence[Example],
    *,
    batch: int,
    seed: int,
    precision: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Second pass, same examples and seed: per layer sums (O, I) of squared gradients in the eigenbasis, float64."""
    sums: dict[str, Tensor] = {}
    here = {name: tuple(side.to(tracer.device, precision) for side in pair) for name, pair in bases.items()}
    for traced in _passes(tracer, examples, batch, seed, precision, "eigenvalues", progress):
        for name, gradient in traced.items():
            found = wide(gradient.rotated(*here[name])).square().sum(0).double()
            sums[name] = sums[name] + found if name in sums else found
    squares_on_cpu: dict[str, Tensor] = on_cpu(sums)
    return squares_on_cpu


def factors_of(
    bases: Mapping[str, tuple[Tensor, Tensor]], squared: Mapping[str, Tensor], *, count: int
) -> dict[str, LayerFactors]:
    """Compute each layer's factors. Eigenvalues (O, I) are means over `count` examples, for any number of parts.

    Raises UnableToTrace, by name, for layers with a gradient of zero for every one of the examples.
    """
    unused = sorted(name for name, found in squared.items() if not bool(found.any()))
    if unused:
        others = f" (and {len(unused) - 1} more: {', '.join(unused[1:4])})" if unused[1:] else ""
        raise UnableToTrace(
            f"Layer {unused[0]!r}{others} takes no part in the utility of any of {count} items: leave it out by name."
        )
    return {name: LayerFactors(*bases[name], (squared[name] / count).float()) for name in bases}


def damping_of(factors: LayerFactors, factor: float) -> float:
    """Lambda of a layer: `factor` times the mean eigenvalue, so that one number serves layers of any scale."""
    return factor * float(factors.eigenvalues.mean())


def state_at(
    current: Mapping[str, Tensor],
    initial: Mapping[str, Tensor],
    factors: Mapping[str, LayerFactors],
    *,
    layers: Mapping[str, TracedLayer],
    t: float,
    damping: float,
) -> dict[str, Tensor]:
    """theta_t: where training on a fraction t of the items would have come to; untraced parameters stay at theta*."""
    state = dict(current)
    for name, layer in factors.items():
        now = wide(layers[name].matrix(current))
        moved = _into(now - wide(layers[name].matrix(initial)), layer)
        lam = damping_of(layer, damping)
        kept = torch.ones_like(layer.eigenvalues) if lam == 0 else lam / (t * layer.eigenvalues + lam)
        layers[name].write(now - (1 - t) * _back(moved * kept, layer), state)
    return state


def _into(matrix: Tensor, layer: LayerFactors) -> Tensor:
    """Parameters (O, I) in the eigenbasis."""
    matrix = layer.outputs.T.to(matrix.dtype) @ matrix if layer.outputs.numel() else matrix
    return matrix @ layer.inputs.to(matrix.dtype) if layer.inputs.numel() else matrix


def _back(matrix: Tensor, layer: LayerFactors) -> Tensor:
    matrix = layer.outputs.to(matrix.dtype) @ matrix if layer.outputs.numel() else matrix
    return matrix @ layer.inputs.T.to(matrix.dtype) if layer.inputs.numel() else matrix


def choose_coordinates(factors: Mapping[str, LayerFactors], *, t: float, damping: float, coordinates: int) -> Basis:
    """Keep the eigen-coordinates in which a whitened training gradient is expected to be largest."""
    whitening, energy = [], []
    for layer in factors.values():
        lam = damping_of(layer, damping)
        # A layer no training example moves has lambda 0 and nothing to divide by: it carries no influence.
        inverse = 1 / (t * layer.eigenvalues + lam) if lam > 0 else torch.zeros_like(layer.eigenvalues)
        whitening.append(inverse.sqrt().flatten())
        energy.append((layer.eigenvalues * inverse).flatten())
    everything = torch.cat(energy)
    kept = torch.zeros_like(everything, dtype=torch.bool)
    kept[everything.topk(min(coordinates, len(everything))).indices] = True
    layers = {}
    masks = torch.split(kept, [len(part) for part in energy])
    for (name, layer), scale, mask in zip(factors.items(), whitening, masks, strict=True):
        positions = mask.nonzero().flatten()
        layers[name] = LayerBasis(layer, positions, scale[positions])
    return Basis(layers, None, float(everything[kept].sum() / everything.sum().clamp(min=1e-30)))


def fit_projection(basis: Basis, sample: Tensor, k: int) -> tuple[Basis, Tensor]:
    """PCA, not centred, of a sample of whitened features (n, coordinates): the k directions with most energy. With the
    basis comes the sample in it, (n, k).

    The sample should hold at least 8 k items; from fewer the basis follows the sample instead of the corpus.
    """
    n, coordinates = sample.shape
    k = min(k, n, coordinates)
    if n <= coordinates:
        gram = own_product(sample.T)
        values, vectors = _leading_eigenvectors(gram, k)
        real = values > values[0] * ROUNDING
        scaled = vectors[:, real] / values[real].sqrt()
        directions, projected = sample.T @ scaled, gram @ scaled
    else:
        directions = _leading_eigenvectors(sample.T @ sample, k)[1]
        projected = sample @ directions
    return replace(basis, projection=directions.contiguous()), projected


def features(
    tracer: Tracer,
    basis: Basis,
    examples: Sequence[Example],
    *,
    batch: int,
    progress: Progress | None = None,
    energy: Energy | None = None,
) -> Tensor:
    """Whitened gradients of the examples' utilities, (N, k), or (N, coordinates) before a projection is fitted.

    The basis is where the tracer is; the features come back to the CPU.
    """
    widths = [len(layer.positions) for layer in basis.layers.values()]
    out = torch.empty(len(examples), sum(widths) if basis.projection is None else basis.projection.shape[1])
    # A projection is read once for several batches of few coordinates: it is larger than any cache.
    together = batch * max(1, WHITENED_CELLS // max(1, sum(widths) * batch))
    rows = torch.empty(min(together, len(examples)), sum(widths), device=tracer.device)
    # Examples of like length share a batch: padding costs as much as text.
    order = sorted(range(len(examples)), key=lambda position: len(examples[position].tokens))
    for first in range(0, len(order), together):
        positions = order[first : first + together]
        whitened = rows[: len(positions)]
        for start in range(0, len(positions), batch):
            chosen = [examples[position] for position in positions[start : start + batch]]
            traced = tracer.run(
                lambda adapter, chosen=chosen: adapter.utility(chosen),  # type: ignore[misc]
                precision=basis.precision,
            )
            of_batch = torch.split(whitened[start : start + batch], widths, 1)
            for (name, layer), of_layer in zip(basis.layers.items(), of_batch, strict=True):
                if len(layer.positions):
                    of_layer.copy_(layer.coordinates(traced[name]))
            if progress is not None:
                progress("features", first + start + len(chosen), len(order))
        projected = basis.projected(whitened)
        out[positions] = projected.cpu()
        if energy is not None:
            energy.add(whitened, projected)
    return out


def _passes(
    tracer: Tracer,
    examples: Sequence[Example],
    batch: int,
    seed: int,
    precision: torch.dtype,
    stage: str,
    progress: Progress | None,
) -> Iterator[dict[str, Gradient]]:
    """Both passes draw the same labels: the eigenvalues belong to the gradients that made the eigenvectors."""
    generator = torch.Generator(tracer.device).manual_seed(seed)
    for start in range(0, len(examples), batch):
        chosen = examples[start : start + batch]
        yield tracer.run(
            lambda adapter, chosen=chosen: adapter.sampled_utility(chosen, generator),  # type: ignore[misc]
            precision=precision,
        )
        if progress is not None:
            progress(stage, start + len(chosen), len(examples))


def _leading_eigenvectors(gram: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest eigenvalues, descending, and their vectors (n, k).

    A large matrix is solved by subspace iteration (Halko et al. 2011). Eight rounds hold more than .99 of the energy
    that the exact vectors hold, in a tenth of the time. A basis need not be better than that.
    """
    block = k + OVERSAMPLING
    if len(gram) <= 4 * block:
        values, vectors = torch.linalg.eigh(gram)
        return values.flip(0)[:k], vectors.flip(1)[:, :k]
    found = torch.randn(len(gram), block, generator=torch.Generator().manual_seed(0))
    for _ in range(SUBSPACE_ROUNDS):
        found = torch.linalg.qr(gram @ found)[0]
    values, vectors = torch.linalg.eigh(found.T @ gram @ found)
    return values.flip(0)[:k], (found @ vectors).flip(1)[:, :k]


def _eigenvectors(moment: Tensor) -> Tensor:
    if moment.dim() == 1:
        # Diagonal already, or not wanted.
        return torch.zeros(0)
    vectors: Tensor = torch.linalg.eigh(moment)[1]
    return vectors.float().contiguous()
