"""Adapters: the interface through which the generations of a kind of model can be attributed.

An adapter turns examples (training items or generations) into per-example utilities that can be differentiated. The
numerical core asks for nothing else, so a classifier, a diffusion model or an encoder each needs one module here. No
adapter computes influence. A model's factory returns a LoadedModel: the adapter and the facts of the training run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class UnableToEmbed(Exception):
    """An example cannot be scored by this model: nothing to score, too long, or a token it does not know."""

    status = 422
    problem = "unable-to-embed"


@dataclass(frozen=True, slots=True)
class Example:
    """One training item or one generation.

    Of text the tokens, the prompt's first, which are read but not scored. Of anything else `data`: float32 values, as
    a picture's, with a label or a condition as its token where the adapter reads one.
    """

    tokens: tuple[int, ...] = ()
    prompt_tokens: int = 0
    data: bytes = b""


def example_of(values: Any, *, tokens: Sequence[int] = ()) -> Example:
    """An example of an array or tensor of numbers; its shape is the adapter's to know."""
    data = torch.as_tensor(values, dtype=torch.float32).detach().cpu().contiguous().numpy().tobytes()
    return Example(tuple(int(token) for token in tokens), data=data)


def check_values(example: Example, shape: Sequence[int]) -> None:
    """Raise UnableToEmbed unless the example holds finite values of this shape."""
    expected = math.prod(shape)
    if len(example.data) != 4 * expected:
        have = len(example.data) / 4
        raise UnableToEmbed(f"{have:g} values do not make the shape {tuple(shape)}, which takes {expected}.")
    if not bool(_values(example).isfinite().all()):
        raise UnableToEmbed("A value is not finite.")


def values_of(examples: Sequence[Example], shape: Sequence[int]) -> Tensor:
    """(B, *shape) float32."""
    return torch.stack([_values(example).view(*shape) for example in examples])


def _values(example: Example) -> Tensor:
    # A copy: tensors that torch makes of bytes must not be written to.
    return torch.frombuffer(bytearray(example.data), dtype=torch.float32)


@dataclass(frozen=True, slots=True)
class Utilities:
    """Per-example utilities (B,), differentiable, and which positions are real and not padding ((B, T), None = all)."""

    values: Tensor
    real: Tensor | None = None


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters. An adapter moves its inputs there."""
    first = next(itertools.chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def drawn_labels(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A label for each row of logits (..., C), drawn from the model's own chances: (...)."""
    # One number a row and the place where it falls; torch.multinomial draws one for each class, for most of a pass.
    # In float32 at least: chances of half precision do not add up.
    upto = logits.detach().to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1).cumsum(-1)
    fallen = torch.rand(upto.shape[:-1], generator=generator, dtype=upto.dtype, device=upto.device)[..., None]
    # Of the last cumulative sum, which rounding leaves a little beside one: so that a class without chance has none.
    return torch.searchsorted(upto, fallen * upto[..., -1:], right=True)[..., 0].clamp_max(upto.shape[-1] - 1)


class Adapter(Protocol):
    """A kind of model, around one module. The numerical core may load any checkpoint's parameters into it.

    The core may also move the module to another device. The adapter then makes its inputs there (`device_of`), and the
    generator of `sampled_utility` is on that device. An adapter may have `also_traced`, a set of "embedding" and
    "norm": these kinds of layers are then traced as well. It may have `fitted`, which cuts an example that is too long
    to the part that the model reads.
    """

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
        """Utilities of the same inputs with labels drawn from the model itself. They are scaled: the expected outer
        product of the gradients is the Gauss-Newton matrix of the mean loss (the Fisher matrix, Martens 2014)."""
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


class Untokenised:
    """Stand-in for the tokeniser of a model that does not read text. Raises UnableToEmbed when it is asked for text."""

    def encode(self, text: str) -> list[int]:
        raise UnableToEmbed("This model does not read text.")

    def decode(self, tokens: Sequence[int]) -> str:
        raise UnableToEmbed("This model does not read text.")

    def item(self, content: str, token_start: int, token_end: int) -> Example:
        raise UnableToEmbed("This model does not read text.")

    def generation(self, prompt: str, output: str, token_ids: Sequence[int] | None = None) -> Example:
        raise UnableToEmbed("This model does not read text.")


class Utf8:
    """Tokeniser with one token per byte of the text. Serves models that read bytes, and black boxes, of which nobody
    knows the tokens."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode("utf-8", "replace")

    def item(self, content: str, token_start: int, token_end: int) -> Example:
        return Example(tuple(content.encode()[token_start:token_end]))

    def generation(self, prompt: str, output: str, token_ids: Sequence[int] | None = None) -> Example:
        before = self.encode(prompt)
        return Example((*before, *(self.encode(output) if token_ids is None else token_ids)), prompt_tokens=len(before))


@dataclass(frozen=True, slots=True)
class Media:
    """One part of an output that is not text: its media type, such as image/png, and its bytes."""

    type: str
    content: bytes


class Reader(Protocol):
    """Makes training items and generations of pictures, sounds and other bytes, for a model that reads such."""

    def item(self, content: bytes, part: int | None) -> Example:
        """The training item that a part of a work is, by its number; None for the whole. Raises UnableToEmbed."""
        ...

    def generation(self, prompt: str, parts: Sequence[Media]) -> Example:
        """A reported generation: its prompt, and the parts of its output that are not text. Raises UnableToEmbed."""
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
    """A model that a factory rebuilds from a model version's directory."""

    adapter: Adapter
    checkpoints: tuple[Mapping[str, Tensor], ...]
    """Members of the ensemble, oldest first; the last one is served."""
    initial: Mapping[str, Tensor] | None
    """The start of the training; None when unknown, and influence is then taken at the checkpoint itself."""
    tokeniser: Tokeniser = Untokenised()  # noqa: RUF009
    """Of a model that reads text."""
    reader: Reader | None = None
    """Of a model that reads pictures, sounds or other bytes."""
    retrain: Retrain | None = None
    sample: Callable[[int, int], list[Example]] | None = None
    """(count, seed) -> the model's own generations."""
    held_out: Callable[[], list[Example]] | None = None
    """Real examples that were not trained on."""
    device: str = "cpu"
    """Device of the gradients (influence/gradients/devices.py). The installation sets it; factories leave it alone."""
