"""Causal language models: any module that gives logits for token ids, its own code or Hugging Face's.

Scores the tokens of an example after the prompt. Examples of different lengths share a batch by padding on the right,
which a causal model cannot see, and by a mask for modules that ask for one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from influence.adapters import Example, UnableToEmbed, Utilities, device_of, drawn_labels


class CausalLM:
    """Adapter around a module called as `module(tokens)` or `module(input_ids=..., attention_mask=...)`.

    `vocabulary` and `context` limit the examples. `context` counts every token of an example, prompt included. Of a
    longer one the last tokens are read (`fitted`), and its first `prefix` tokens, such as a symbol that opens every
    sequence.
    """

    name = "causal_lm"

    def __init__(
        self,
        module: nn.Module,
        *,
        vocabulary: int,
        context: int,
        left_out: Iterable[str] = (),
        also_traced: Iterable[str] = (),
        padding: int = 0,
        prefix: int = 0,
    ) -> None:
        self.module = module
        self.vocabulary = vocabulary
        self.context = context
        self.left_out = frozenset(left_out)
        self.also_traced = frozenset(also_traced)
        self.padding = padding
        self.prefix = prefix
        self._takes_mask = "attention_mask" in inspect.signature(module.forward).parameters

    @classmethod
    def of_transformers(cls, model: Any, *, left_out: Iterable[str] = (), **changed: Any) -> CausalLM:
        """Wrap a causal language model of Hugging Face's transformers. transformers need not be installed.

        An output head that shares the weight of the input embedding is not traced: its gradient is not a layer's own.
        Raises ValueError without `context` for a model with no context length in its configuration.
        """
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        tied = head is not None and head.weight is embedding.weight
        named = {name for name, module in model.named_modules() if tied and module is head}
        context = next(
            (
                int(getattr(model.config, name))
                for name in ("max_position_embeddings", "n_positions", "n_ctx")
                if getattr(model.config, name, None)
            ),
            None,
        )
        changed.setdefault("vocabulary", int(embedding.num_embeddings))
        if "context" not in changed and context is None:
            raise ValueError("The model's configuration does not say how many tokens it reads: give `context`.")
        changed.setdefault("context", context)
        return cls(model, left_out={*named, *left_out}, **changed)

    def check(self, example: Example) -> None:
        length = len(example.tokens)
        if length > self.context:
            raise UnableToEmbed(f"{length} tokens are more than the {self.context} this model reads.")
        if not 0 <= example.prompt_tokens <= length:
            raise UnableToEmbed(f"{example.prompt_tokens} prompt tokens do not fit {length} tokens.")
        if length <= max(example.prompt_tokens, 1):
            raise UnableToEmbed("Nothing to score: no token follows the prompt.")
        strangers = [token for token in example.tokens if not 0 <= token < self.vocabulary]
        if strangers:
            raise UnableToEmbed(f"Token {strangers[0]} is outside the vocabulary of {self.vocabulary}.")

    def fitted(self, example: Example) -> Example:
        """Take the tokens that a service's model would read of a longer example: the last ones, after the prefix."""
        over = len(example.tokens) - self.context
        if over <= 0:
            return example
        tokens = (*example.tokens[: self.prefix], *example.tokens[self.prefix + over :])
        prompt = max(example.prompt_tokens - over, min(self.prefix, example.prompt_tokens))
        return replace(example, tokens=tokens, prompt_tokens=prompt)

    def utility(self, examples: Sequence[Example]) -> Utilities:
        tokens, scored, real = self._batch(examples)
        log_likelihood = self._log_likelihood(self._logits(tokens, real), tokens[:, 1:])
        return Utilities((log_likelihood * scored).sum(1) / scored.sum(1), real)

    def sampled_utility(self, examples: Sequence[Example], generator: torch.Generator) -> Utilities:
        tokens, scored, real = self._batch(examples)
        logits = self._logits(tokens, real)
        log_likelihood = self._log_likelihood(logits, drawn_labels(logits, generator))
        # Labels at different positions are independent. Only after a division by the square root of their number does
        # the gradient have the Gauss-Newton matrix of the *mean* over positions as its outer product.
        return Utilities((log_likelihood * scored).sum(1) / scored.sum(1).sqrt(), real)

    def _batch(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, T), which targets are scored (B, T - 1) as floats, which inputs are real (B, T - 1)."""
        for example in examples:
            self.check(example)
        lengths = torch.tensor([len(example.tokens) for example in examples])
        starts = torch.tensor([max(example.prompt_tokens, 1) for example in examples])
        tokens = torch.full((len(examples), int(lengths.max())), self.padding)
        for row, example in enumerate(examples):
            tokens[row, : len(example.tokens)] = torch.tensor(example.tokens)
        target = torch.arange(1, tokens.shape[1])
        real = target < lengths[:, None]
        scored = (real & (target >= starts[:, None])).float()
        device = device_of(self.module)
        return tokens.to(device), scored.to(device), real.to(device)

    def _logits(self, tokens: Tensor, real: Tensor) -> Tensor:
        if self._takes_mask:
            answer = self.module(input_ids=tokens[:, :-1], attention_mask=real.long())
        else:
            answer = self.module(tokens[:, :-1])
        logits: Tensor = answer if isinstance(answer, Tensor) else answer.logits
        return logits

    @staticmethod
    def _log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
        return -F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
