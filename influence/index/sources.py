"""Sources of training items: anything that is numbered from 0 and read a part at a time, or a list in memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from influence.adapters import Example
from influence.index import sums
from influence.index.shards import Array


@dataclass(frozen=True, slots=True)
class IndexItem:
    """A training item, the work it was cut from, the holder of the work and the work's duplicate cluster, if any."""

    example: Example
    work_id: int
    holder_id: int
    cluster_id: int | None = None


class Source(Protocol):
    """The training items, numbered from 0, wherever they are: a build asks for a part of them at a time."""

    @property
    def sha256(self) -> str:
        """Changes with anything that the build would read."""
        ...

    def __len__(self) -> int: ...

    def labels(self) -> Array:
        """(3, n) int64: holder, work and cluster of each item."""
        ...

    def examples(self, positions: Sequence[int]) -> list[Example]: ...


class Listed:
    """Items that are in memory already."""

    def __init__(self, items: Sequence[IndexItem]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256(self.labels().tobytes())
        for item in self._items:
            digest.update(array("q", (item.example.prompt_tokens, *item.example.tokens)).tobytes())
            digest.update(item.example.data)
        return digest.hexdigest()

    def labels(self) -> Array:
        clusters = (sums.NO_CLUSTER if item.cluster_id is None else item.cluster_id for item in self._items)
        rows = [(item.holder_id, item.work_id, cluster) for item, cluster in zip(self._items, clusters, strict=True)]
        return np.array(rows, dtype=np.int64).reshape(-1, 3).T

    def examples(self, positions: Sequence[int]) -> list[Example]:
        return [self._items[position].example for position in positions]


def source_of(items: Sequence[IndexItem] | Source) -> Source:
    return Listed(items) if isinstance(items, Sequence) else items


def read_all(source: Source) -> list[IndexItem]:
    """Every item, brought into memory."""
    return [
        IndexItem(example, work_id=work, holder_id=holder, cluster_id=None if cluster == sums.NO_CLUSTER else cluster)
        for example, (holder, work, cluster) in zip(
            source.examples(range(len(source))), source.labels().T.tolist(), strict=True
        )
    ]
