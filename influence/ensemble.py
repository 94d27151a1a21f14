"""The ensemble of an index: for each checkpoint the model at theta_t, differentiated, and the basis of its features.

Decides which configuration leads to which numbers. Lays quadrature nodes side by side so that one inner product is
their weighted sum. Keeps the tensors that embed a later query as the items were embedded. Knows nothing of holders,
shards or directories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from influence import bases, curvature
from influence.adapters import Example, LoadedModel
from influence.curvature import Energy
from influence.gradients import probe as probing
from influence.gradients import tracing
from influence.gradients.devices import find_device, on_cpu
from influence.index.config import IndexConfig

FACTOR_PARTS = ("inputs", "outputs", "eigenvalues")
PLAIN_INFLUENCE = ((1.0, 1.0),)
"""Without theta_0 there is no path to walk: one node, at the checkpoint itself."""
Progress = Callable[[str, int, int], None]
Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Node:
    """One quadrature node of one ensemble member: a basis, the square root of its weight, the model at theta_t."""

    basis: bases.Basis
    root_weight: float
    tracer: tracing.Tracer


def probe(model: LoadedModel, config: IndexConfig, examples: Sequence[Example]) -> None:
    """Hold the traced gradients of a few examples against plain autograd's, at the last checkpoint.

    Raises UnableToTrace, by the layer's name (influence/gradients/probe.py).
    """
    probing.probe(_tracer(model, model.checkpoints[-1], config), examples)


def first_not_finite(
    model: LoadedModel, state: Mapping[str, Tensor], config: IndexConfig, examples: Sequence[Example]
) -> tuple[int, str] | None:
    """Find the first example with a gradient that is not finite, and the layer; None where each by itself is finite."""
    none = torch.zeros(0)
    with _tracer(model, state, config) as tracer:
        for place, example in enumerate(examples):
            traced = tracer.run(lambda adapter, example=example: adapter.utility([example]))  # type: ignore[misc]
            for name, gradient in traced.items():
                if not bool(gradient.rotated(none, none).isfinite().all()):
                    return place, name
    return None


# --- the steps of a fit: each is a function of files that earlier steps left, and leaves tensors by name ------------
def moments(
    model: LoadedModel,
    state: Mapping[str, Tensor],
    config: IndexConfig,
    examples: Sequence[Example],
    *,
    seed: int,
    progress: Progress | None = None,
) -> Tensors:
    """First pass over one part of the items that the factors are fitted on. Parts are added up."""
    with _tracer(model, state, config) as tracer:
        found = curvature.moments(
            tracer, examples, batch=config.batch, seed=seed, precision=precision_of(config), progress=progress
        )
    return {f"{name}/{place}": moment for name, pair in found.items() for place, moment in enumerate(pair)}


def eigenvectors(sums: Mapping[str, Tensor]) -> Tensors:
    """Between the passes, of the sums over all parts."""
    names = dict.fromkeys(name.rpartition("/")[0] for name in sums)
    bases = curvature.eigenbases({name: (sums[f"{name}/0"], sums[f"{name}/1"]) for name in names})
    return {f"{name}/{place}": vectors for name, pair in bases.items() for place, vectors in enumerate(pair)}


def squares(
    model: LoadedModel,
    state: Mapping[str, Tensor],
    config: IndexConfig,
    examples: Sequence[Example],
    vectors: Mapping[str, Tensor],
    *,
    seed: int,
    progress: Progress | None = None,
) -> Tensors:
    """Second pass over the same part with the same seed. Parts are added up."""
    bases = {name.rpartition("/")[0]: (vectors[name], vectors[f"{name[:-1]}1"]) for name in vectors if name[-1] == "0"}
    with _tracer(model, state, config) as tracer:
        return curvature.squares(
            tracer, bases, examples, batch=config.batch, seed=seed, precision=precision_of(config), progress=progress
        )


def factors(vectors: Mapping[str, Tensor], squared: Mapping[str, Tensor], *, count: int) -> Tensors:
    """EK-FAC of one checkpoint (George et al. 2018), from the sums over all parts."""
    bases = {name: (vectors[f"{name}/0"], vectors[f"{name}/1"]) for name in squared}
    found = curvature.factors_of(bases, squared, count=count)
    return {f"{name}/{part}": getattr(layer, part) for name, layer in found.items() for part in FACTOR_PARTS}


def whitened(
    model: LoadedModel,
    state: Mapping[str, Tensor],
    config: IndexConfig,
    fitted: Mapping[str, Tensor],
    examples: Sequence[Example],
    *,
    progress: Progress | None = None,
) -> Tensor:
    """Whitened gradients at each node (nodes, n, coordinates), of which the PCA is made."""
    found = []
    for node in _nodes(model, state, config, _factors_from(fitted)):
        with node.tracer:
            found.append(curvature.features(node.tracer, node.basis, examples, batch=config.batch, progress=progress))
    return torch.stack(found)


def fit_basis(
    model: LoadedModel,
    state: Mapping[str, Tensor],
    config: IndexConfig,
    fitted: Mapping[str, Tensor],
    sample: Iterable[Tensor],
    *,
    energy: Energy,
) -> tuple[list[Node], Tensor]:
    """One checkpoint's nodes with their projections, and the features (n, K) of the sample, one tensor a node.

    `energy` is told which part of the sample the projections hold.
    """
    nodes, known = [], []
    for node, of_node in zip(_nodes(model, state, config, _factors_from(fitted)), sample, strict=True):
        basis, projected = curvature.fit_projection(node.basis, of_node, config.k)
        nodes.append(Node(basis, node.root_weight, node.tracer))
        energy.add(of_node, projected)
        known.append(node.root_weight * projected)
    return nodes, torch.cat(known, 1)


def _nodes(
    model: LoadedModel,
    state: Mapping[str, Tensor],
    config: IndexConfig,
    fitted: Mapping[str, bases.LayerFactors],
) -> list[Node]:
    """The model at each theta_t and the coordinates to keep there; no projection yet."""
    nodes = []
    for t, weight in config.nodes if model.initial is not None else PLAIN_INFLUENCE:
        moved = state
        if model.initial is not None:
            layers = tracing.layers_of(model.adapter, left_out=config.left_out)
            moved = curvature.state_at(state, model.initial, fitted, layers=layers, t=t, damping=config.damping)
        basis = curvature.choose_coordinates(fitted, t=t, damping=config.damping, coordinates=config.coordinates)
        tracer = _tracer(model, moved, config)
        nodes.append(Node(basis.to(tracer.device, precision_of(config)), weight**0.5, tracer))
    return nodes


def _tracer(model: LoadedModel, state: Mapping[str, Tensor], config: IndexConfig) -> tracing.Tracer:
    return tracing.Tracer(model.adapter, state=state, left_out=config.left_out, device=find_device(model.device))


def precision_of(config: IndexConfig) -> torch.dtype:
    found: torch.dtype = getattr(torch, config.precision)
    return found


def _factors_from(fitted: Mapping[str, Tensor]) -> dict[str, bases.LayerFactors]:
    # In the order of names: a file of tensors keeps none.
    names = sorted({name.rpartition("/")[0] for name in fitted})
    return {name: bases.LayerFactors(*(fitted[f"{name}/{part}"] for part in FACTOR_PARTS)) for name in names}


def sample_positions(items: int, count: int, seed: int) -> list[int]:
    """Choose the items of a fit: `count` of them, or all, ascending."""
    chosen = torch.randperm(items, generator=torch.Generator().manual_seed(seed))[:count]
    return sorted(chosen.tolist())


def embed(
    members: Sequence[Sequence[Node]],
    examples: Sequence[Example],
    batch: int,
    report: Progress | None = None,
    stage: str = "",
    energy: Energy | None = None,
) -> Tensor:
    """(B, M, K): the nodes of a member side by side, so that one inner product is their weighted sum."""
    by_member = []
    for number, nodes in enumerate(members):

        def progress(_: str, done: int, total: int, number: int = number) -> None:
            if report is not None:
                report(stage, number * total + done, len(members) * total)

        parts = []
        for node in nodes:
            with node.tracer:
                found = curvature.features(
                    node.tracer, node.basis, examples, batch=batch, progress=progress, energy=energy
                )
            parts.append(node.root_weight * found)
        by_member.append(torch.cat(parts, 1))
    return torch.stack(by_member, 1)


def method_of(model: LoadedModel, config: IndexConfig) -> str:
    if model.initial is None or config.nodes == PLAIN_INFLUENCE:
        return "influence"
    return "midpoint" if config.nodes == IndexConfig().nodes else "path"


def to_tensors(nodes: Sequence[Node]) -> dict[str, Tensor]:
    """Collect the tensors that embed a query as the items were: eigenvectors, kept coordinates, projection, and theta_t
    where it moved."""
    tensors = {"root_weights": torch.tensor([node.root_weight for node in nodes], dtype=torch.float64)}
    for number, node in enumerate(nodes):
        assert node.basis.projection is not None
        tensors[f"{number}/projection"] = node.basis.projection
        tensors[f"{number}/energy"] = torch.tensor(node.basis.energy)
        state = node.tracer.adapter.module.state_dict()
        for name, layer in node.basis.layers.items():
            tensors[f"{name}/inputs"] = layer.factors.inputs.contiguous()
            tensors[f"{name}/outputs"] = layer.factors.outputs.contiguous()
            tensors[f"{name}/eigenvalues"] = layer.factors.eigenvalues.contiguous()
            tensors[f"{number}/{name}/positions"] = layer.positions
            tensors[f"{number}/{name}/whitening"] = layer.whitening
            for parameter in ("weight", "bias"):
                if f"{name}.{parameter}" in state:
                    tensors[f"{number}/{name}/{parameter}"] = state[f"{name}.{parameter}"].contiguous()
    on_the_cpu: dict[str, Tensor] = on_cpu(tensors)
    return on_the_cpu


def from_tensors(
    tensors: Mapping[str, Tensor],
    model: LoadedModel,
    state: Mapping[str, Tensor],
    config: IndexConfig,
    layer_names: Sequence[str],
) -> list[Node]:
    """The nodes that to_tensors took apart, around the checkpoint that they were fitted at."""
    nodes = []
    for number, root_weight in enumerate(tensors["root_weights"].tolist()):
        moved = dict(state)
        layers = {}
        for name in layer_names:
            factors = bases.LayerFactors(*(tensors[f"{name}/{part}"] for part in FACTOR_PARTS))
            positions, whitening = (tensors[f"{number}/{name}/{part}"] for part in ("positions", "whitening"))
            layers[name] = bases.LayerBasis(factors, positions, whitening)
            for parameter in ("weight", "bias"):
                if f"{name}.{parameter}" in moved:
                    moved[f"{name}.{parameter}"] = tensors[f"{number}/{name}/{parameter}"]
        basis = bases.Basis(layers, tensors[f"{number}/projection"], tensors[f"{number}/energy"].item())
        tracer = _tracer(model, moved, config)
        nodes.append(Node(basis.to(tracer.device, precision_of(config)), root_weight, tracer))
    return nodes
