"""A probe of a model before time is spent on it: are the traced gradients of each example those of plain autograd?

A layer may see as many rows as there are examples, and the rows may still be those of something else: of tokens in a
transformer with time first, or of the inputs of an expert. Numbers of rows do not tell; gradients do. Each example is
run alone and together with the others, and both are held against autograd's gradient of that example's utility. Both
must also be alike: a model that mixes the examples of its batch has no gradient of one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from influence.adapters import Example
from influence.gradients.layers import TracedLayer, UnableToTrace
from influence.gradients.tracing import Tracer

EXAMPLES = 4
TOLERANCE = 1e-3
"""Largest difference to autograd, relative to the layer's largest gradient; float32 sums in another order give 1e-6."""
HALF_TOLERANCE = 5e-2
"""The same for parameters of half precision."""
ROUNDING = 1e-5
CELLS = 2**27
"""Number of parameters, with their gradients in memory at a time."""


def probe(tracer: Tracer, examples: Sequence[Example]) -> None:
    """Compare the gradients of some examples, alone and together, with those of autograd, layer by layer.

    `examples` may be many: those of different lengths are chosen. Raises UnableToTrace, by the layer's name, where a
    gradient is another than autograd's, or depends on the other examples.
    """
    chosen = _different(examples)
    with tracer:
        together = tracer.run(lambda adapter: adapter.utility(chosen))
        alone = [tracer.run(lambda adapter, one=one: adapter.utility([one])) for one in chosen]  # type: ignore[misc]
    none = torch.zeros(0)
    # A layer with next to no gradient beside the others' holds rounding alone.
    floor = ROUNDING * max((float(one.rotated(none, none).abs().max()) for one in together.values()), default=0.0)
    for names in _portions(tracer.layers):
        layers = {name: tracer.layers[name] for name in names}
        traced = {name: together[name].rotated(none, none) for name in names}
        for place in range(len(chosen)):
            truth = _of_autograd(tracer, layers, chosen, place)
            apart = _of_autograd(tracer, layers, chosen[place : place + 1], 0)
            for name in names:
                _check(name, layers[name], traced[name][place], truth[name], f"among {len(chosen)} examples", floor)
                by_itself = alone[place][name].rotated(none, none)[0]
                _check(name, layers[name], by_itself, apart[name], "by itself", floor)
            for name in names:
                if error := _error(layers[name], truth[name], apart[name], floor):
                    raise UnableToTrace(
                        f"An example has another gradient in layer {name!r} by itself than among {len(chosen)} "
                        f"examples ({error:.0%} of the largest): the model mixes the examples of a batch."
                    )


def _different(examples: Sequence[Example]) -> list[Example]:
    """Choose a few: the shortest, the longest and some between, so that they pad each other."""
    ordered = sorted(examples, key=lambda example: len(example.tokens))
    if len(ordered) <= EXAMPLES:
        return ordered
    return [ordered[place * (len(ordered) - 1) // (EXAMPLES - 1)] for place in range(EXAMPLES)]


def _portions(layers: dict[str, TracedLayer]) -> Iterator[list[str]]:
    """Names of layers, as many at a time as there is room for their gradients."""
    portion: list[str] = []
    cells = 0
    for name, layer in layers.items():
        size = sum(parameter.numel() for parameter in layer.parameters())
        if portion and cells + size > CELLS:
            yield portion
            portion, cells = [], 0
        portion.append(name)
        cells += size
    if portion:
        yield portion


def _of_autograd(
    tracer: Tracer, layers: dict[str, TracedLayer], examples: Sequence[Example], place: int
) -> dict[str, Tensor]:
    """The gradients (O, I) of the utility of one of the examples, by layer."""
    parameters = [parameter for layer in layers.values() for parameter in layer.parameters()]
    for parameter in parameters:
        parameter.requires_grad_()
    try:
        with torch.enable_grad():
            value = tracer.adapter.utility(examples).values[place]
            found = iter(
                torch.autograd.grad(value, parameters, allow_unused=True)
                if value.requires_grad
                else [None] * len(parameters)
            )
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
    gradients = {}
    for name, layer in layers.items():
        state = {}
        for part, parameter in zip(("weight", "bias"), layer.parameters(), strict=False):
            gradient = next(found)
            state[f"{name}.{part}"] = torch.zeros_like(parameter) if gradient is None else gradient
        gradients[name] = layer.matrix(state)
    return gradients


def _check(name: str, layer: TracedLayer, found: Tensor, truth: Tensor, how: str, floor: float) -> None:
    if error := _error(layer, found, truth, floor):
        raise UnableToTrace(
            f"Layer {name!r} ({type(layer.modules[0]).__name__}) gives a wrong gradient of an example {how}: it "
            f"differs from autograd's by {error:.0%} of the largest. Its rows are not those of the examples, as where "
            "time or tokens come first: build the layer with the batch first, or leave it out by name."
        )


def _error(layer: TracedLayer, found: Tensor, truth: Tensor, floor: float) -> float:
    """Return the difference relative to the largest number, 0 where it is rounding."""
    found, truth = found.double(), truth.double()
    largest = max(float(truth.abs().max()), float(found.abs().max()), floor)
    # A value that is not finite is named by the build, which meets it again; a layer without any gradient agrees.
    if not bool((truth.isfinite() & found.isfinite()).all()) or largest == 0:
        return 0.0
    half = any(parameter.dtype in {torch.float16, torch.bfloat16} for parameter in layer.parameters())
    error = float((found - truth).abs().max()) / largest
    return 0.0 if error <= (HALF_TOLERANCE if half else TOLERANCE) else error
