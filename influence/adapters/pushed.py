"""Models that never leave their service: it computes features where the model runs, and reports them.

A model version of this kind is a directory of files. `items.npy` (N, M, K) float32 has the features of its
training items for M ensemble members, in the order of the manifest's ordinals, from 0. `mean_query.npy` (M, K) has the
mean features of the model's own generations. `features.json` is {"measures": "influence" or "similarity"}.

The inner product of an item's and a generation's features must be the item's value for the generation. The service
decides how to compute them, and receipts repeat its word on the measure. `write_features` writes such a directory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from influence.adapters import Example, LoadedModel, UnableToEmbed, Utilities, check_values, values_of

MEASURES = ("influence", "similarity")
ITEMS, MEAN_QUERY, DESCRIPTION = "items.npy", "mean_query.npy", "features.json"


class Pushed:
    """Adapter without a model: an item is its ordinal, a generation its reported features."""

    name = "pushed"
    left_out: frozenset[str] = frozenset()

    def __init__(self, items: Any, *, mean_query: Any, measures: str) -> None:
        self.module: nn.Module = nn.Identity()
        self.items = items
        self.mean_query = mean_query
        self.measures = measures
        self.shape: tuple[int, int] = items.shape[1:]

    def check(self, example: Example) -> None:
        if example.data:
            check_values(example, self.shape)
        elif len(example.tokens) != 1 or not 0 <= example.tokens[0] < len(self.items):
            raise UnableToEmbed(
                f"There are features of items 0 to {len(self.items) - 1}, not of {list(example.tokens)}."
            )

    def vectors(self, examples: Sequence[Example]) -> Tensor:
        """(B, M, K)."""
        for example in examples:
            self.check(example)
        rows = [
            values_of([each], self.shape)[0] if each.data else torch.tensor(np.array(self.items[each.tokens[0]]))
            for each in examples
        ]
        return torch.stack(rows)

    def utility(self, examples: Sequence[Example]) -> Utilities:
        raise UnableToEmbed("The model runs at its service: build its index with the attributor pushed.")

    def sampled_utility(self, examples: Sequence[Example], generator: torch.Generator) -> Utilities:
        return self.utility(examples)


def load(directory: Path) -> LoadedModel:
    """Load a directory of features: the factory `pushed`. Raises ValueError for another shape, type or measure."""
    directory = Path(directory)
    items = np.load(directory / ITEMS, mmap_mode="r")
    described = json.loads((directory / DESCRIPTION).read_text())
    if items.dtype != np.float32 or items.ndim != 3 or described.get("measures") not in MEASURES:
        raise ValueError(f"{ITEMS} must be float32 (N, M, K), and {DESCRIPTION} say what they measure: {MEASURES}.")
    mean_query = np.load(directory / MEAN_QUERY) if (directory / MEAN_QUERY).exists() else None
    if mean_query is not None and mean_query.shape != items.shape[1:]:
        raise ValueError(f"{MEAN_QUERY} must be {items.shape[1:]}, not {mean_query.shape}.")
    with (directory / ITEMS).open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").digest()
    return LoadedModel(
        adapter=Pushed(items, mean_query=mean_query, measures=described["measures"]),
        # In place of a checkpoint, which nobody here ever sees: the digest of the features computed with it.
        checkpoints=({"items.sha256": torch.tensor(list(digest), dtype=torch.uint8)},),
        initial=None,
    )


def write_features(directory: Path, *, items: Any, mean_query: Any | None, measures: str) -> None:
    """Write such a directory, once, where the model is: items (N, M, K) or (N, K), mean query (M, K) or (K,)."""
    directory.mkdir(parents=True, exist_ok=True)
    values = np.asarray(items, dtype=np.float32)
    values = values[:, None] if values.ndim == 2 else values
    np.save(directory / ITEMS, values)
    if mean_query is not None:
        np.save(directory / MEAN_QUERY, np.asarray(mean_query, dtype=np.float32).reshape(values.shape[1:]))
    (directory / DESCRIPTION).write_text(json.dumps({"measures": measures}))
