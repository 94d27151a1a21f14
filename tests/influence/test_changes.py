"""Works added to and taken out of an index: the sums are those of a fresh sum, after many changes too."""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from influence.adapters import LoadedModel
from influence.index.reader import (
    Index,
    IndexConfig,
    IndexItem,
    UnableToBuildIndex,
    build_index,
    condition_of,
    extend_index,
    open_index,
    remove_works,
)
from influence.index.shards import Items, Shard
from influence.index.sums import owners_of_clusters, sum_by_holder
from tests.worlds.small_model import HOLDERS, sentences, trained, training_items

CONFIG = IndexConfig(k=16, coordinates=200, fit_items=90, shard_items=40, batch=16)
QUERIES = [example for holder in range(HOLDERS) for example in sentences(holder, 2, seed=9)]


@pytest.fixture(scope="module")
def items() -> list[IndexItem]:
    """Works 100 and 102 of different holders are one cluster, 105 and 106 another."""
    clusters = {100: 1, 102: 1, 105: 2, 106: 2}
    return [dataclasses.replace(item, cluster_id=clusters.get(item.work_id)) for item in training_items()]


@pytest.fixture(scope="module")
def model(items: list[IndexItem]) -> LoadedModel:
    return trained(items)


@pytest.fixture(scope="module")
def built(model: LoadedModel, items: list[IndexItem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("changes") / "x"
    build_index(directory, model=model, items=items, config=CONFIG)
    return directory


@pytest.fixture
def path(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "x"))


def fresh_sums(index: Index) -> dict[int, np.ndarray]:
    """Every counting row of the index summed again, float64."""
    removed = index.manifest["removed_file"]
    items = Items(
        index.path,
        [Shard(**shard) for shard in index.manifest["shards"]],
        None if removed is None else np.load(index.path / removed),
    )
    found = sum_by_holder(items, items.alive, owners_of_clusters(items.labels_at(items.alive)))
    return dict(zip(found.holders.tolist(), found.sums, strict=True))


def assert_equals_a_fresh_sum(index: Index) -> None:
    expected = fresh_sums(index)
    assert index.holder_ids == tuple(sorted(expected))
    scores = index.score(index.embed(QUERIES))
    queries = index.embed(QUERIES) - index.mean_query
    again = np.einsum("cmk,bmk->bc", np.stack([expected[holder] for holder in index.holder_ids]), queries) / 2
    np.testing.assert_allclose(scores.specific, again, rtol=1e-5, atol=1e-6 * np.abs(again).max())


def test_after_many_additions_and_removals_the_sums_are_those_of_a_fresh_sum(
    path: Path, model: LoadedModel, items: list[IndexItem]
) -> None:
    chance = random.Random(7)
    by_work: dict[int, list[IndexItem]] = {}
    for item in items:
        by_work.setdefault(item.work_id, []).append(item)
    inside = set(by_work)
    index = open_index(path, model=model)
    for _ in range(25):
        outside = sorted(by_work.keys() - inside)
        if outside and (len(inside) < 4 or chance.random() < 0.5):
            chosen = chance.sample(outside, min(len(outside), chance.randint(1, 3)))
            index = extend_index(path, model=model, items=[item for work in chosen for item in by_work[work]])
            inside |= set(chosen)
        else:
            chosen = chance.sample(sorted(inside), chance.randint(1, 3))
            index = remove_works(path, work_ids=chosen, model=model)
            inside -= set(chosen)
        assert_equals_a_fresh_sum(index)
        assert index.manifest["counts"]["works"] == len(inside)
        assert index.manifest["counts"]["items"] == 6 * len(inside)
        assert index.manifest["counts"]["holders"] == len(index.holder_ids)
    assert index.revision == 26


def test_nothing_of_a_holder_is_left_after_it_is_removed_from_sums_a_million_times_its_own(
    path: Path, model: LoadedModel, items: list[IndexItem]
) -> None:
    """Subtract in float64: the remainder is exact though the removed part was large."""
    before = fresh_sums(open_index(path))
    heavy = [dataclasses.replace(item, work_id=900, holder_id=5) for item in items] * 20
    extend_index(path, model=model, items=heavy)
    index = remove_works(path, work_ids=[900], model=model)
    np.testing.assert_allclose(fresh_sums(index)[5], before[5], rtol=1e-12)
    assert_equals_a_fresh_sum(index)


def test_a_removal_reads_the_rows_of_the_removed_works_and_of_their_clusters_only(
    path: Path, model: LoadedModel
) -> None:
    expected = remove_works(Path(shutil.copytree(path, path.with_name("y"))), work_ids=[103], model=model)
    index = open_index(path)
    items = index._items
    # Rows nobody may need become nonsense that would spoil any sum they came into.
    kept = set(items.where(1, np.array([103])).tolist())
    spoil(index, kept)
    changed = np.load(expected.path / "change-0002.exact.npy")
    again = remove_works_unchecked(path)
    np.testing.assert_array_equal(np.load(again / "change-0002.exact.npy"), changed)
    assert np.isfinite(changed).all()


def spoil(index: Index, kept: set[int]) -> None:
    """Turn the scales of all rows but these into NaN; the manifest takes the result for the written data."""
    start = 0
    for shard in index.manifest["shards"]:
        path = index.path / f"{shard['name']}.scale.npy"
        scale = np.load(path)
        for row in range(len(scale)):
            if start + row not in kept:
                scale[row] = np.nan
        np.save(path, scale)
        start += len(scale)


def remove_works_unchecked(path: Path) -> Path:
    """Remove works as remove_works does, with the digests of the spoiled files."""
    import json

    from influence.index.artefacts import _entry

    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"] = {name: _entry(path / name) for name in manifest["files"]}
    (path / "manifest.json").write_text(json.dumps(manifest))
    remove_works(path, work_ids=[103])
    return path


def test_evidence_reads_the_rows_of_the_asked_holders_only(path: Path, model: LoadedModel) -> None:
    index = open_index(path, model=model)
    features = index.embed(QUERIES[:4])
    asked = [[2], [2, 8], [], [8]]
    expected = index.top_works(features, asked, 2)
    other = open_index(path, model=model)
    positions = np.concatenate([other._items.of_holder(holder) for holder in (2, 8)])
    spoil(other, set(positions.tolist()))
    # Holders 4 to 7 alone are in the second shard: it is not even opened.
    (other.path / "items-00001.i8.npy").unlink()
    (other.path / "items-00001.scale.npy").unlink()
    assert other.top_works(features, asked, 2) == expected
    assert {work.work_id for work in expected[1][8]} == {114, 115}


def test_every_revision_can_still_be_opened(path: Path, model: LoadedModel, items: list[IndexItem]) -> None:
    first = open_index(path, model=model)
    features = first.embed(QUERIES)
    scores = [first.score(features).specific]
    digests = [first.sha256]
    for change in ([100], [103, 104]):
        index = remove_works(path, work_ids=change, model=model)
        scores.append(index.score(features).specific)
        digests.append(index.sha256)
    for revision, (digest, expected) in enumerate(zip(digests, scores, strict=True), 1):
        index = open_index(path, model=model, sha256=digest)
        assert index.revision == revision
        np.testing.assert_array_equal(index.score(features).specific, expected)


def test_a_change_that_was_killed_before_its_manifest_leaves_the_index_as_it_was(
    path: Path, model: LoadedModel, items: list[IndexItem]
) -> None:
    before = open_index(path)
    extend_index(Path(shutil.copytree(path, path.with_name("y"))), model=model, items=items[:12])
    for left in ("items-00003.i8.npy", "items-00003.labels.npy", "change-0002.exact.npy"):
        shutil.copy(path.with_name("y") / left, path / left)
    assert open_index(path).sha256 == before.sha256
    removed = remove_works(path, work_ids=[100], model=model)
    assert_equals_a_fresh_sum(removed)


def test_a_fifth_of_new_items_asks_for_a_refit(path: Path, model: LoadedModel, items: list[IndexItem]) -> None:
    new = [dataclasses.replace(item, work_id=900 + item.work_id, cluster_id=None) for item in items]
    index = extend_index(path, model=model, items=new[::8])
    assert condition_of(index.manifest).reasons == []
    index = extend_index(path, model=model, items=new[1::4])
    condition = condition_of(index.manifest)
    assert (condition.items, condition.added) == (132, 36)
    assert condition.reasons == ["27% of its items were added after its basis was fitted."]


def test_a_basis_that_holds_less_of_what_is_added_asks_for_a_refit(
    items: list[IndexItem], model: LoadedModel, tmp_path: Path
) -> None:
    # Fitted on one dialect; the later items are in another.
    alone = [item for item in items if item.holder_id == 1]
    build_index(tmp_path / "x", model=model, items=alone * 4, config=dataclasses.replace(CONFIG, k=6))
    index = extend_index(tmp_path / "x", model=model, items=[item for item in items if item.holder_id == 6][:6])
    condition = condition_of(index.manifest)
    assert condition.captured_of_added is not None
    assert condition.captured_of_added < 0.9 * condition.captured
    assert len(condition.reasons) == 1
    assert "holds" in condition.reasons[0]


def test_nothing_to_add_is_refused(path: Path, model: LoadedModel) -> None:
    with pytest.raises(UnableToBuildIndex, match="no item to add"):
        extend_index(path, model=model, items=[])


def test_an_index_that_every_work_has_left_scores_nobody_until_some_come_back(
    path: Path, model: LoadedModel, items: list[IndexItem]
) -> None:
    index = remove_works(path, work_ids=range(100, 116), model=model)
    assert index.holder_ids == ()
    assert index.score(index.embed(QUERIES)).specific.shape == (len(QUERIES), 0)
    assert index.works().shape == (3, 0)
    assert_equals_a_fresh_sum(extend_index(path, model=model, items=[item for item in items if item.work_id < 104]))
