"""Features to contributor scores: products with holders' sums, so that a value does not depend on how works are split.

The value of holder c for query q is the signed sum of its items' inner products with q, hence one product of two
matrices, (C, K) and (K, B), whatever the number of works. Sums are made in sums.py; clipping happens later and once per
generation (shares.py). Knows nothing of files or Django. Faithful Group Shapley: arXiv 2505.19013.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Divided:
    """Scores of M members, apart: what a holder taught in general (M, C), and about each query (B, M, C)."""

    general: Tensor
    specific: Tensor


def scores(sums: Tensor, queries: Tensor) -> Tensor:
    """Sums (M, C, K) and queries (B, M, K) to scores (B, M, C), each member apart."""
    # A product with two columns is read through once; one with a single column takes twice as long (measured on x86).
    wide = torch.cat([queries, queries]) if len(queries) == 1 else queries
    by_member = [(of_member @ wide[:, member].T).T for member, of_member in enumerate(sums)]
    return torch.stack(by_member, 1)[: len(queries)]


def ensemble(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over members (..., M, C) -> (..., C) and its standard error; a single member has none to show, hence 0."""
    members = scores.shape[-2]
    mean = scores.mean(-2)
    if members == 1:
        return mean, torch.zeros_like(mean)
    return mean, scores.std(-2, correction=1) / members**0.5
