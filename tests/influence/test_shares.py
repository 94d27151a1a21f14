"""Shares are exact integers that anybody can compute again from the stored values."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from influence.shares import BILLION, GroupScore, Shares, UnableToShare, apportion_scores, recompute

scores = st.lists(
    st.tuples(
        st.floats(-10, 10, allow_nan=False, width=32), st.floats(0, 5, allow_nan=False, allow_subnormal=False, width=32)
    ),
    min_size=0,
    max_size=40,
)


def share(values: list[float], errors: list[float] | None = None, *, noise_z: float = 2.0, key: str = "g") -> Shares:
    return apportion_scores(
        holder_ids=range(1, len(values) + 1),
        scores=values,
        standard_errors=errors if errors is not None else [0.0] * len(values),
        noise_z=noise_z,
        key=key,
    )


@given(scores, st.sampled_from([0.0, 1.0, 2.0, 2.5]), st.text(max_size=5))
def test_shares_sum_to_a_billion_and_recompute_to_the_same_integers(
    rows: list[tuple[float, float]], noise_z: float, key: str
) -> None:
    values, errors = [value for value, _ in rows], [error for _, error in rows]
    found = share(values, errors, noise_z=noise_z, key=key)
    assert sum(found.ppb) + found.unattributed_ppb == BILLION
    assert all(part >= 0 for part in found.ppb)
    assert all(part == 0 for part, value in zip(found.ppb, values, strict=True) if value <= 0)
    assert recompute(
        holder_ids=found.holder_ids,
        scores=values,
        standard_errors=errors,
        noise_z=noise_z,
        key=key,
        stored=found,
    )


@given(st.lists(st.floats(-1, 1, width=64), min_size=1, max_size=20))
def test_what_a_float4_column_gives_back_leads_to_the_same_integers(values: list[float]) -> None:
    # PostgreSQL prints a float4 by its shortest decimal, which Python reads as another double.
    stored = [struct.unpack("<f", struct.pack("<f", value))[0] for value in values]
    read_back = [float(f"{value:.9g}") for value in stored]
    assert share(values) == share(stored) == share(read_back)


@given(scores)
def test_the_order_of_holders_changes_nobodys_share(rows: list[tuple[float, float]]) -> None:
    holders = list(range(len(rows)))

    def by_holder(order: list[int]) -> dict[int, int]:
        found = apportion_scores(
            holder_ids=order,
            scores=[rows[holder][0] for holder in order],
            standard_errors=[rows[holder][1] for holder in order],
            noise_z=2,
            key="k",
        )
        return dict(zip(found.holder_ids, found.ppb, strict=True))

    assert by_holder(holders) == by_holder(holders[::-1])


@given(scores, st.integers(0, 39), st.sampled_from([0.0, 2.0]))
def test_splitting_an_account_in_halves_changes_nobodys_share_but_for_rounding(
    rows: list[tuple[float, float]], place: int, noise_z: float
) -> None:
    """A half of the works has half of the score in every member of the ensemble, hence half of the error."""
    # Powers of two are halved exactly, down to where a float4 ends.
    rows = [row if abs(row[0]) > 1e-30 and (row[1] > 1e-30 or not row[1]) else (0.0, 0.0) for row in rows]
    if not rows:
        return
    place %= len(rows)
    whole = share([value for value, _ in rows], [error for _, error in rows], noise_z=noise_z)
    halved = [(value / 2, error / 2) for value, error in (rows[place], rows[place])]
    split_rows = [*rows[:place], *halved, *rows[place + 1 :]]
    split = share([value for value, _ in split_rows], [error for _, error in split_rows], noise_z=noise_z)
    parts = [*split.ppb[:place], sum(split.ppb[place : place + 2]), *split.ppb[place + 2 :]]
    assert all(abs(one - other) <= 2 for one, other in zip(whole.ppb, parts, strict=True))
    assert abs(whole.unattributed_ppb - split.unattributed_ppb) <= 2


@given(scores, st.integers(0, 39))
def test_a_copy_with_the_score_of_its_twin_gets_what_its_twin_gets(rows: list[tuple[float, float]], place: int) -> None:
    if not rows:
        return
    twins = [*rows, rows[place % len(rows)]]
    found = share([value for value, _ in twins], [error for _, error in twins])
    assert abs(found.ppb[place % len(rows)] - found.ppb[-1]) <= 1


def test_shares_are_in_proportion_to_positive_scores() -> None:
    assert share([3.0, 1.0, -2.0]) == Shares((1, 2, 3), (750_000_000, 250_000_000, 0), 0)


def test_a_score_in_the_noise_is_unattributed_and_makes_nobody_elses_share_larger() -> None:
    found = share([3.0, 1.0], [1.0, 0.6], noise_z=2)
    assert found == Shares((1, 2), (750_000_000, 0), 250_000_000)


def test_a_score_of_exactly_the_noise_floor_counts() -> None:
    assert share([1.0, 1.0], [0.5, 0.0]).unattributed_ppb == 0


def test_nobody_positive_leaves_everything_unattributed() -> None:
    assert share([-1.0, 0.0]) == Shares((1, 2), (0, 0), BILLION)
    assert share([]) == Shares((), (), BILLION)


def test_equal_remainders_fall_by_the_key_and_not_by_position() -> None:
    winners = {share([1.0, 1.0, 1.0], key=f"generation-{number}").ppb.index(333_333_334) for number in range(40)}
    assert winners == {0, 1, 2}
    assert share([1.0, 1.0, 1.0], key="same") == share([1.0, 1.0, 1.0], key="same")


@pytest.mark.parametrize(
    ("values", "errors"),
    [([math.nan], [0.0]), ([math.inf], [0.0]), ([1.0], [math.nan]), ([1.0], [-1.0]), ([1.0], []), ([1e300], [0.0])],
)
def test_what_is_not_a_score_is_refused(values: list[float], errors: list[float]) -> None:
    with pytest.raises(UnableToShare):
        share(values, errors)


def test_a_holder_given_twice_is_refused() -> None:
    with pytest.raises(UnableToShare, match="twice"):
        apportion_scores(holder_ids=[1, 1], scores=[1.0, 1.0], standard_errors=[0.0, 0.0], noise_z=2, key="k")


@given(scores, scores)
def test_holders_that_count_as_one_get_together_what_one_holder_in_their_place_would(
    linked: list[tuple[float, float]], others: list[tuple[float, float]]
) -> None:
    linked = [(1.0, 0.0), (-0.5, 0.0), *linked]
    of_group, ids = sum(score for score, _ in linked), [1, *range(100, 100 + len(others))]
    one = apportion_scores(
        holder_ids=ids,
        scores=[of_group, *(score for score, _ in others)],
        standard_errors=[0.25, *(error for _, error in others)],
        noise_z=2.0,
        key="g",
    )
    members = range(1, 1 + len(linked))
    found = apportion_scores(
        holder_ids=[*members, *ids[1:]],
        scores=[score for score, _ in linked + others],
        standard_errors=[error for _, error in linked + others],
        noise_z=2.0,
        key="g",
        groups=[GroupScore(tuple(members), of_group, 0.25)],
    )
    assert sum(found.ppb[: len(linked)]) == one.ppb[0]
    assert found.ppb[len(linked) :] == one.ppb[1:]
    assert all(not part for part, (score, _) in zip(found.ppb, linked, strict=False) if score <= 0)
