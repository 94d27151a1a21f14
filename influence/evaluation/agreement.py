"""Agreement of predictions with retrained models: rank correlations over coalitions, and their bootstrap bounds.

The correlation is Spearman's (1904). Bounds are percentiles of the bootstrap (Efron 1979).
"""

from __future__ import annotations

import numpy as np

from influence.index.shards import Array

BOOTSTRAPS = 2_000
BOOTSTRAPS_AT_ONCE = 50


def bootstrapped_lds(predicted: Array, actual: Array, *, seed: int) -> dict[str, float]:
    """LDS of predictions (coalitions, queries), with 5 % and 95 % bounds over both coalitions and queries.

    The few coalitions are the larger part of the uncertainty: drawing queries alone would promise too much.
    """
    chance = np.random.default_rng(seed)
    coalitions, queries = predicted.shape
    draws: list[float] = []
    while len(draws) < BOOTSTRAPS:
        rows = chance.multinomial(coalitions, [1 / coalitions] * coalitions, BOOTSTRAPS_AT_ONCE)
        columns = chance.multinomial(queries, [1 / queries] * queries, BOOTSTRAPS_AT_ONCE)
        correlations = _rank_correlations(predicted, actual, rows.astype(float))
        draws.extend((correlations * columns).sum(1) / queries)
    low, high = np.quantile(draws, [0.05, 0.95])
    lds = float(rank_correlations(predicted, actual).mean())
    return {"lds": round(lds, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def rank_correlations(predicted: Array, actual: Array) -> Array:
    """Spearman's rank correlation of each column, (queries,), over the rows (retrained models); ties share a rank."""
    found: Array = _rank_correlations(predicted, actual, np.ones((1, len(predicted))))[0]
    return found


def _rank_correlations(predicted: Array, actual: Array, weights: Array) -> Array:
    """Spearman's rank correlation of each column (queries), for each row of weights: how often a coalition was drawn.

    (D, queries) for weights (D, coalitions). A column without any order has no correlation, hence 0.
    """
    a, b = (_weighted_ranks(values, weights) for values in (predicted, actual))
    products = [(weights[:, :, None] * x * y).sum(1) for x, y in ((a, b), (a, a), (b, b))]
    norm = np.sqrt(products[1] * products[2])
    return np.asarray(products[0] / np.where(norm > 0, norm, 1.0))


def _weighted_ranks(values: Array, weights: Array) -> Array:
    """Mean ranks (D, n, queries) less their mean, ties shared, were row i of values there weights[d, i] times."""
    before = (values[:, None] < values) + 0.5 * (values[:, None] == values)
    ranks = np.tensordot(weights, before, 1)
    total = weights.sum(1)[:, None, None]
    return np.asarray(ranks - (weights[:, :, None] * ranks).sum(1, keepdims=True) / total)
