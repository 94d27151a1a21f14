"""Models of bytes with code that does something odd with some texts, and the programme that one of them belongs to."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from attribution.models import ModelVersion
from attribution.operations import indexes, manifests, model_versions
from attribution.operations.base_pool import pay_by_base_pool
from influence.adapters import LoadedModel, Utf8
from influence.adapters.causal_lm import CausalLM
from tests.worlds.programme import Programme
from tests.worlds.trained import TRAINED_AT

FACTORY = "tests.worlds.odd_models.load"
MARK = "#"
WIDTH = 16
INDEX: dict[str, Any] = {"k": 8, "coordinates": 128, "fit_items": 16, "pca_items": 16, "own_generations": 0}


class Bytes(nn.Module):
    """The next byte from the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(256, WIDTH)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.extra = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 256)

    def odd(self, x: Tensor, marked: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        marked = (tokens == ord(MARK)).any(1)
        logits: Tensor = self.head(torch.tanh(self.hidden(self.extra(x) + self.odd(x, marked))))
        return logits


class Conditional(Bytes):
    """Its extra layer runs only where a text holds an S, as some of the addresses do."""

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        marked = (tokens == ord("S")).any(1)
        if bool(marked.any()):
            x = x + self.extra(x) * marked[:, None, None]
        logits: Tensor = self.head(torch.tanh(self.hidden(x)))
        return logits


class Raising(Bytes):
    """Raises an error that no code of ours expects, at a mark."""

    def odd(self, x: Tensor, marked: Tensor) -> Tensor:
        if bool(marked.any()):
            raise StopIteration("the model ran out of ideas")
        return x


class Crashing(Bytes):
    """Ends the process at a mark, as a crash of native code does."""

    def odd(self, x: Tensor, marked: Tensor) -> Tensor:
        if bool(marked.any()):
            os._exit(139)
        return x


KINDS = {"conditional": Conditional, "raising": Raising, "crashing": Crashing}


def load(directory: Path) -> LoadedModel:
    """The factory: the kind stands in a file of the directory."""
    module = KINDS[(Path(directory) / "kind").read_text()]()
    state = load_file(Path(directory) / "checkpoint.safetensors")
    module.load_state_dict(state)
    return LoadedModel(CausalLM(module, vocabulary=256, context=512), (state,), None, Utf8())


def register_odd(programme: Programme, kind: str, folder: Path) -> ModelVersion:
    """Register a model of this kind, trained (so it says) on two works of each contributor, and build its index.

    The settings must name FACTORY as the factory "odd".
    """
    torch.manual_seed(0)
    folder.mkdir()
    save_file(KINDS[kind]().state_dict(), folder / "checkpoint.safetensors")
    (folder / "kind").write_text(kind)
    version = model_versions.register_model_version(
        service=programme.service,
        name=kind,
        adapter="causal_lm",
        factory="odd",
        purpose="train_generative",
        directory=folder,
        trained_at=TRAINED_AT,
        at=programme.at,
    )
    manifests.register_manifest(
        model_version=version,
        items=[
            manifests.NewItem(work.pk, 4 * number + part, 64 * part, 64 * part + 64)
            for number, work in enumerate(programme.works)
            for part in range(4)
        ],
        at=programme.at,
    )
    version.refresh_from_db()
    built = indexes.build_index(model_version=version, config=INDEX, at=programme.at)
    assert pay_by_base_pool(index=built, at=programme.at).serving
    return version


def said(programme: Programme, version: ModelVersion, name: str, *texts: str) -> None:
    """Report one generation for each text, a second before all later ones."""
    results = programme.report(
        *(
            programme.generation(
                f"{name}-{place}", model_version=version.name, prompt={"text": ""}, output={"text": text}
            )
            for place, text in enumerate(texts)
        )
    )
    assert {result.status for result in results} == {201}
    programme.at += timedelta(seconds=1)
