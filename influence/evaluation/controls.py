"""Comparisons for an evaluated index: simple baselines, and a planted contributor of noise and a planted copier.

The baselines need no retraining of their own: they are held against the same retrained models. The controls need one.
That model is trained on the items of one coalition and on the items of two more contributors. One hands in random
tokens. The other hands in exact copies of a present contributor's items. An index of that model gives the shares that
both would be paid.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from influence import scorers
from influence.adapters import Example, LoadedModel, Retrain
from influence.evaluation import paid
from influence.evaluation.retraining import positions_of, told
from influence.gradients.states import own_state
from influence.index.shards import Array
from influence.paid_items import ITEMS_PAID
from influence.scorers import IndexItem

BATCH = 64
MEMBERS = 3
"""Trainings with other seeds: their disagreement tells noise from signal."""


@dataclass(frozen=True, slots=True)
class Controls:
    """Paid shares of the noise, of the copier and of the copied contributor. `_split`: an account an item."""

    noise: float
    noise_split: float
    noise_items: float
    """The noise's part of the items: its pay by pro rata."""
    copier: float
    copier_split: float
    copied: float

    def to_json(self) -> dict[str, float]:
        return {field.name: round(getattr(self, field.name), 5) for field in fields(self)}


def plant(
    *,
    model: LoadedModel,
    items: Sequence[IndexItem],
    coalition: Sequence[int],
    config: scorers.IndexConfig,
    queries: Sequence[Example],
    cache: Path,
    seed: int,
    rule: int = 2,
    k: int = ITEMS_PAID,
) -> Controls | None:
    """Train with both planted, index, and pay by `rule`, of rule 2 up to `k` items. None where noise cannot be made:
    only token sequences are drawn.

    The trained model and its index are kept in `cache`.
    """
    if model.retrain is None or model.adapter.name != "causal_lm":
        return None
    present = [items[position] for position in positions_of([item.holder_id for item in items], coalition)]
    copied = coalition[0]
    copier, noise = (max(item.holder_id for item in items) + more for more in (1, 2))
    copies = [replace(item, holder_id=copier, cluster_id=None) for item in present if item.holder_id == copied]
    count = max(1, round(len(present) / len(coalition)))
    drawn = enumerate(_noise(present, count, seed))
    made = [IndexItem(example, work_id=-1 - place, holder_id=noise) for place, example in drawn]
    planted = [*(replace(item, cluster_id=None) for item in present), *copies, *made]
    examples = [item.example for item in planted]
    asked = [model.retrain.recipe, seed, config.sha256, [(told(item.example), item.holder_id) for item in planted]]
    directory = cache / f"controls-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}"
    directory.mkdir(parents=True, exist_ok=True)
    states = tuple(
        _trained(model.retrain, examples, seed + member, directory / f"model-{member}.safetensors")
        for member in range(MEMBERS)
    )
    alone = replace(model, checkpoints=states)
    path = directory / "index"
    if path.exists():
        index = scorers.open_attributor(path, model=alone)
    else:
        index = scorers.build(path, model=alone, items=planted, config=config, mean_of=queries)
    features = index.embed(queries)
    pay = paid.by_rule(rule, index, features, index.score(features), k=k)
    whole, split = pay.shares().mean(0), pay.shares_cut_alone().mean(0)
    of = {holder: place for place, holder in enumerate(index.holder_ids)}
    return Controls(
        noise=float(whole[of[noise]]),
        noise_split=float(split[of[noise]]),
        noise_items=len(made) / len(planted),
        copier=float(whole[of[copier]]),
        copier_split=float(split[of[copier]]),
        copied=float(whole[of[copied]]),
    )


def lexical_scores(
    *, model: LoadedModel, items: Sequence[IndexItem], queries: Sequence[Example], cache: Path
) -> Array | None:
    """Holders' scores by similarity of wording, (Q, C), undivided; None where items have no words."""
    config = scorers.IndexConfig("lexical")
    asked = [config.sha256, [(told(item.example), item.holder_id, item.cluster_id) for item in items]]
    path = cache / f"lexical-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}"
    try:
        if path.exists():
            index = scorers.open_attributor(path, model=model)
        else:
            index = scorers.build(path, model=model, items=items, config=config)
        scores = index.score(index.embed(queries))
    except (scorers.UnableToBuildIndex, scorers.UnableToEmbed):
        return None
    return np.asarray(scores.specific + scores.general, dtype=np.float64)


def embedding_scores(
    *, model: LoadedModel, items: Sequence[IndexItem], holder_ids: Sequence[int], queries: Sequence[Example]
) -> Array | None:
    """Compute holders' scores (Q, C) by cosine of embeddings: the inputs of the last Linear layer, mean over positions.
    None where the model has no such layer."""
    if not _linear_layers(model):
        return None
    found = F.normalize(_hidden(model, [item.example for item in items]), dim=1)
    sums = torch.zeros(len(holder_ids), found.shape[1])
    place = {holder: row for row, holder in enumerate(holder_ids)}
    sums.index_add_(0, torch.tensor([place[item.holder_id] for item in items]), found)
    return np.asarray((F.normalize(_hidden(model, queries), dim=1) @ sums.T).double().numpy())


@torch.no_grad()
def _hidden(model: LoadedModel, examples: Sequence[Example]) -> Tensor:
    """(n, width). Examples of one length share a batch, so that no padding is averaged in."""
    last = _linear_layers(model)[-1]
    read: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        read[:] = [inputs[0]]

    handle = last.register_forward_pre_hook(keep)
    out: dict[int, Tensor] = {}
    try:
        by_length: dict[int, list[int]] = {}
        for position, example in enumerate(examples):
            by_length.setdefault(len(example.tokens), []).append(position)
        for positions in by_length.values():
            for start in range(0, len(positions), BATCH):
                chosen = positions[start : start + BATCH]
                model.adapter.utility([examples[position] for position in chosen])
                means = read[0].reshape(len(chosen), -1, read[0].shape[-1]).mean(1)
                out.update(zip(chosen, means, strict=True))
    finally:
        handle.remove()
    return torch.stack([out[position] for position in range(len(examples))])


def _linear_layers(model: LoadedModel) -> list[nn.Linear]:
    left_out = model.adapter.left_out
    return [
        layer
        for name, layer in model.adapter.module.named_modules()
        if isinstance(layer, nn.Linear) and name not in left_out
    ]


def _noise(present: Sequence[IndexItem], count: int, seed: int) -> list[Example]:
    """Items of the usual length, each token drawn alike from all that occur."""
    chance = random.Random(seed)
    known = sorted({token for item in present for token in item.example.tokens})
    drawn = (present[chance.randrange(len(present))].example for _ in range(count))
    return [replace(example, tokens=tuple(chance.choice(known) for _ in example.tokens)) for example in drawn]


def _trained(retrain: Retrain, examples: Sequence[Example], seed: int, path: Path) -> dict[str, Tensor]:
    if not path.exists():
        torch.manual_seed(seed)
        draft = path.with_name(f".{path.name}")
        save_file(own_state(retrain(examples, seed).module), draft)
        draft.replace(path)
    return load_file(path)
