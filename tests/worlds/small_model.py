"""A language model that trains in a tenth of a second: eight holders, each with a dialect, and their sentences.

A holder's sentences follow its own table of transitions, so that the holders in a model's training decide the sentences
that it finds likely. Importable by name, because the audit's workers unpickle `Trainer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from influence.adapters import Example, LoadedModel
from influence.adapters.causal_lm import CausalLM
from influence.index.files import digest_of_state
from influence.index.reader import IndexItem

WORDS = 16
LENGTH = 20
HOLDERS = 8
PER_HOLDER = 12


class Dialects(nn.Module):
    """The next word from the last two, through one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 12)
        self.hidden = nn.Linear(24, 24)
        self.head = nn.Linear(24, WORDS)

    def forward(self, tokens: Tensor) -> Tensor:
        now = self.words(tokens)
        before = torch.cat([torch.zeros_like(now[:, :1]), now[:, :-1]], 1)
        logits: Tensor = self.head(torch.tanh(self.hidden(torch.cat([now, before], -1))))
        return logits


@dataclass(frozen=True)
class Trainer:
    """Trains from one initial state; the model learns from the items in the call."""

    initial: Mapping[str, Tensor]
    steps: int = 150
    fails: bool = False

    @property
    def recipe(self) -> str:
        return f"{self.steps} steps from {digest_of_state(self.initial)}"

    def __call__(self, examples: Sequence[Example], seed: int) -> CausalLM:
        if self.fails:
            raise ArithmeticError("the loss went to infinity")
        module = Dialects()
        module.load_state_dict(dict(self.initial))
        adapter = adapter_of(module)
        optimiser = torch.optim.AdamW(module.parameters(), lr=0.02, weight_decay=0.0)
        for _ in range(self.steps):
            loss = -adapter.utility(examples).values.mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return adapter


class Numbers:
    """A tokeniser for texts like "3 1 4": a word's number is its token."""

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))

    def item(self, content: str, token_start: int, token_end: int) -> Example:
        return Example(tuple(self.encode(content)[token_start:token_end]))

    def generation(self, prompt: str, output: str, token_ids: Sequence[int] | None = None) -> Example:
        before = self.encode(prompt)
        return Example((*before, *(self.encode(output) if token_ids is None else token_ids)), len(before))


def adapter_of(module: nn.Module) -> CausalLM:
    return CausalLM(module, vocabulary=WORDS, context=LENGTH)


def sentences(holder: int, count: int, *, seed: int) -> list[Example]:
    """Of a dialect: from each word mostly to one of three others, which ones being the holder's own."""
    accent = torch.Generator().manual_seed(1_000 + holder)
    chances = torch.full((WORDS, WORDS), 0.02)
    favourites = torch.stack([torch.randperm(WORDS, generator=accent)[:3] for _ in range(WORDS)])
    chances.scatter_(1, favourites, 1.0)
    chance = torch.Generator().manual_seed(seed * 100 + holder)
    words = [torch.randint(WORDS, (count, 1), generator=chance)]
    for _ in range(LENGTH - 1):
        words.append(torch.multinomial(chances[words[-1][:, 0]], 1, generator=chance))
    return [Example(tuple(row), prompt_tokens=1) for row in torch.cat(words, 1).tolist()]


def training_items(holders: int = HOLDERS) -> list[IndexItem]:
    """Two works a holder, of six items each; works are numbered through from 100."""
    return [
        IndexItem(example, work_id=100 + 2 * holder + number % 2, holder_id=holder + 1)
        for holder in range(holders)
        for number, example in enumerate(sentences(holder, PER_HOLDER, seed=1))
    ]


def trained(items: Sequence[IndexItem], *, steps: int = 150, members: int = 2) -> LoadedModel:
    torch.manual_seed(0)
    initial = {name: value.clone() for name, value in Dialects().state_dict().items()}
    trainer = Trainer(initial, steps)
    examples = [item.example for item in items]
    stages = [replace(trainer, steps=steps - 10 * back)(examples, 0) for back in range(members - 1, -1, -1)]
    return LoadedModel(
        adapter=stages[-1],
        tokeniser=Numbers(),
        checkpoints=tuple(dict(stage.module.state_dict()) for stage in stages),
        initial=initial,
        retrain=trainer,
    )
