"""Closeness of scores to the truth: rank correlations over retrained models, and the shares contributors would get."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from influence.evaluation.agreement import rank_correlations
from influence.index.shards import Array


@dataclass(frozen=True)
class Scored:
    """Scores of a method for each query: of every contributor (Q, C) and, where it can tell, of every item (Q, N)."""

    name: str
    kind: str
    """ours, library or baseline."""
    contributors: Array
    items: Array | None = None
    specific: Array | None = None
    """(Q, C) beyond the average generation; where a method has no such notion, less the mean over own generations."""
    general: Array | None = None
    """(C,)"""
    standard_errors: Array | None = None
    """(Q, C), of specific scores over an ensemble."""
    costs: dict[str, float] = field(default_factory=dict)
    """CPU seconds of the build and of a query, bytes an item."""


def lds(predicted: Array, actual: Array) -> float:
    """Mean over queries of the rank correlation over retrained models; both (models, queries)."""
    return float(rank_correlations(predicted, actual).mean())


def positive_shares(scores: Array) -> Array:
    """(Q, C) to shares of each query's pool: the positive part, divided by its sum."""
    positive = np.clip(scores, 0, None)
    total = positive.sum(1, keepdims=True)
    return np.asarray(np.divide(positive, total, out=np.zeros_like(positive), where=total > 0))


def by_query(scores: Array, truth: Array) -> float:
    """Mean over queries of the rank correlation over contributors, (Q, C) each."""
    return float(rank_correlations(scores.T, truth.T).mean())
