"""Tributary's own methods and the simple baselines, on the same checkpoints and items as the libraries."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.attribution.measures import Scored
from influence import scorers
from influence.adapters import Example, LoadedModel
from influence.gradients import tracing
from influence.index.config import IndexConfig
from influence.index.reader import Index
from influence.index.shards import Array
from influence.scorers import IndexItem
from influence.scorers.hybrid import HybridIndex

ONE_QUERY_RUNS = 15
PLAIN = torch.zeros(0)
"""Instead of an eigenbasis: gradients as they are."""


@dataclass(frozen=True)
class Setting:
    """One model with everything that is asked about it."""

    model: LoadedModel
    items: Sequence[IndexItem]
    queries: Sequence[Example]
    own: slice
    """Which queries are the model's own generations: their mean is the average generation."""
    contributors: int
    scratch: Path

    @property
    def examples(self) -> list[Example]:
        return [item.example for item in self.items]

    @property
    def owned(self) -> Array:
        """(N, C): one where the item is the contributor's."""
        owned = np.zeros((len(self.items), self.contributors))
        owned[np.arange(len(self.items)), [item.holder_id for item in self.items]] = 1
        return owned

    def scored(self, name: str, kind: str, items: Array, **costs: float) -> Scored:
        """A method that scores every item of every query, (Q, N)."""
        by_contributor = items @ self.owned
        mean = by_contributor[self.own].mean(0)
        return Scored(name, kind, by_contributor, items, by_contributor - mean, mean, costs=costs)


@dataclass(frozen=True)
class Built:
    """An index of the product with its cost, in CPU seconds."""

    index: Any
    seconds: float
    bytes_per_item: float
    gradient_seconds: float
    """Of the part that is the midpoint's: of a hybrid, without its wording."""


def build(setting: Setting, config: IndexConfig, *, mean_of: Sequence[Example] = ()) -> Built:
    directory = setting.scratch / config.sha256[:12]
    shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(directory.with_name(f".{directory.name}.parts"), ignore_errors=True)
    started = time.process_time()
    part, gradients = scorers.gradient_part(directory, config), 0.0
    if part is not None:
        part[0].parent.mkdir(parents=True, exist_ok=True)
        scorers.build(part[0], model=setting.model, items=setting.items, config=part[1], mean_of=mean_of)
        gradients = time.process_time() - started
    if directory.exists():
        index = scorers.open_attributor(directory, model=setting.model)
    else:
        index = scorers.build(directory, model=setting.model, items=setting.items, config=config, mean_of=mean_of)
    seconds = time.process_time() - started
    kept = sum(path.stat().st_size for path in directory.rglob("items-*"))
    return Built(index, seconds, kept / len(setting.items), gradients)


def from_index(setting: Setting, name: str, built: Built) -> Scored:
    """Score with an opened index, and measure the cost of one query from text to scores."""
    index = built.index
    started = time.process_time()
    features = index.embed(setting.queries)
    scores = index.score(features)
    together = time.process_time() - started
    alone = []
    for query in setting.queries[:ONE_QUERY_RUNS]:
        started = time.process_time()
        index.score(index.embed([query]))
        alone.append(time.process_time() - started)
    items = _item_scores(index, features) if isinstance(index, Index) else None
    return Scored(
        name,
        "ours",
        (scores.specific + scores.general).astype(np.float64),
        items,
        scores.specific.astype(np.float64),
        scores.general.astype(np.float64),
        scores.specific_se.astype(np.float64),
        {
            "build": built.seconds,
            "queries": together,
            "query": float(np.median(alone)),
            "bytes": built.bytes_per_item,
        },
    )


def hybrid_with(setting: Setting, index: HybridIndex, name: str, weight: float) -> Scored:
    """A hybrid index as it would be with another weight of the wording."""
    scores = index.score(index.embed(setting.queries), lexical_weight=weight)
    undivided, specific = scores.specific + scores.general, scores.specific
    return Scored(name, "ours", undivided.astype(np.float64), None, specific.astype(np.float64), scores.general)


def _item_scores(index: Index, features: Array) -> Array:
    """(Q, N), of the stored int8 rows, mean over the ensemble."""
    queries = features.reshape(len(features), -1) / features.shape[1]
    found = [part.reshape(len(part), -1) @ queries.T for part in index.item_features()]
    return np.asarray(np.concatenate(found).T, dtype=np.float64)


# --- baselines ------------------------------------------------------------------------------------------------------
def pro_rata(setting: Setting) -> Scored:
    return setting.scored(
        "pro rata by number of items", "baseline", np.ones((len(setting.queries), len(setting.items)))
    )


def cosine(setting: Setting, embed: Any) -> Scored:
    """Of the model's own last hidden states, mean over positions: `embed` (examples) -> (n, width)."""
    started = time.process_time()
    items = torch.nn.functional.normalize(embed(setting.examples), dim=1)
    build = time.process_time() - started
    queries = torch.nn.functional.normalize(embed(setting.queries), dim=1)
    found = (queries @ items.T).double().numpy()
    took = time.process_time() - started - build
    return setting.scored(
        "embedding cosine", "baseline", found, build=build, query=took / len(found), bytes=4 * items.shape[1]
    )


def gradient_dots(setting: Setting) -> Scored:
    """Inner products of plain gradients over the traced layers, nothing whitened."""
    started = time.process_time()
    with tracing.Tracer(setting.model.adapter, state=setting.model.checkpoints[-1]) as tracer:
        queries = _gradients(tracer, setting.queries)
        parts = [queries @ _gradients(tracer, chosen).T for chosen in _cut(setting.examples, 64)]
    found = torch.cat(parts, 1).double().numpy()
    took = time.process_time() - started
    return setting.scored(
        "gradient dot product", "baseline", found, build=0.0, query=took / len(found), bytes=4 * queries.shape[1]
    )


def _gradients(tracer: tracing.Tracer, examples: Sequence[Example]) -> Tensor:
    rows = []
    for chosen in _cut(examples, 64):
        traced = tracer.run(lambda adapter, chosen=chosen: adapter.utility(chosen))  # type: ignore[misc]
        rows.append(torch.cat([layer.rotated(PLAIN, PLAIN).flatten(1) for layer in traced.values()], 1))
    return torch.cat(rows)


def _cut(examples: Sequence[Example], size: int) -> list[Sequence[Example]]:
    return [examples[start : start + size] for start in range(0, len(examples), size)]
