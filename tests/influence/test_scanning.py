"""Of many rows the leading works are found by a rough pass first: the same works, with the same scores, as without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from influence.index import scan
from influence.index.shards import Array, Items, Shard, write_shard

K = 48
ITEMS = 20_000


def shard(directory: Path, number: int, works: Array, *, members: int, chance: np.random.Generator) -> Shard:
    """Of one holder. Some works are like each other, so that a rough score cannot tell them apart."""
    rows = chance.standard_normal((len(works), members, K), dtype=np.float32)
    rows[::7] = rows[0] + 1e-3 * rows[::7]
    labels = np.stack([np.full(len(works), 5), works, np.full(len(works), -1)])
    return write_shard(directory, f"items-{number:05d}", rows, labels, divisor=100)


def items(directory: Path, *parts: Array, members: int = 2, removed: Array | None = None) -> Items:
    chance = np.random.default_rng(0)
    return Items(
        directory,
        [shard(directory, number, part, members=members, chance=chance) for number, part in enumerate(parts)],
        removed,
    )


def queries(count: int, members: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).standard_normal((count, members, K), dtype=np.float32))


def best(found: tuple[Array, Array], n: int) -> list[tuple[list[int], Array]]:
    works, scores = found
    order = (-scores).argsort(axis=0, kind="stable")[:n]
    return [(works[places].tolist(), scores[places, column]) for column, places in enumerate(order.T)]


PARTS = {
    "one item a work": (np.arange(ITEMS // 2), np.arange(ITEMS // 2, ITEMS)),
    "works of three items, cut by the end of a shard": tuple(np.split(np.arange(ITEMS) // 3, [ITEMS // 2])),
    "a work longer than a shard": (
        np.repeat([1, 2], [1, ITEMS // 3]),
        np.repeat([2], [100]),
        np.repeat([2, 3], [100, 1]),
        np.arange(4, ITEMS),
    ),
    "items added to works that were there": (np.arange(ITEMS), np.arange(0, ITEMS, 9)),
    "a single work": (np.zeros(ITEMS, dtype=np.int64),),
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize(("asked", "members"), [(1, 1), (3, 2)])
def test_the_leading_works_are_those_of_a_scan_of_everything(
    tmp_path: Path, parts: tuple[Array, ...], asked: int, members: int
) -> None:
    held = items(tmp_path, *parts, members=members)
    positions, of = held.of_holder(5), queries(asked, members)
    expected = best(scan.work_scores(held, positions, of), 5)
    found = best(scan.leading_works(held, positions, of, 5), 5)
    for (works, scores), (same, alike) in zip(expected, found, strict=True):
        assert works == same
        np.testing.assert_allclose(alike, scores, rtol=1e-4, atol=1e-6)


def test_a_work_leads_by_halves_on_both_sides_of_a_cut_of_which_neither_would(tmp_path: Path) -> None:
    works = np.split(np.concatenate([np.arange(ITEMS // 2), np.arange(ITEMS // 2 - 1, ITEMS - 1)]), 2)
    of, chance, shards = queries(1, 1), np.random.default_rng(0), []
    towards = of[0, 0].numpy() / float(of[0, 0].norm())
    for number, part in enumerate(works):
        rows = chance.standard_normal((ITEMS // 2, 1, K), dtype=np.float32)
        rows[-1 if number == 0 else 0] = 3 * towards
        labels = np.stack([np.full(len(part), 5), part, np.full(len(part), -1)])
        shards.append(write_shard(tmp_path, f"items-{number:05d}", rows, labels, divisor=100))
    held = Items(tmp_path, shards)
    positions = held.of_holder(5)
    items_alone = np.sort(scan.work_scores(Items(tmp_path, shards[:1]), positions[: ITEMS // 2], of)[1][:, 0])
    expected = best(scan.work_scores(held, positions, of), 5)
    assert expected[0][0][0] == works[0][-1], "It leads, and"
    assert 0.5 * expected[0][1][0] < items_alone[-6], "half of it is not among five."
    found = best(scan.leading_works(held, positions, of, 5), 5)
    assert found[0][0] == expected[0][0]
    np.testing.assert_allclose(found[0][1], expected[0][1], rtol=1e-4)


def test_what_was_taken_out_does_not_lead(tmp_path: Path) -> None:
    held = items(tmp_path, np.arange(ITEMS))
    leader = best(scan.leading_works(held, held.of_holder(5), queries(1), 1), 1)[0][0]
    without = Items(tmp_path, held.shards, np.array(leader))
    assert len(without.of_holder(5)) == ITEMS - 1 >= scan.ROUGH_FROM
    expected = best(scan.work_scores(without, without.of_holder(5), queries(1)), 5)
    found = best(scan.leading_works(without, without.of_holder(5), queries(1), 5), 5)
    assert leader[0] not in found[0][0]
    assert found[0][0] == expected[0][0]


@pytest.mark.parametrize("of", [queries(2), queries(2).bfloat16().float()], ids=["any", "exact in bfloat16"])
def test_no_rough_score_is_further_off_than_it_says(tmp_path: Path, of: torch.Tensor) -> None:
    held = items(tmp_path, np.arange(ITEMS))
    positions = held.of_holder(5)
    _, exact = scan.work_scores(held, positions, of)
    pieces = list(scan._pieces(held, positions, of))
    rough, errors = (np.hstack([getattr(piece, name) for piece in pieces]) for name in ("scores", "errors"))
    assert (np.abs(rough - exact.T) <= errors).all()
    assert np.median(errors) < 0.1 * exact.std(), "A bound that tells nothing apart would leave nothing out."


def test_most_items_are_left_out_of_the_second_pass(tmp_path: Path) -> None:
    held = items(tmp_path, np.arange(ITEMS))
    positions = held.of_holder(5)
    left = scan._leaders(held, positions, queries(1), 5)
    assert left is not None
    assert len(left) < ITEMS / 4
