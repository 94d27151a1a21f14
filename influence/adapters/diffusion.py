"""Diffusion and flow models: any module that predicts, from noisy values, their noise or their flow.

The utility of an example is the negative mean loss at a few fixed times with fixed noise. It is a bound of the
likelihood up to a constant (Ho et al. 2020; Lipman et al. 2023). The draws are the same for every example, so that two
examples are comparable. A condition (a class, a style) is the example's one token. The module is called once per time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from influence.adapters import (
    Example,
    UnableToEmbed,
    Utilities,
    check_values,
    device_of,
    example_of,
    values_of,
)

KINDS = ("noise", "flow")


class Diffusion:
    """Adapter around a module called as `module(values, times)`. With `conditions`, the number of conditions, it has a
    third argument, the conditions (B,). Values (B, *shape), times (B,) from 0, the data, to 1, nothing but noise.

    kind "noise": x_t = sqrt(a) x + sqrt(1 - a) e with a = cos^2(pi t / 2), the module gives e;
    kind "flow":  x_t = (1 - t) x + t e, the module gives e - x.
    """

    name = "diffusion"

    def __init__(
        self,
        module: nn.Module,
        *,
        shape: Sequence[int],
        kind: str = "noise",
        conditions: int = 0,
        times: int = 8,
        seed: int = 0,
        left_out: Iterable[str] = (),
        also_traced: Iterable[str] = (),
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}, and must be one of {KINDS}")
        self.module = module
        self.shape = tuple(shape)
        self.kind = kind
        self.conditions = conditions
        self.times = times
        self.seed = seed
        self.left_out = frozenset(left_out)
        self.also_traced = frozenset(also_traced)

    def example(self, values: Any, condition: int | None = None) -> Example:
        return example_of(values, tokens=() if condition is None else (condition,))

    def check(self, example: Example) -> None:
        known = [()] if not self.conditions else [(number,) for number in range(self.conditions)]
        if example.tokens not in known:
            takes = f"one condition from 0 to {self.conditions - 1}" if self.conditions else "no condition"
            raise UnableToEmbed(f"The model takes {takes}, not {list(example.tokens)}.")
        check_values(example, self.shape)

    def utility(self, examples: Sequence[Example]) -> Utilities:
        for example in examples:
            self.check(example)
        losses = [self._squared(predicted - goal) for predicted, goal in self._predictions(examples)]
        return Utilities(-torch.stack(losses).mean(0))

    def sampled_utility(self, examples: Sequence[Example], generator: torch.Generator) -> Utilities:
        # A squared error divided by the number of values is the log-likelihood of a Gaussian with half that number as
        # its variance. Its draws at different times are independent: divide by the square root of their number.
        scale = (math.prod(self.shape) / 2) ** 0.5
        losses = []
        for predicted, _ in self._predictions(examples):
            drawn = scale * torch.randn(
                predicted.shape, generator=generator, dtype=predicted.dtype, device=predicted.device
            )
            losses.append(self._squared(predicted - predicted.detach() - drawn))
        return Utilities(-torch.stack(losses).sum(0) / len(losses) ** 0.5)

    def training_loss(self, examples: Sequence[Example], generator: torch.Generator) -> Tensor:
        """The loss that such models are trained with: a time and noise of its own for each example."""
        values = values_of(examples, self.shape)
        times = torch.rand(len(examples), generator=generator)
        noise = torch.randn(values.shape, generator=generator)
        predicted, goal = self._predict(values, times, noise, examples)
        return self._squared(predicted - goal).mean()

    def _predictions(self, examples: Sequence[Example]) -> Iterator[tuple[Tensor, Tensor]]:
        device = device_of(self.module)
        values = values_of(examples, self.shape).to(device)
        # The same noise on every device: made on the CPU.
        for number, noise in enumerate(self._noise.to(device)):
            times = torch.full((len(examples),), (number + 0.5) / self.times, device=device)
            yield self._predict(values, times, noise.expand_as(values), examples)

    def _predict(
        self, values: Tensor, times: Tensor, noise: Tensor, examples: Sequence[Example]
    ) -> tuple[Tensor, Tensor]:
        """Return the module's predictions and their targets, both (B, *shape)."""
        t = times.view(-1, *[1] * len(self.shape))
        if self.kind == "flow":
            mixed, goal = (1 - t) * values + t * noise, noise - values
        else:
            mixed, goal = torch.cos(math.pi / 2 * t) * values + torch.sin(math.pi / 2 * t) * noise, noise
        call: Callable[..., Tensor] = self.module
        if not self.conditions:
            return call(mixed, times), goal
        conditions = torch.tensor([example.tokens[0] for example in examples], device=values.device)
        return call(mixed, times, conditions), goal

    @cached_property
    def _noise(self) -> Tensor:
        return torch.randn(self.times, *self.shape, generator=torch.Generator().manual_seed(self.seed))

    @staticmethod
    def _squared(error: Tensor) -> Tensor:
        return error.flatten(1).square().mean(1)
