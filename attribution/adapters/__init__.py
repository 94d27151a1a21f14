"""What a kind of model must give so that its generations can be attributed; nothing about how influence is computed.

An adapter turns examples (training items or generations) into per-example utilities that can be differentiated. The
numerical core asks for nothing else, so a classifier, a diffusion model or an encoder each needs one module here.
A model's factory returns a LoadedModel: the adapter together with what is known about the training run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


class UnableToEmbed(Exception):
    """An example cannot be scored by this model: nothing to score, too long, or a token it does not know."""

    status = 422
    problem = "unable-to-embed"


@dataclass(frozen=True, slots=True)
class Example:
    """One training item or one generation: the prompt's tokens first, which are read but not scored."""

    tokens: tuple[int, ...]
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Utilities:
    """Per-example utilities (B,), differentiable, and which positions are real and not padding ((B, T), None = all)."""

    values: Tensor
    real: Tensor | None = None


class Adapter(Protocol):
    """A kind of model, around one module whose parameters the numerical core may replace by those of a checkpoint."""

    name: str
    module: nn.Module
    left_out: frozenset[str]
    """Qualified names of layers that influence leaves out (an output head, a layer with tied weights)."""

    def check(self, example: Example) -> None:
        """Raise UnableToEmbed when this example could not be scored."""
        ...

    def utility(self, examples: Sequence[Example]) -> Utilities:
        """Mean log-likelihood of each example's scored part, in nats (higher is better)."""
        ...

    def sampled_utility(self, examples: Sequence[Example], generator: torch.Generator) -> Utilities:
        """The same inputs with labels drawn from the model itself, scaled so that the expected outer product of the
        gradients is the Gauss-Newton matrix of the mean loss (the Fisher matrix, Martens 2014)."""
        ...


class Tokeniser(Protocol):
    """Text to token ids and back, and how this model's training items and generations are made of them."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def item(self, content: str, token_start: int, token_end: int) -> Example:
        """The training item that covers these tokens of a work's body; `content` is the work as it is stored."""
        ...

    def generation(self, prompt: str, output: str, token_ids: Sequence[int] | None = None) -> Example:
        """A reported generation. `token_ids` are the output's own; without them the output is tokenised again."""
        ...


class Retrain(Protocol):
    """Trains the same kind of model on other items, from the same initial checkpoint. Picklable: audits call it in
    processes of their own."""

    @property
    def recipe(self) -> str:
        """All that a retraining depends on besides items and seed; audits keep results under it."""
        ...

    def __call__(self, examples: Sequence[Example], seed: int) -> Adapter: ...


@dataclass(frozen=True)
class LoadedModel:
    """What a factory rebuilds from a model version's directory."""

    adapter: Adapter
    tokeniser: Tokeniser
    checkpoints: tuple[Mapping[str, Tensor], ...]
    """Members of the ensemble, oldest first; the last one is what is served."""
    initial: Mapping[str, Tensor] | None
    """What training started from; None when unknown, and influence is then taken at the checkpoint itself."""
    retrain: Retrain | None = None
    sample: Callable[[int, int], list[Example]] | None = None
    """(count, seed) -> the model's own generations."""
    held_out: Callable[[], list[Example]] | None = None
    """Real examples that were not trained on."""
