"""Tiny language models with parts of real ones: a head tied to its embedding, and an adapter beside a frozen base.

Importable by name, because the evaluation's workers unpickle the trainers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from influence.adapters import Example, LoadedModel
from influence.adapters.causal_lm import CausalLM
from influence.gradients.states import own_state
from tests.worlds.small_model import LENGTH, WORDS

WIDTH = 16


class Adapted(nn.Module):
    """A layer with a LoRA adapter of rank 2 beside it."""

    def __init__(self, base: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = base
        self.lora_A = nn.Linear(inputs, 2, bias=False)
        self.lora_B = nn.Linear(2, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.base(x), self.lora_B(self.lora_A(x)))


def tied_gpt() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=WORDS,
            n_positions=LENGTH,
            n_embd=WIDTH,
            n_layer=1,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


def lora_gpt() -> GPT2LMHeadModel:
    module = tied_gpt().requires_grad_(False)
    torch.manual_seed(1)
    block: Any = module.transformer.h[0]
    block.attn.c_attn = Adapted(block.attn.c_attn, WIDTH, 3 * WIDTH)
    block.mlp.c_fc = Adapted(block.mlp.c_fc, WIDTH, 4 * WIDTH)
    return module


MAKE = {"tied": tied_gpt, "lora": lora_gpt}


@dataclass(frozen=True)
class GptTrainer:
    """Trains a model of this kind from its first parameters, for a few steps."""

    kind: str
    steps: int = 30

    @property
    def recipe(self) -> str:
        return f"{self.kind} for {self.steps} steps"

    def __call__(self, examples: Sequence[Example], seed: int) -> CausalLM:
        adapter = CausalLM.of_transformers(MAKE[self.kind]())
        learning = [one for one in adapter.module.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(learning, lr=0.02, weight_decay=0.0)
        for _ in range(self.steps):
            loss = -adapter.utility(examples).values.mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return adapter


def trained_gpt(kind: str, examples: Sequence[Example]) -> LoadedModel:
    """A trained model as a factory gives it: where a base is frozen, its states are those of the adapter alone."""
    trainer = GptTrainer(kind)
    adapter = trainer(examples, 0)
    return LoadedModel(
        adapter=adapter,
        checkpoints=(own_state(adapter.module),),
        initial=own_state(MAKE[kind]()),
        retrain=trainer,
    )
