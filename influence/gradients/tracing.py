"""A model run so that every traced layer's gradients come out: hooks around one backward pass, and no parameter's own.

Each kind of layer computes its gradient from its inputs and output gradients (influence/gradients/layers.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from influence.gradients.states import load_state


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
            load_state(self.adapter.module, state)
        self.adapter.module.requires_grad_(False).eval()
        self._handles: list[Any] = []
        self._calls: dict[str, list[tuple[nn.Module, Tensor, GradientEdge]]] = {}
        # Whether calls count: a checkpointed layer runs again in the backward pass, and must then not be counted.
        self._recording = False
        self._batch: int | None = None

    def __enter__(self) -> Tracer:
        self._handles.append(self.adapter.module.register_forward_pre_hook(self._see_batch, with_kwargs=True))
        for name, layer in self.layers.items():
            for module in layer.modules:
                self._handles.append(module.register_forward_hook(self._hook(name, layer)))
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

        A layer that none of the examples uses has a zero gradient. Raises UnableToTrace for a layer that runs without
        gradients, or with another number of rows than examples.
        """
        self._calls, self._batch, self._recording = {name: [] for name in self.layers}, None, True
        mixed = nullcontext() if precision == torch.float32 else torch.autocast(self.device.type, precision)
        try:
            with torch.enable_grad():
                with mixed:
                    answer = utilities(self.adapter)
                self._recording = False
                edges = [edge for calls in self._calls.values() for _, _, edge in calls]
                found: list[Tensor | None] = [None] * len(edges)
                if edges and answer.values.requires_grad:
                    found = list(torch.autograd.grad(answer.values.sum(), edges, allow_unused=True))
            return self._gradients(answer, iter(found), precision)
        finally:
            self._calls, self._recording = {}, False

    def _gradients(
        self, answer: Utilities, found: Iterator[Tensor | None], precision: torch.dtype
    ) -> dict[str, Gradient]:
        batch = len(answer.values)
        places = None if answer.real is None else answer.real.shape
        # Nothing to take out where all are of one length. A tokeniser's mask may be of numbers.
        real = None if answer.real is None or bool(answer.real.all()) else answer.real.bool()
        traced = {}
        for name, layer in self.layers.items():
            calls = []
            for module, inputs, _ in self._calls[name]:
                gradient = next(found)
                # The utility does not depend on the result of this call, or nothing was sent to it.
                if gradient is None or not len(inputs):
                    continue
                if places is not None and inputs.dim() == 2 and len(inputs) == len(gradient) == places.numel() > batch:
                    # A layer that is given all positions one below the other, example after example, as OPT's.
                    inputs, gradient = inputs.view(*places, -1), gradient.view(*places, -1)
                if not len(inputs) == len(gradient) == batch:
                    raise UnableToTrace(
                        f"Layer {name!r} is given {len(inputs)} rows for {batch} examples, so that it "
                        "cannot be told whose gradient is whose: leave it out by name."
                    )
                calls.append(Call(module, *(_recorded(one, precision) for one in (inputs, gradient))))
            if calls:
                traced[name] = layer.gradient(calls, real)
            else:
                traced[name] = layer.nothing(batch, _recorded(layer.parameters()[0].new_zeros(0), precision))
        return traced

    def _see_batch(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Note how many examples the module is given: the length of its first tensor."""
        tensors = (one for one in (*given, *named.values()) if isinstance(one, Tensor) and one.dim())
        self._batch = next((len(one) for one in tensors), None)

    def _hook(self, name: str, layer: TracedLayer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not torch.is_grad_enabled():
                raise UnableToTrace(
                    f"Layer {name!r} runs without gradients (checkpointing with use_reentrant=True, or torch.no_grad): "
                    "turn that off, or leave it out by name."
                )
            given, beginning = inputs[0].detach(), not output.requires_grad
            if beginning:
                output = output.detach()
                if layer.kind == "embedding" and len(given) == 1 and self._batch not in (None, 1):
                    # One row for all examples, as positions have: from here on each example has a row of its own.
                    given, output = (one.expand(self._batch, *one.shape[1:]) for one in (given, output))
                output = output.requires_grad_()
            if self._recording:
                # The edge rather than the tensor: a later operation may overwrite the tensor in place.
                self._calls[name].append((module, given, get_gradient_edge(output)))
            return output.clone() if beginning else None

        return record


def layers_of(adapter: Adapter, *, left_out: Iterable[str] = ()) -> dict[str, TracedLayer]:
    """The layers that an index of this adapter's module traces."""
    also: frozenset[str] = getattr(adapter, "also_traced", frozenset())
    return traced_layers(adapter.module, {*adapter.left_out, *left_out}, also)


def _recorded(values: Tensor, precision: torch.dtype) -> Tensor:
    """Convert recorded values to the precision; ids stay unchanged."""
    return wide(values) if precision == torch.float32 or not values.is_floating_point() else values.to(precision)
