"""Encoders for black-box models: a vector for each example, by any means, and no gradient.

Their scores are similarity. They measure the likeness of an item and a generation in the eyes of the encoder. They do
not measure influence, and every page that shows them calls them similarity.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from influence.adapters import Example, Tokeniser, UnableToEmbed, Utilities, check_values, values_of

GRAM_CHARACTERS = (3, 4, 5)


class Encoder:
    """Adapter around a module that gives vectors (B, dimensions) for the result of `read` on B examples.

    Without `read` the module is given the examples' values (B, *shape): with nn.Identity, embeddings that somebody else
    computed. Vectors are compared by their cosine.
    """

    name = "encoder"
    left_out: frozenset[str] = frozenset()

    def __init__(
        self,
        module: nn.Module,
        *,
        dimensions: int,
        shape: Sequence[int] | None = None,
        read: Callable[[Sequence[Example]], object] | None = None,
    ) -> None:
        self.module = module.eval()
        self.dimensions = dimensions
        self.shape = tuple(shape) if shape is not None else (dimensions,)
        self._read = read

    @classmethod
    def of_wording(cls, tokeniser: Tokeniser, *, dimensions: int = 1_024) -> Encoder:
        """The packaged encoder, for text in any language: hashed runs of 3 to 5 characters; nothing to download."""

        def read(examples: Sequence[Example]) -> list[str]:
            return [tokeniser.decode(example.tokens[example.prompt_tokens :]) for example in examples]

        return cls(CharacterGrams(dimensions), dimensions=dimensions, read=read)

    def check(self, example: Example) -> None:
        if self._read is None:
            check_values(example, self.shape)
        elif len(example.tokens) <= example.prompt_tokens and not example.data:
            raise UnableToEmbed("Nothing to compare: the output is empty.")

    @torch.no_grad()
    def vectors(self, examples: Sequence[Example]) -> Tensor:
        """Vectors (B, 1, dimensions) of length one; zero for an example in which the encoder sees nothing.

        Raises UnableToEmbed when the module gives another shape.
        """
        for example in examples:
            self.check(example)
        given = values_of(examples, self.shape) if self._read is None else self._read(examples)
        found: Tensor = self.module(given)
        if found.shape != (len(examples), self.dimensions):
            raise UnableToEmbed(f"The encoder gives {tuple(found.shape)}, not {(len(examples), self.dimensions)}.")
        return nn.functional.normalize(found.float(), dim=1)[:, None]

    def utility(self, examples: Sequence[Example]) -> Utilities:
        raise UnableToEmbed("An encoder has no utility to differentiate: build its index with the attributor encoder.")

    def sampled_utility(self, examples: Sequence[Example], generator: torch.Generator) -> Utilities:
        return self.utility(examples)


class CharacterGrams(nn.Module):
    """Texts to counts of their runs of characters, hashed with a sign, so that collisions cancel in the mean."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions

    def forward(self, texts: Sequence[str]) -> Tensor:
        found = torch.zeros(len(texts), self.dimensions)
        for row, text in enumerate(texts):
            text = f" {' '.join(text.lower().split())} "
            for length in GRAM_CHARACTERS:
                for start in range(len(text) - length + 1):
                    hashed = zlib.crc32(text[start : start + length].encode("utf-8", "replace"))
                    found[row, hashed // 2 % self.dimensions] += 1 - 2 * (hashed % 2)
        return found.sign() * found.abs().sqrt()
