"""A model run so that every traced layer's gradients come out: hooks around one backward pass, and no parameter's own.

Each kind of layer computes its gradient from its inputs and output gradients (influence/gradients/layers.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from influence.adapters import Adapter, Utilities
from influence.gradients.devices import CPU
from influence.gradients.layers import Call, TracedLayer, UnableToTrace, traced_layers
from influence.gradients.matrices import Gradient, wide


class Tracer:
    """While entered, records inputs and output gradients of each traced layer, and computes no parameter gradient.

    Works on a copy of the adapter, so that several checkpoints of one module can be traced side by side.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        state: Mapping[str, Tensor] | None,
        left_out: Iterable[str] = (),
        device: torch.device = CPU,
    ) -> None:
        self.device = device
        self.adapter = copy.copy(adapter)
        self.adapter.module = copy.deepcopy(adapter.module).to(device)
        self.layers = layers_of(self.adapter, left_out=left_out)
        if state is not None:
            self.adapter.module.load_state_dict(_with_ties(self.adapter.module, state))
        self.adapter.module.requires_grad_(False).eval()
        self._handles: list[Any] = []
        self._calls: dict[str, list[tuple[nn.Module, Tensor, GradientEdge]]] = {}

    def __enter__(self) -> Tracer:
        for name, layer in self.layers.items():
            for module in layer.modules:
                self._handles.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def run(
        self, utilities: Callable[[Adapter], Utilities], *, precision: torch.dtype = torch.float32
    ) -> dict[str, Gradient]:
        """Return the gradients of the utilities of B examples, by layer. With a precision below float32 the model
        multiplies in it as in mixed training (torch.autocast), and the layers' records have that precision.

        Raises UnableToTrace for a layer outside the utility, or with another number of rows than examples.
        """
        self._calls = {name: [] for name in self.layers}
        mixed = nullcontext() if precision == torch.float32 else torch.autocast(self.device.type, precision)
        with torch.enable_grad():
            with mixed:
                answer = utilities(self.adapter)
            unreached = [name for name, calls in self._calls.items() if not calls]
            if unreached:
                raise UnableToTrace(f"Layer {min(unreached)!r} takes no part in the utility: leave it out by name.")
            edges = [edge for calls in self._calls.values() for _, _, edge in calls]
            found = iter(torch.autograd.grad(answer.values.sum(), edges, allow_unused=True))
        # Nothing to take out where all are of one length. A tokeniser's mask may be of numbers.
        real = None if answer.real is None or bool(answer.real.all()) else answer.real.bool()
        traced = {}
        for name, layer in self.layers.items():
            calls = []
            for module, inputs, _ in self._calls[name]:
                gradient: Tensor | None = next(found)
                if gradient is None:
                    # The utility does not depend on the result of this call.
                    continue
                if not len(inputs) == len(gradient) == len(answer.values):
                    raise UnableToTrace(
                        f"Layer {name!r} is given {len(inputs)} rows for {len(answer.values)} examples, so that it "
                        "cannot be told whose gradient is whose: leave it out by name."
                    )
                calls.append(Call(module, *(_recorded(one, precision) for one in (inputs, gradient))))
            if not calls:
                raise UnableToTrace(f"Layer {name!r} takes no part in the utility: leave it out by name.")
            traced[name] = layer.gradient(calls, real)
        self._calls = {}
        return traced

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            beginning = not output.requires_grad
            if beginning:
                output = output.detach().requires_grad_()
            # The edge rather than the tensor: a later operation may overwrite the tensor in place.
            self._calls[name].append((module, inputs[0].detach(), get_gradient_edge(output)))
            return output.clone() if beginning else None

        return record


def layers_of(adapter: Adapter, *, left_out: Iterable[str] = ()) -> dict[str, TracedLayer]:
    """The layers that an index of this adapter's module traces."""
    also: frozenset[str] = getattr(adapter, "also_traced", frozenset())
    return traced_layers(adapter.module, {*adapter.left_out, *left_out}, also)


def _with_ties(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint, with one value for each parameter that has several names; of those the first one's counts."""
    tied = dict(state)
    names: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if first != name and first in tied:
            tied[name] = tied[first]
        elif first != name and name in tied:
            tied[first] = tied[name]
    return tied


def _recorded(values: Tensor, precision: torch.dtype) -> Tensor:
    """Convert recorded values to the precision; ids stay unchanged."""
    return wide(values) if precision == torch.float32 or not values.is_floating_point() else values.to(precision)
