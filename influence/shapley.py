"""Features to contributor scores: products with holders' sums, so that a value does not depend on how works are split.

The value of holder c for query q is the signed sum of its items' inner products with q. It is therefore one product of
two matrices, (C, K) and (K, B), for any number of works. Sums are made in sums.py; clipping happens later and once per
generation (shares.py). Knows nothing of files or Django. Faithful Group Shapley: arXiv 2505.19013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Groups = Sequence[Sequence[int]]
"""Ids of holders that count as one, group by group; no holder is in two of them."""


@dataclass(frozen=True, slots=True)
class Divided:
    """Scores of M members, apart: a holder's general influence (M, C), and its influence on each query (B, M, C)."""

    general: Tensor
    specific: Tensor

    def with_groups(self, holder_ids: Sequence[int], groups: Groups) -> Divided:
        both = (with_groups(scores, holder_ids, groups) for scores in (self.general, self.specific))
        return Divided(*both)


def scores(sums: Tensor, queries: Tensor) -> Tensor:
    """Sums (M, C, K) and queries (B, M, K) to scores (B, M, C), each member apart."""
    # A product with two columns is read through once; one with a single column takes twice as long (measured on x86).
    wide = torch.cat([queries, queries]) if len(queries) == 1 else queries
    by_member = [(of_member @ wide[:, member].T).T for member, of_member in enumerate(sums)]
    return torch.stack(by_member, 1)[: len(queries)]


def with_groups(scores: Tensor, holder_ids: Sequence[int], groups: Groups) -> Tensor:
    """Scores (..., C) of holders, ascending, with a column more for each group: its holders' sum (..., C + G).

    Added before anything is averaged, so that a group has the mean and the error of one holder with all the works.
    """
    if not groups:
        return scores
    grouped = [holder for holders in groups for holder in holders]
    columns = torch.from_numpy(np.searchsorted(np.asarray(holder_ids), np.asarray(grouped)))
    group = torch.repeat_interleave(torch.tensor([len(holders) for holders in groups]))
    sums = torch.zeros(*scores.shape[:-1], len(groups), dtype=torch.float64)
    sums.index_add_(-1, group, scores[..., columns].double())
    return torch.cat([scores, sums.to(scores.dtype)], -1)


def ensemble(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over members (..., M, C) -> (..., C) and its standard error; a single member has none to show, hence 0."""
    members = scores.shape[-2]
    mean = scores.mean(-2)
    if members == 1 or not mean.numel():
        return mean, torch.zeros_like(mean)
    return mean, scores.std(-2, correction=1) / members**0.5
