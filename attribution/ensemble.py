"""The ensemble of an index: for each checkpoint the model at theta_t, differentiated, and the basis of its features.

Decides which configuration leads to which numbers, how quadrature nodes are laid side by side so that one inner product
is their weighted sum, and what of it must be kept to embed a query later as the items were embedded. Knows nothing of
holders, shards or directories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attribution import influence
from attribution.adapters import Example, LoadedModel
from attribution.configuration import IndexConfig

PLAIN_INFLUENCE = ((1.0, 1.0),)
"""Without theta_0 there is no path to walk: one node, at the checkpoint itself."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Node:
    """One quadrature node of one ensemble member: a basis, the square root of its weight, the model at theta_t."""

    basis: influence.Basis
    root_weight: float
    tracer: influence.Tracer


def fit_member(
    model: LoadedModel,
    state: Mapping[str, Tensor],
    examples: Sequence[Example],
    config: IndexConfig,
    label: str,
    report: Progress,
) -> tuple[list[Node], Tensor]:
    """One checkpoint's nodes: factors at the checkpoint, then for each t the model at theta_t, its basis and PCA.

    With them the features (n, K) of the items that the PCA was fitted on.
    """

    def progress(stage: str, done: int, total: int) -> None:
        report(f"{stage} {label}", done, total)

    with influence.Tracer(model.adapter, state=state, left_out=config.left_out) as tracer:
        fit = _sample(examples, config.fit_items, config.seed)
        factors = influence.fit_factors(tracer, fit, batch=config.batch, seed=config.seed, progress=progress)
    sample = _sample(examples, config.pca_items, config.seed + 1)
    nodes, of_sample = [], []
    for t, weight in config.nodes if model.initial is not None else PLAIN_INFLUENCE:
        moved = state
        if model.initial is not None:
            moved = influence.state_at(state, model.initial, factors, t=t, damping=config.damping)
        tracer = influence.Tracer(model.adapter, state=moved, left_out=config.left_out)
        basis = influence.choose_coordinates(factors, t=t, damping=config.damping, coordinates=config.coordinates)
        with tracer:
            whitened = influence.features(tracer, basis, sample, batch=config.batch, progress=progress)
        basis = influence.fit_projection(basis, whitened, config.k)
        assert basis.projection is not None
        nodes.append(Node(basis, weight**0.5, tracer))
        of_sample.append(weight**0.5 * whitened @ basis.projection)
    return nodes, torch.cat(of_sample, 1)


def _sample(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    chosen = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))[:count]
    return [examples[position] for position in sorted(chosen.tolist())]


def embed(
    members: Sequence[Sequence[Node]],
    examples: Sequence[Example],
    batch: int,
    report: Progress | None = None,
    stage: str = "",
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
                found = influence.features(node.tracer, node.basis, examples, batch=batch, progress=progress)
            parts.append(node.root_weight * found)
        by_member.append(torch.cat(parts, 1))
    return torch.stack(by_member, 1)


def method_of(model: LoadedModel, config: IndexConfig) -> str:
    if model.initial is None or config.nodes == PLAIN_INFLUENCE:
        return "influence"
    return "midpoint" if config.nodes == IndexConfig().nodes else "path"


def to_tensors(nodes: Sequence[Node]) -> dict[str, Tensor]:
    """What embeds a query as the items were: eigenvectors, kept coordinates, projection, and theta_t where it moved."""
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
    return tensors


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
            factors = influence.LayerFactors(
                *(tensors[f"{name}/{part}"] for part in ("inputs", "outputs", "eigenvalues"))
            )
            kept = (tensors[f"{number}/{name}/{part}"] for part in ("positions", "whitening"))
            layers[name] = influence.LayerBasis(factors, *kept)
            for parameter in ("weight", "bias"):
                if f"{name}.{parameter}" in moved:
                    moved[f"{name}.{parameter}"] = tensors[f"{number}/{name}/{parameter}"]
        basis = influence.Basis(layers, tensors[f"{number}/projection"], tensors[f"{number}/energy"].item())
        tracer = influence.Tracer(model.adapter, state=moved, left_out=config.left_out)
        nodes.append(Node(basis, root_weight, tracer))
    return nodes
