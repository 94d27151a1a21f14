"""Classifiers: any module that gives logits of classes for a batch of values (pictures, rows of a table, recordings).

An example is its values and, as its one token, the class. It is the label of a training item, or the predicted class of
a prediction, because somebody paid for that class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from influence.adapters import (
    Example,
    UnableToEmbed,
    Utilities,
    check_values,
    device_of,
    drawn_labels,
    example_of,
    values_of,
)


class Classifier:
    """Adapter around a module that is called with values (B, *shape) and gives logits (B, classes)."""

    name = "classifier"

    def __init__(
        self,
        module: nn.Module,
        *,
        classes: int,
        shape: Sequence[int],
        left_out: Iterable[str] = (),
        also_traced: Iterable[str] = (),
    ) -> None:
        self.module = module
        self.classes = classes
        self.shape = tuple(shape)
        self.left_out = frozenset(left_out)
        self.also_traced = frozenset(also_traced)

    def example(self, values: Any, label: int) -> Example:
        """An item with its label, or an input with the class that was predicted for it."""
        return example_of(values, tokens=(label,))

    def check(self, example: Example) -> None:
        if len(example.tokens) != 1 or not 0 <= example.tokens[0] < self.classes:
            raise UnableToEmbed(f"A class is one number from 0 to {self.classes - 1}, not {list(example.tokens)}.")
        check_values(example, self.shape)

    def utility(self, examples: Sequence[Example]) -> Utilities:
        for example in examples:
            self.check(example)
        labels = torch.tensor([example.tokens[0] for example in examples], device=device_of(self.module))
        return Utilities(-F.cross_entropy(self._logits(examples), labels, reduction="none"))

    def sampled_utility(self, examples: Sequence[Example], generator: torch.Generator) -> Utilities:
        logits = self._logits(examples)
        return Utilities(-F.cross_entropy(logits, drawn_labels(logits, generator), reduction="none"))

    def _logits(self, examples: Sequence[Example]) -> Tensor:
        logits: Tensor = self.module(values_of(examples, self.shape).to(device_of(self.module)))
        return logits
