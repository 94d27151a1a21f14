"""Features to contributor scores: sums over items, so that a holder's value does not depend on how its works are split.

The value of holder c for query q is the signed sum of its items' inner products with q, hence one product of two
matrices, (C, K) and (K, B), whatever the number of works. Clipping happens later and once per generation (shares.py).
Knows nothing of files or Django. Faithful Group Shapley: arXiv 2505.19013.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NO_CLUSTER = -1


@dataclass(frozen=True, slots=True)
class Divided:
    """Scores of M members, apart: what a holder taught in general (M, C), and about each query (B, M, C)."""

    general: Tensor
    specific: Tensor


@dataclass(frozen=True, slots=True)
class Ownership:
    """Which part of which item counts for which holder: parallel vectors, ordered by item."""

    items: Tensor
    holders: Tensor
    parts: Tensor


def own(holder_rows: Tensor, clusters: Tensor) -> Ownership:
    """Ownership of N items, given each one's holder (a row number) and duplicate cluster (or NO_CLUSTER).

    An item of a cluster counts for every distinct holder of the cluster in equal parts: copies are merged before
    anything is clipped, and linearly, so that nobody gains by handing a work in twice.
    """
    items = torch.arange(len(holder_rows))
    alone = clusters == NO_CLUSTER
    names, of_item = torch.unique(clusters[~alone], return_inverse=True)
    pairs = torch.unique(torch.stack([of_item, holder_rows[~alone]], 1), dim=0)
    owners = torch.bincount(pairs[:, 0], minlength=len(names))
    first = owners.cumsum(0) - owners
    times = owners[of_item]
    # Item by item, the owners of its cluster: pairs are ordered by cluster, so that each cluster's are a range.
    within = torch.arange(int(times.sum())) - (times.cumsum(0) - times).repeat_interleave(times)
    shared = pairs[first[of_item].repeat_interleave(times) + within, 1]
    everything = torch.cat([items[alone], items[~alone].repeat_interleave(times)])
    holders = torch.cat([holder_rows[alone], shared])
    parts = torch.cat([torch.ones(int(alone.sum())), 1 / times.repeat_interleave(times)]).double()
    order = everything.argsort(stable=True)
    return Ownership(everything[order], holders[order], parts[order])


def add_to_sums(sums: Tensor, features: Tensor, owned: Ownership, *, start: int) -> None:
    """Add items `start`, `start + 1`, ... with features (n, ...) to the holders' sums (C, ...), float64, in place."""
    first, last = torch.searchsorted(owned.items, torch.tensor([start, start + len(features)])).tolist()
    chosen = features.double()[owned.items[first:last] - start]
    parts = owned.parts[first:last].view(-1, *[1] * (features.dim() - 1))
    sums.index_add_(0, owned.holders[first:last], chosen * parts)


def divide(sums: Tensor, queries: Tensor, mean_query: Tensor) -> Divided:
    """Sums (M, C, K), queries (B, M, K), mean query (M, K); general plus specific is the undivided value, exactly."""
    general = torch.einsum("mck,mk->mc", sums, mean_query)
    specific = torch.einsum("mck,bmk->bmc", sums, queries - mean_query)
    return Divided(general, specific)


def ensemble(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over members (..., M, C) -> (..., C) and its standard error; a single member has none to show, hence 0."""
    members = scores.shape[-2]
    mean = scores.mean(-2)
    if members == 1:
        return mean, torch.zeros_like(mean)
    return mean, scores.std(-2, correction=1) / members**0.5
