"""Per-example gradients of each kind of layer, from its recorded inputs and output gradients.

Every kind brings its weight into one form, a matrix (O, I) with the bias as one more column, and its gradient for an
example into that form (influence/gradients/matrices.py). A layer that would silently give a wrong gradient is refused
by name. Knows nothing of EK-FAC.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from influence.gradients.matrices import Gradient, Lookup, Outer, Whole

OPTIONAL = frozenset({"embedding", "norm"})
"""Kinds that are traced only where an adapter asks for it (`also_traced`)."""
LOOKUP_CELLS_MAX = 2**23
"""Weights of an Embedding with a gradient that is still held whole for each example."""


class UnableToTrace(Exception):
    """The module has a layer of an unsupported kind; the message names it."""

    status = 422
    problem = "unable-to-trace"


# --- layers ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer: its inputs, and the gradient of the utilities by its outputs."""

    layer: nn.Module
    inputs: Tensor
    gradient: Tensor


class TracedLayer:
    """A weight with the modules that use it, and how its gradient is taken. This one: Linear."""

    kind = "linear"

    def __init__(self, name: str, module: Any, *, has_bias: bool) -> None:
        self.name = name
        self.modules = [module]
        self.has_bias = has_bias

    def parameters(self) -> list[nn.Parameter]:
        module: Any = self.modules[0]
        return [module.weight, module.bias] if self.has_bias else [module.weight]

    def gradient(self, calls: Sequence[Call], real: Tensor | None) -> Gradient:
        """Return the gradient of all calls together; `real` (B, T) marks the positions that are not padding."""
        inputs, gradients, masks = [], [], []
        for call in calls:
            of_inputs, of_outputs = self.by_position(call)
            if real is not None:
                places = of_inputs.shape[:2]
                # Where positions are not those of the batch nobody knows of padding.
                mask = real if places == real.shape else real.new_ones(places)
                of_outputs = of_outputs * mask[..., None]
                masks.append(mask)
            inputs.append(of_inputs)
            gradients.append(of_outputs)
        return Outer(_joined(inputs), _joined(gradients), self.has_bias, _joined(masks) if masks else None)

    def nothing(self, batch: int, like: Tensor) -> Gradient:
        """Return the gradient (B, O, I), zero, of a layer that none of these examples uses; typed and placed as
        `like`."""
        outputs, inputs = self.weight_matrix(self.parameters()[0]).shape
        unused = torch.zeros(batch, 1, dtype=torch.bool, device=like.device)
        return Outer(like.new_zeros(batch, 1, inputs), like.new_zeros(batch, 1, outputs), self.has_bias, unused)

    def by_position(self, call: Call) -> tuple[Tensor, Tensor]:
        """Return the inputs (B, T, I) and the gradients of the outputs (B, T, O) of a call."""
        return positions(call.inputs), positions(call.gradient)

    def matrix(self, state: Mapping[str, Tensor]) -> Tensor:
        """The parameters of a checkpoint in the form of the gradient, (O, I)."""
        weight = self.weight_matrix(state[f"{self.name}.weight"])
        return torch.cat([weight, state[f"{self.name}.bias"][:, None]], 1) if self.has_bias else weight

    def write(self, matrix: Tensor, state: dict[str, Tensor]) -> None:
        """Write a matrix (O, I) back into the parameters of a checkpoint."""
        weight = state[f"{self.name}.weight"]
        if self.has_bias:
            matrix, bias = matrix[:, :-1], matrix[:, -1]
            state[f"{self.name}.bias"] = bias.to(weight.dtype).contiguous()
        state[f"{self.name}.weight"] = self.matrix_weight(matrix, weight.shape).to(weight.dtype).contiguous()

    def weight_matrix(self, weight: Tensor) -> Tensor:
        """Bring a weight into the form (O, I)."""
        return weight

    def matrix_weight(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        """Bring a matrix (O, I) into the shape of the weight."""
        return matrix


class TransposedLinear(TracedLayer):
    """Conv1D of Hugging Face's GPT-2: a Linear with its weight stored (I, O)."""

    def weight_matrix(self, weight: Tensor) -> Tensor:
        return weight.T

    def matrix_weight(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        return matrix.T


class Convolution(TracedLayer):
    """Conv1d and Conv2d: a Linear over the patches that the kernel sees (Grosse and Martens 2016)."""

    kind = "convolution"

    def by_position(self, call: Call) -> tuple[Tensor, Tensor]:
        """Return the patches (B, T, I) under the kernel and the gradients (B, T, O); T is also over groups."""
        layer: Any = call.layer
        inputs, gradient = call.inputs, call.gradient
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
        kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
        if len(kernel) == 1:
            inputs = inputs[:, :, None]
            kernel, dilation, stride = (1, *kernel), (1, *dilation), (1, *stride)
        patches = F.unfold(inputs, kernel, dilation=dilation, stride=stride).mT
        gradient = gradient.flatten(2).mT.contiguous()
        if layer.groups == 1:
            return patches, gradient
        # Each group's outputs see its own inputs only: a position for each, with nothing for the others.
        batch, places, _ = patches.shape
        groups = torch.arange(layer.groups)
        apart = gradient.new_zeros(batch, places, layer.groups, layer.groups, gradient.shape[2] // layer.groups)
        apart[:, :, groups, groups] = gradient.view(batch, places, layer.groups, -1)
        return patches.reshape(batch, places * layer.groups, -1), apart.flatten(3).flatten(1, 2)

    def weight_matrix(self, weight: Tensor) -> Tensor:
        """Flatten a kernel to (O, I): one column for each place of a patch."""
        return weight.flatten(1)

    def matrix_weight(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        return matrix.view(shape)


class Table(TracedLayer):
    """Embedding: a Linear with unit vectors as inputs, hence a look-up."""

    kind = "embedding"

    def gradient(self, calls: Sequence[Call], real: Tensor | None) -> Gradient:
        layer: Any = self.modules[0]
        ids = torch.cat([call.inputs.reshape(call.inputs.shape[0], -1) for call in calls], 1)
        gradients = torch.cat([positions(call.gradient) for call in calls], 1)
        if layer.padding_idx is not None:
            gradients = gradients * (ids != layer.padding_idx)[..., None]
        return Lookup(ids, gradients, layer.num_embeddings)

    def nothing(self, batch: int, like: Tensor) -> Gradient:
        layer: Any = self.modules[0]
        ids = torch.zeros(batch, 1, dtype=torch.long, device=like.device)
        return Lookup(ids, like.new_zeros(batch, 1, layer.embedding_dim), layer.num_embeddings)

    def weight_matrix(self, weight: Tensor) -> Tensor:
        return weight.T

    def matrix_weight(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        return matrix.T


class Norm(TracedLayer):
    """LayerNorm: a scale and a shift for each feature, nothing that a Kronecker product describes."""

    kind = "norm"

    def gradient(self, calls: Sequence[Call], real: Tensor | None) -> Gradient:
        width = self.parameters()[0].numel()
        total = None
        for call in calls:
            normal = self.normal(call.inputs)
            batch = len(call.inputs)
            gradient = call.gradient.reshape(batch, -1, width)
            parts = [(gradient * normal.reshape(batch, -1, width)).sum(1)]
            if self.has_bias:
                parts.append(gradient.sum(1))
            found = torch.stack(parts, -1)
            total = found if total is None else total + found
        assert total is not None
        return Whole(total)

    def normal(self, inputs: Tensor) -> Tensor:
        """Return the inputs (B, ..., D) as the layer scales them."""
        layer: Any = self.modules[0]
        return F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)

    def nothing(self, batch: int, like: Tensor) -> Gradient:
        return Whole(like.new_zeros(batch, self.parameters()[0].numel(), 1 + self.has_bias))

    def matrix(self, state: Mapping[str, Tensor]) -> Tensor:
        parts = [state[f"{self.name}.{part}"].flatten() for part in ("weight", "bias")[: 1 + self.has_bias]]
        return torch.stack(parts, 1)

    def write(self, matrix: Tensor, state: dict[str, Tensor]) -> None:
        for column, part in enumerate(("weight", "bias")[: 1 + self.has_bias]):
            before = state[f"{self.name}.{part}"]
            state[f"{self.name}.{part}"] = matrix[:, column].reshape(before.shape).to(before.dtype).contiguous()


class RootMeanSquareNorm(Norm):
    """RMSNorm, of torch and of Hugging Face's models: a scale for each feature, and no mean is taken off.

    Gemma's scales by one more than its weight, which has the same gradient.
    """

    def normal(self, inputs: Tensor) -> Tensor:
        layer: Any = self.modules[0]
        eps = getattr(layer, "eps", getattr(layer, "variance_epsilon", None))
        axes = list(range(-self.parameters()[0].dim(), 0))
        eps = torch.finfo(inputs.dtype).eps if eps is None else eps
        return inputs * torch.rsqrt(inputs.square().mean(axes, keepdim=True) + eps)


# --- which layers ---------------------------------------------------------------------------------------------------
def traced_layers(module: nn.Module, left_out: Iterable[str], also: Iterable[str] = ()) -> dict[str, TracedLayer]:
    """Find the layers that learn, by the qualified name of the first module that uses each weight.

    Linear and convolutions always, the kinds of OPTIONAL where `also` names them. Layers with frozen parameters beside
    others that learn (the base of a LoRA model) have no part in the training, and are passed over.
    A name of `left_out` may be a pattern, as "*.lora_A.other".
    Raises UnableToTrace for an unknown name or kind, an unsupported layer, or a module without a layer to trace.
    """
    wanted = set(also)
    left = _named(left_out, [name for name, _ in module.named_modules(remove_duplicate=False)])
    if wanted - OPTIONAL:
        raise UnableToTrace(f"There is no kind {min(wanted - OPTIONAL)!r} to trace; there is {sorted(OPTIONAL)}.")
    some_learn = any(parameter.requires_grad for parameter in module.parameters())
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, layer in module.named_modules(remove_duplicate=False):
        for parameter in layer.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((name, layer))
    layers: dict[str, TracedLayer] = {}
    for name, layer in module.named_modules(remove_duplicate=False):
        if name in left:
            continue
        found = _layer_of(name, layer, wanted, some_learn)
        if found is None:
            continue
        if not name:
            raise UnableToTrace(
                "The module is one layer without a name of its own: wrap it, as in nn.Sequential(layer)."
            )
        sharers = owners[id(found.parameters()[0])]
        if sharers[0][0] == name:
            layers[name] = found
        _check_sharers(found, sharers, left)
        if found.has_bias and len(owners[id(found.parameters()[1])]) != len(sharers):
            raise UnableToTrace(f"Layer {name!r} shares its bias with a layer of another weight: leave it out by name.")
        if sharers[0][0] != name and layer not in layers[sharers[0][0]].modules:
            layers[sharers[0][0]].modules.append(layer)
    if not layers:
        raise UnableToTrace("The module has no layer to trace: no Linear and no convolution that learns.")
    return layers


def _named(patterns: Iterable[str], names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for pattern in sorted(patterns):
        matched = fnmatch.filter(names, pattern)
        if not matched:
            raise UnableToTrace(f"The module has no layer {pattern!r} to leave out.")
        found.update(matched)
    return found


def _layer_of(name: str, layer: nn.Module, also: set[str], some_learn: bool) -> TracedLayer | None:
    """Return the way to trace a module; None for one that is not traced."""
    kind = _kind_of(name, layer, also)
    if kind is None or (kind is Norm and layer.weight is None):
        return None
    weight, bias = layer._parameters.get("weight"), layer._parameters.get("bias")
    if weight is None:
        raise UnableToTrace(
            f"Layer {name!r} makes its weight of other parameters (parametrised): leave it out by name."
        )
    weight_learns, bias_learns = (
        part is not None and (part.requires_grad or not some_learn) for part in (weight, bias)
    )
    if not weight_learns and bias_learns:
        raise UnableToTrace(f"Layer {name!r} learns its bias alone, which is not handled: leave it out by name.")
    if not weight_learns:
        return None
    return kind(name, layer, has_bias=bias_learns)


def _kind_of(name: str, layer: nn.Module, also: set[str]) -> Callable[..., TracedLayer] | None:
    if isinstance(layer, nn.Linear):
        return TracedLayer
    if type(layer).__name__ == "Conv1D" and hasattr(layer, "nf"):
        return TransposedLinear
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        return Convolution
    if isinstance(layer, nn.modules.conv._ConvNd):
        kind = type(layer).__name__
        raise UnableToTrace(f"Layer {name!r} is a convolution ({kind}) that is not handled: leave it out by name.")
    if "norm" in also and (found := _norm_of(name, layer)):
        return found
    if isinstance(layer, nn.Embedding) and "embedding" in also:
        if layer.weight.numel() > LOOKUP_CELLS_MAX:
            raise UnableToTrace(f"Layer {name!r} is a table of {layer.weight.numel()} weights, too many to trace.")
        if layer.scale_grad_by_freq or layer.max_norm is not None:
            raise UnableToTrace(f"Layer {name!r} scales by frequency or norm, which is not handled: leave it out.")
        return Table
    return None


def _norm_of(name: str, layer: nn.Module) -> Callable[..., TracedLayer] | None:
    kind = type(layer).__name__
    if isinstance(layer, nn.LayerNorm):
        return Norm
    if kind.endswith("RMSNorm"):
        return RootMeanSquareNorm
    if "Norm" in kind and isinstance(layer._parameters.get("weight"), nn.Parameter):
        raise UnableToTrace(f"Layer {name!r} is a norm ({kind}) that is not handled: leave it out by name.")
    return None


def _check_sharers(layer: TracedLayer, sharers: Sequence[tuple[str, nn.Module]], left: set[str]) -> None:
    """Modules may share a weight if they use it in the same way, and then none of them can be left out."""
    module: Any = layer.modules[0]
    for name, other in sharers:
        alike = type(other) is type(module) and getattr(other, "bias", None) is getattr(module, "bias", None)
        if name == layer.name:
            continue
        if name in left:
            raise UnableToTrace(
                f"Layer {layer.name!r} shares its weight with {name!r}, which is left out, so that its gradient would "
                f"lack a part: leave {layer.name!r} out by name, too."
            )
        if not alike:
            raise UnableToTrace(f"Layer {layer.name!r} shares its weight with {name!r}: leave it out by name.")


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Along positions."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 1)


def positions(values: Tensor) -> Tensor:
    """(B, ..., D) to (B, T, D): a layer without positions has one."""
    return values.reshape(values.shape[0], -1, values.shape[-1])
