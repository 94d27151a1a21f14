"""Holders' scores: additive, so that neither splitting an account nor handing a work in twice pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from influence.index.shards import Items, write_shard
from influence.index.sums import NO_CLUSTER, HolderSums, owners_of_clusters, ownership, sum_by_holder
from influence.shapley import ensemble, scores


def labels_of(holders: list[int], clusters: list[int] | None = None) -> np.ndarray:
    works = list(range(len(holders)))
    return np.array([holders, works, clusters or [NO_CLUSTER] * len(holders)], dtype=np.int64)


def sums_of(features: np.ndarray, holders: list[int], clusters: list[int] | None = None) -> dict[int, list[float]]:
    """Sum each holder's features (n, k), straight from the list of owners."""
    labels = labels_of(holders, clusters)
    total: dict[int, np.ndarray] = {}
    for row, holder, part in zip(*ownership(labels, owners_of_clusters(labels)), strict=True):
        total[int(holder)] = total.get(int(holder), np.zeros(features.shape[1])) + part * features[row]
    return {holder: found.tolist() for holder, found in sorted(total.items())}


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_splitting_an_account_changes_no_total(seed: int, items: int) -> None:
    features = np.random.default_rng(seed).normal(size=(items, 5))
    whole = sums_of(features, [0] * items)
    split = sums_of(features, [position % 3 for position in range(items)])
    np.testing.assert_allclose(np.sum(list(split.values()), axis=0), whole[0], rtol=0, atol=1e-6)


def test_a_cluster_counts_in_equal_parts_for_its_distinct_holders() -> None:
    features = np.array([[6.0], [6.0], [1.0], [3.0]])
    assert sums_of(features, [0, 1, 0, 2], [5, 5, NO_CLUSTER, NO_CLUSTER]) == {0: [7.0], 1: [6.0], 2: [3.0]}


def test_handing_a_copy_in_again_under_the_same_account_makes_no_second_part() -> None:
    features = np.array([[6.0], [6.0], [6.0]])
    assert sums_of(features[:2], [0, 1], [5, 5]) == {0: [6.0], 1: [6.0]}
    assert sums_of(features, [0, 1, 1], [5, 5, 5]) == {0: [9.0], 1: [9.0]}


def test_nothing_is_lost_in_clusters() -> None:
    chance = np.random.default_rng(0)
    features = chance.normal(size=(60, 4))
    found = sums_of(features, chance.integers(0, 7, 60).tolist(), chance.integers(-1, 9, 60).tolist())
    np.testing.assert_allclose(np.sum(list(found.values()), axis=0), features.sum(0))


@pytest.mark.parametrize("shards", [1, 3])
def test_sums_read_from_shards_are_those_of_their_rows(tmp_path: Path, shards: int) -> None:
    chance = np.random.default_rng(1)
    holders, clusters = sorted(chance.integers(0, 5, 60).tolist()), chance.integers(-1, 4, 60).tolist()
    features, labels = chance.normal(size=(60, 2, 3)).astype(np.float32), labels_of(holders, clusters)
    size = 60 // shards
    written = [
        write_shard(
            tmp_path, f"s{n}", features[n * size : (n + 1) * size], labels[:, n * size : (n + 1) * size], divisor=1
        )
        for n in range(shards)
    ]
    items = Items(tmp_path, written)
    found = sum_by_holder(items, items.alive, owners_of_clusters(labels))
    stored = np.concatenate([rows for _, rows in items.chunks(items.alive)]).reshape(60, 6)
    expected = sums_of(stored, holders, clusters)
    assert isinstance(found, HolderSums)
    assert found.holders.tolist() == list(expected)
    np.testing.assert_allclose(found.sums.reshape(-1, 6), list(expected.values()), rtol=1e-12)
    np.testing.assert_allclose(stored, features.reshape(60, 6), atol=float(np.abs(features).max()) / 127)


def test_scores_are_inner_products_member_by_member() -> None:
    chance = torch.Generator().manual_seed(3)
    sums, queries = torch.randn(2, 5, 4, generator=chance), torch.randn(3, 2, 4, generator=chance)
    found = scores(sums, queries)
    assert found.shape == (3, 2, 5)
    torch.testing.assert_close(found[1, 1, 2], sums[1, 2] @ queries[1, 1])


def test_the_standard_error_is_that_of_the_mean_over_members() -> None:
    mean, se = ensemble(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert mean.tolist() == [2.0, 5.0]
    assert se.tolist() == pytest.approx([1.0, 0.0])
    assert ensemble(torch.tensor([[1.0, 5.0]]))[1].tolist() == [0.0, 0.0]
