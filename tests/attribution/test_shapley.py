"""Holders' sums: additive, so that neither splitting an account nor handing a work in twice pays."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.shapley import NO_CLUSTER, add_to_sums, divide, ensemble, own


def sums_of(features: torch.Tensor, holders: list[int], clusters: list[int] | None = None) -> torch.Tensor:
    clusters = clusters or [NO_CLUSTER] * len(holders)
    owned = own(torch.tensor(holders), torch.tensor(clusters))
    sums = torch.zeros(max(holders) + 1, *features.shape[1:], dtype=torch.float64)
    add_to_sums(sums, features, owned, start=0)
    return sums


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_splitting_an_account_changes_no_total(seed: int, items: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    features = torch.randn(items, 5, generator=chance)
    queries = torch.randn(3, 5, generator=chance).double()
    whole = sums_of(features, [0] * items) @ queries.T
    split = sums_of(features, [position % 3 for position in range(items)]) @ queries.T
    torch.testing.assert_close(split.sum(0), whole[0], rtol=0, atol=1e-6)


def test_sums_in_pieces_are_the_sums_of_the_whole() -> None:
    features = torch.randn(7, 2, 3)
    rows, clusters = torch.tensor([0, 1, 0, 2, 1, 2, 0]), torch.tensor([-1, 4, 4, -1, 9, 9, 9])
    owned = own(rows, clusters)
    pieces = torch.zeros(3, 2, 3, dtype=torch.float64)
    for start in range(0, 7, 2):
        add_to_sums(pieces, features[start : start + 2], owned, start=start)
    torch.testing.assert_close(pieces, sums_of(features, rows.tolist(), clusters.tolist()))


def test_a_cluster_counts_in_equal_parts_for_its_distinct_holders() -> None:
    features = torch.tensor([[6.0], [6.0], [1.0], [3.0]])
    found = sums_of(features, [0, 1, 0, 2], [5, 5, NO_CLUSTER, NO_CLUSTER])
    assert found.flatten().tolist() == [7.0, 6.0, 3.0]


def test_handing_a_copy_in_again_under_the_same_account_makes_no_second_part() -> None:
    features = torch.tensor([[6.0], [6.0], [6.0]])
    once = sums_of(features[:2], [0, 1], [5, 5])
    thrice = sums_of(features, [0, 1, 1], [5, 5, 5])
    assert once.flatten().tolist() == [6.0, 6.0]
    assert thrice.flatten().tolist() == [9.0, 9.0]


def test_nothing_is_lost_in_clusters() -> None:
    chance = torch.Generator().manual_seed(0)
    features = torch.randn(60, 4, generator=chance)
    holders = torch.randint(0, 7, (60,), generator=chance).tolist()
    clusters = torch.randint(-1, 9, (60,), generator=chance).tolist()
    torch.testing.assert_close(sums_of(features, holders, clusters).sum(0), features.double().sum(0))


def test_general_and_specific_are_the_undivided_value() -> None:
    sums, queries, mean = torch.randn(2, 4, 3), torch.randn(5, 2, 3), torch.randn(2, 3)
    found = divide(sums, queries, mean)
    undivided = torch.einsum("mck,bmk->bmc", sums, queries)
    torch.testing.assert_close(found.general + found.specific, undivided)


def test_the_standard_error_is_that_of_the_mean_over_members() -> None:
    mean, error = ensemble(torch.tensor([[1.0], [3.0], [5.0]]))
    assert mean.tolist() == [3.0]
    assert error.item() == pytest.approx(2 / 3**0.5)


def test_a_single_member_shows_no_error() -> None:
    mean, error = ensemble(torch.tensor([[1.0, 2.0]]))
    assert (mean.tolist(), error.tolist()) == ([1.0, 2.0], [0.0, 0.0])
