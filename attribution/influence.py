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

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from attribution.adapters import Adapter, Example, Utilities

Progress = Callable[[str, int, int], None]
OVERSAMPLING = 32
SUBSPACE_ROUNDS = 8


class UnableToTrace(Exception):
    """The module has a layer whose gradients are not handled; the message names it."""

    status = 422
    problem = "unable-to-trace"


@dataclass(frozen=True, slots=True)
class LayerFactors:
    """One Linear layer (I inputs, the bias counted as one more; O outputs): H is about S (x) A in this eigenbasis."""

    inputs: Tensor
    """Eigenvectors of the inputs' second moment, (I, I)."""
    outputs: Tensor
    """Eigenvectors of the output gradients' second moment, (O, O)."""
    eigenvalues: Tensor
    """Refitted: mean squared gradient in the eigenbasis, (O, I)."""


@dataclass(frozen=True, slots=True)
class LayerBasis:
    """Which eigen-coordinates of a layer are kept (flat positions in (O, I)) and what whitens each of them."""

    factors: LayerFactors
    positions: Tensor
    whitening: Tensor


@dataclass(frozen=True, slots=True)
class Basis:
    """Whitened coordinates of every layer, in order, then a projection (coordinates, k), orthonormal."""

    layers: Mapping[str, LayerBasis]
    projection: Tensor | None
    energy: float
    """Which part of the expected squared feature the kept coordinates hold."""


@dataclass(slots=True)
class Energy:
    """Which part of whitened gradients a projection holds: a basis that no longer fits what is added shows here."""

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


def traced_layers(module: nn.Module, left_out: Iterable[str]) -> dict[str, nn.Linear]:
    """The Linear layers by qualified name; refuses, by name, what would silently give a wrong gradient."""
    left = set(left_out)
    unknown = left - {name for name, _ in module.named_modules()}
    if unknown:
        raise UnableToTrace(f"The module has no layer {min(unknown)!r} to leave out.")
    owners: dict[int, list[str]] = {}
    layers: dict[str, nn.Linear] = {}
    for name, layer in module.named_modules(remove_duplicate=False):
        for parameter in layer.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
        if name in left:
            continue
        if isinstance(layer, nn.Linear):
            layers[name] = layer
        elif isinstance(layer, nn.modules.conv._ConvNd):
            raise UnableToTrace(f"Layer {name!r} is a convolution, which is not handled: leave it out by name.")
    for name, layer in layers.items():
        others = [other for other in owners[id(layer.weight)] if other != name]
        if others:
            raise UnableToTrace(f"Layer {name!r} shares its weight with {others[0]!r}: leave it out by name.")
    if not layers:
        raise UnableToTrace("The module has no Linear layer to trace.")
    return layers


class Tracer:
    """While entered, records inputs and output gradients of each traced layer, and computes no parameter gradient.

    Works on a copy of the adapter, so that several checkpoints of one module can be traced side by side.
    """

    def __init__(self, adapter: Adapter, *, state: Mapping[str, Tensor] | None, left_out: Iterable[str] = ()) -> None:
        self.adapter = copy.copy(adapter)
        self.adapter.module = copy.deepcopy(adapter.module)
        if state is not None:
            self.adapter.module.load_state_dict(dict(state))
        self.adapter.module.requires_grad_(False).eval()
        self.layers = traced_layers(self.adapter.module, {*adapter.left_out, *left_out})
        self._handles: list[Any] = []
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}

    def __enter__(self) -> Tracer:
        for name, layer in self.layers.items():
            self._handles.append(layer.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def run(self, utilities: Callable[[Adapter], Utilities]) -> dict[str, tuple[Tensor, Tensor]]:
        """Per layer: inputs with a one appended for the bias (B, T, I) and gradients of the outputs (B, T, O)."""
        self._inputs.clear()
        self._outputs.clear()
        with torch.enable_grad():
            answer = utilities(self.adapter)
            names = list(self._outputs)
            unreached = self.layers.keys() - self._outputs.keys()
            if unreached:
                raise UnableToTrace(f"Layer {min(unreached)!r} takes no part in the utility: leave it out by name.")
            gradients = torch.autograd.grad(answer.values.sum(), [self._outputs[name] for name in names])
        traced = {}
        for name, gradient in zip(names, gradients, strict=True):
            inputs, gradient = _by_position(self._inputs[name]), _by_position(gradient)
            if self.layers[name].bias is not None:
                inputs = torch.cat([inputs, inputs.new_ones(*inputs.shape[:2], 1)], -1)
            if answer.real is not None and inputs.shape[:2] == answer.real.shape:
                inputs = inputs * answer.real[..., None]
            traced[name] = (inputs, gradient)
        self._inputs.clear()
        self._outputs.clear()
        return traced

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name in self._outputs:
                raise UnableToTrace(f"Layer {name!r} is called twice in one pass: leave it out by name.")
            if not output.requires_grad:
                output.requires_grad_()
            self._inputs[name] = inputs[0].detach()
            self._outputs[name] = output

        return record


def fit_factors(
    tracer: Tracer, examples: Sequence[Example], *, batch: int, seed: int, progress: Progress | None = None
) -> dict[str, LayerFactors]:
    """EK-FAC from labels the model draws itself: one pass for the factors' eigenvectors, one for the eigenvalues.

    Both passes are sums over examples, so that a large fit is cut into parts and added up (attribution/building.py).
    """
    bases = eigenbases(moments(tracer, examples, batch=batch, seed=seed, progress=progress))
    squared = squares(tracer, bases, examples, batch=batch, seed=seed, progress=progress)
    return factors_of(bases, squared, count=len(examples))


def moments(
    tracer: Tracer, examples: Sequence[Example], *, batch: int, seed: int, progress: Progress | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """First pass: per layer the sums of the inputs' and the output gradients' second moments, float64."""
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for traced in _passes(tracer, examples, batch, seed, "factors", progress):
        for name, (inputs, gradients) in traced.items():
            a, s = inputs.flatten(0, 1), gradients.flatten(0, 1)
            found = (a.T @ a).double(), (s.T @ s).double()
            previous = sums.get(name)
            sums[name] = found if previous is None else (previous[0] + found[0], previous[1] + found[1])
    return sums


def eigenbases(sums: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Between the passes: per layer the eigenvectors of both moments."""
    return {name: (_eigenvectors(a), _eigenvectors(s)) for name, (a, s) in sums.items()}


def squares(
    tracer: Tracer,
    bases: Mapping[str, tuple[Tensor, Tensor]],
    examples: Sequence[Example],
    *,
    batch: int,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Second pass, over the same examples with the same seed: sums of squared gradients in the eigenbasis, float64."""
    sums: dict[str, Tensor] = {}
    for traced in _passes(tracer, examples, batch, seed, "eigenvalues", progress):
        for name, (inputs, gradients) in traced.items():
            found = _rotate(inputs, gradients, *bases[name]).square().sum(0).double()
            sums[name] = sums[name] + found if name in sums else found
    return sums


def factors_of(
    bases: Mapping[str, tuple[Tensor, Tensor]], squared: Mapping[str, Tensor], *, count: int
) -> dict[str, LayerFactors]:
    """The eigenvalues are means over `count` examples, whatever the number of parts they were summed in."""
    return {name: LayerFactors(*bases[name], (squared[name] / count).float()) for name in bases}


def damping_of(factors: LayerFactors, factor: float) -> float:
    """Lambda of a layer: `factor` times the mean eigenvalue, so that one number serves layers of any scale."""
    return factor * float(factors.eigenvalues.mean())


def state_at(
    current: Mapping[str, Tensor],
    initial: Mapping[str, Tensor],
    factors: Mapping[str, LayerFactors],
    *,
    t: float,
    damping: float,
) -> dict[str, Tensor]:
    """theta_t: where training on a fraction t of the items would have come to; untraced parameters stay at theta*."""
    state = dict(current)
    for name, layer in factors.items():
        weight, bias = f"{name}.weight", f"{name}.bias"
        moved = current[weight] - initial[weight]
        if bias in current:
            moved = torch.cat([moved, (current[bias] - initial[bias])[:, None]], 1)
        lam = damping_of(layer, damping)
        kept = torch.ones_like(layer.eigenvalues) if lam == 0 else lam / (t * layer.eigenvalues + lam)
        back = (1 - t) * layer.outputs @ ((layer.outputs.T @ moved @ layer.inputs) * kept) @ layer.inputs.T
        state[weight] = current[weight] - back[:, : current[weight].shape[1]]
        if bias in current:
            state[bias] = current[bias] - back[:, -1]
    return state


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


def fit_projection(basis: Basis, sample: Tensor, k: int) -> Basis:
    """PCA, not centred, of a sample of whitened features (n, coordinates): the k directions with most energy.

    The sample should hold at least 8 k items; from fewer the basis follows the sample instead of the corpus.
    """
    n, coordinates = sample.shape
    k = min(k, n, coordinates)
    if n <= coordinates:
        values, vectors = _leading_eigenvectors(sample @ sample.T, k)
        real = values > values[0] * 1e-7
        directions = sample.T @ (vectors[:, real] / values[real].sqrt())
    else:
        directions = _leading_eigenvectors(sample.T @ sample, k)[1]
    return Basis(basis.layers, directions.contiguous(), basis.energy)


def features(
    tracer: Tracer,
    basis: Basis,
    examples: Sequence[Example],
    *,
    batch: int,
    progress: Progress | None = None,
    energy: Energy | None = None,
) -> Tensor:
    """Whitened gradients of the examples' utilities, (N, k), or (N, coordinates) before a projection is fitted."""
    width = sum(len(layer.positions) for layer in basis.layers.values())
    out = torch.empty(len(examples), width if basis.projection is None else basis.projection.shape[1])
    # Examples of like length share a batch: padding costs as much as text.
    order = sorted(range(len(examples)), key=lambda position: len(examples[position].tokens))
    for start in range(0, len(order), batch):
        positions = order[start : start + batch]
        chosen = [examples[position] for position in positions]
        traced = tracer.run(lambda adapter, chosen=chosen: adapter.utility(chosen))  # type: ignore[misc]
        parts = []
        for name, layer in basis.layers.items():
            rotated = _rotate(*traced[name], layer.factors.inputs, layer.factors.outputs)
            parts.append(rotated.flatten(1)[:, layer.positions] * layer.whitening)
        whitened = torch.cat(parts, 1)
        out[positions] = projected = whitened if basis.projection is None else whitened @ basis.projection
        if energy is not None:
            energy.add(whitened, projected)
        if progress is not None:
            progress("features", start + len(positions), len(order))
    return out


def _passes(
    tracer: Tracer, examples: Sequence[Example], batch: int, seed: int, stage: str, progress: Progress | None
) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Both passes draw the same labels: the eigenvalues belong to the gradients that made the eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(examples), batch):
        chosen = examples[start : start + batch]
        yield tracer.run(lambda adapter, chosen=chosen: adapter.sampled_utility(chosen, generator))  # type: ignore[misc]
        if progress is not None:
            progress(stage, start + len(chosen), len(examples))


def _leading_eigenvectors(gram: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest eigenvalues, descending, and their vectors (n, k).

    Of a large matrix by subspace iteration (Halko et al. 2011): eight rounds hold more than .99 of what the exact
    vectors hold, in a tenth of the time. A basis need not be better than that.
    """
    block = k + OVERSAMPLING
    if len(gram) <= 4 * block:
        values, vectors = torch.linalg.eigh(gram.double())
        return values.flip(0)[:k].float(), vectors.flip(1)[:, :k].float()
    found = torch.randn(len(gram), block, generator=torch.Generator().manual_seed(0))
    for _ in range(SUBSPACE_ROUNDS):
        found = torch.linalg.qr(gram @ found)[0]
    values, vectors = torch.linalg.eigh(found.T @ gram @ found)
    return values.flip(0)[:k], (found @ vectors).flip(1)[:, :k]


def _eigenvectors(moment: Tensor) -> Tensor:
    vectors: Tensor = torch.linalg.eigh(moment)[1]
    return vectors.float().contiguous()


def _rotate(inputs: Tensor, gradients: Tensor, input_basis: Tensor, output_basis: Tensor) -> Tensor:
    """Per-example weight gradients in the eigenbasis, (B, O, I)."""
    return output_basis.T @ (gradients.mT @ inputs) @ input_basis


def _by_position(values: Tensor) -> Tensor:
    """(B, ..., D) to (B, T, D): a layer without positions has one."""
    return values.reshape(values.shape[0], -1, values.shape[-1])
