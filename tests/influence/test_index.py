"""The index on disk: additive, all there or not there, and built from nothing but its inputs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from influence.adapters import Example, LoadedModel, UnableToEmbed
from influence.index.reader import (
    Index,
    IndexConfig,
    IndexItem,
    UnableToBuildIndex,
    UnableToOpenIndex,
    build_index,
    extend_index,
    open_index,
    remove_works,
)
from tests.worlds.small_model import HOLDERS, sentences, trained, training_items

CONFIG = IndexConfig(k=48, coordinates=600, fit_items=96)
QUERIES = [example for holder in range(HOLDERS) for example in sentences(holder, 3, seed=9)]
OWN = QUERIES[::2]


@pytest.fixture(scope="module")
def items() -> list[IndexItem]:
    return training_items()


@pytest.fixture(scope="module")
def model(items: list[IndexItem]) -> LoadedModel:
    return trained(items)


@pytest.fixture(scope="module")
def built(model: LoadedModel, items: list[IndexItem], tmp_path_factory: pytest.TempPathFactory) -> Index:
    return build_index(tmp_path_factory.mktemp("indexes") / "one", model=model, items=items, config=CONFIG, mean_of=OWN)


@pytest.fixture
def copied(built: Index, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    subprocess.run(["cp", "-r", built.path, target], check=True)
    return target


def undivided(index: Index, queries: list[Example] = QUERIES) -> np.ndarray:
    scores = index.score(index.embed(queries))
    return np.asarray(scores.specific + scores.general)


def test_most_queries_find_the_holder_whose_dialect_they_are(built: Index) -> None:
    scores = built.score(built.embed(QUERIES))
    speaker = np.repeat(np.arange(HOLDERS), 3)
    assert scores.holder_ids == tuple(range(1, HOLDERS + 1))
    assert (scores.specific.argmax(1) == speaker).mean() > 0.8


def test_shapes_and_manifest_say_what_was_built(built: Index, model: LoadedModel, items: list[IndexItem]) -> None:
    features = built.embed(QUERIES[:5])
    assert features.shape == (5, 2, 48)
    assert features.dtype == np.dtype("float32")
    scores = built.score(features)
    assert scores.specific.shape == scores.specific_se.shape == (5, HOLDERS)
    assert scores.general.shape == scores.general_se.shape == (HOLDERS,)
    assert (scores.specific_se > 0).all()
    manifest = built.manifest
    assert manifest["method"] == "midpoint"
    assert manifest["mean_query_of"] == "own generations"
    assert manifest["counts"] == {"items": 96, "works": 16, "holders": 8, "removed_items": 0}
    assert manifest["config"] == CONFIG.to_json()
    assert IndexConfig.from_json(manifest["config"]) == CONFIG


def test_reopened_it_gives_the_same_scores(built: Index, model: LoadedModel) -> None:
    again = open_index(built.path, model=model, sha256=built.sha256)
    np.testing.assert_array_equal(undivided(again), undivided(built))


def test_a_query_alone_has_the_scores_it_has_in_a_batch(built: Index) -> None:
    alone = np.concatenate([undivided(built, [query]) for query in QUERIES[:4]])
    np.testing.assert_allclose(alone, undivided(built)[:4], atol=1e-6)


def test_splitting_an_account_changes_nothing(
    built: Index, model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    split = [
        dataclasses.replace(item, holder_id=900 + item.work_id % 2) if item.holder_id == 3 else item for item in items
    ]
    index = build_index(tmp_path / "split", model=model, items=split, config=CONFIG, mean_of=OWN)
    before, after = undivided(built), undivided(index)
    np.testing.assert_allclose(after[:, -2:].sum(1), before[:, 2], atol=1e-6)
    np.testing.assert_allclose(after[:, :-2], np.delete(before, 2, axis=1), atol=1e-6)


def test_a_copy_gets_what_its_twin_gets(model: LoadedModel, items: list[IndexItem], tmp_path: Path) -> None:
    copies = [dataclasses.replace(item, holder_id=99, work_id=item.work_id + 1_000) for item in items[:12]]
    index = build_index(tmp_path / "twin", model=model, items=[*items, *copies], config=CONFIG)
    scores = index.score(index.embed(QUERIES))
    np.testing.assert_allclose(scores.specific[:, 0], scores.specific[:, -1], atol=1e-6)
    np.testing.assert_allclose(scores.specific_se[:, 0], scores.specific_se[:, -1], atol=1e-6)


def test_a_cluster_is_shared_by_its_holders_whoever_handed_more_copies_in(
    model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    original = [dataclasses.replace(item, cluster_id=item.work_id) for item in items[:12]]
    copies = [
        dataclasses.replace(item, holder_id=99, work_id=item.work_id + 1_000 * copy)
        for item in original
        for copy in (1, 2)
    ]
    index = build_index(tmp_path / "cluster", model=model, items=[*original, *items[12:], *copies], config=CONFIG)
    scores = undivided(index)
    np.testing.assert_allclose(scores[:, 0], scores[:, -1], atol=1e-7)


def test_works_add_up_to_their_holder(built: Index) -> None:
    features = built.embed(QUERIES)
    specific = built.score(features).specific
    found = built.top_works(features, [[1, 5]] * len(QUERIES), n=10)
    for row, by_holder in enumerate(found):
        assert list(by_holder) == [1, 5]
        for holder, works in by_holder.items():
            assert [work.work_id for work in works] != []
            assert works[0].score >= works[-1].score
            assert sum(work.score for work in works) == pytest.approx(specific[row, holder - 1], abs=1e-6)


def test_only_as_many_works_as_asked_for_and_only_of_the_asked_holders(built: Index) -> None:
    found = built.top_works(built.embed(QUERIES[:2]), [[4], []], n=1)
    assert found[1] == {}
    assert [work.work_id for work in found[0][4]] in ([106], [107])
    assert len(found[0][4]) == 1


def test_adding_and_removing_a_holder_equals_a_fresh_sum(
    built: Index, model: LoadedModel, items: list[IndexItem], copied: Path
) -> None:
    removed = remove_works(copied, work_ids=[100, 101], model=model)
    assert removed.holder_ids == tuple(range(2, HOLDERS + 1))
    np.testing.assert_allclose(undivided(removed), undivided(built)[:, 1:], rtol=1e-5, atol=1e-7)
    assert removed.top_works(removed.embed(QUERIES[:1]), [[1]], n=3) == [{1: []}]
    extended = extend_index(copied, model=model, items=items[:12])
    np.testing.assert_allclose(undivided(extended), undivided(built), rtol=1e-5, atol=1e-7)
    assert extended.manifest["counts"]["items"] == 96
    assert extended.manifest["counts"]["removed_items"] == 12
    assert open_index(copied, model=model).sha256 == extended.sha256 != built.sha256


def test_removing_a_work_that_is_not_there_is_refused(copied: Path, built: Index) -> None:
    with pytest.raises(UnableToBuildIndex, match="Work 5 is not in the index"):
        remove_works(copied, work_ids=[100, 5])
    assert open_index(copied).sha256 == built.sha256


def test_general_and_specific_of_the_average_generation_are_all_and_nothing(built: Index) -> None:
    scores = built.score(built.embed(OWN))
    np.testing.assert_allclose(scores.specific.mean(0), 0, atol=1e-6)


def test_without_the_initial_checkpoint_it_is_plain_influence_and_says_so(
    model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    unknown = dataclasses.replace(model, initial=None)
    index = build_index(tmp_path / "plain", model=unknown, items=items, config=CONFIG)
    chosen = build_index(
        tmp_path / "chosen", model=model, items=items, config=dataclasses.replace(CONFIG, nodes=((1.0, 1.0),))
    )
    assert (index.manifest["method"], index.manifest["initial"]) == ("influence", None)
    assert chosen.manifest["method"] == "influence"
    np.testing.assert_allclose(undivided(index), undivided(chosen), rtol=1e-4, atol=1e-7)


def test_several_nodes_are_a_weighted_sum_over_the_path(
    model: LoadedModel, items: list[IndexItem], built: Index, tmp_path: Path
) -> None:
    twice = dataclasses.replace(CONFIG, nodes=((0.5, 0.25), (0.5, 0.75)))
    index = build_index(tmp_path / "path", model=model, items=items, config=twice, mean_of=OWN)
    assert index.manifest["method"] == "path"
    # Each half is rounded to int8 in a row of its own scale.
    np.testing.assert_allclose(undivided(index), undivided(built), atol=2e-3 * np.abs(undivided(built)).max())


def test_a_corrupt_file_is_refused_by_name(copied: Path) -> None:
    for name in json.loads((copied / "manifest.json").read_text())["files"]:
        path = copied / name
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(UnableToOpenIndex, match=f"Corrupt: {name}"):
            open_index(copied)
        path.unlink()
        with pytest.raises(UnableToOpenIndex, match=f"Partial: {name} is missing"):
            open_index(copied)
        path.write_bytes(good)
    open_index(copied)


def test_a_truncated_file_is_refused_by_name(copied: Path) -> None:
    size = (copied / "sums.npy").stat().st_size
    with (copied / "sums.npy").open("r+b") as opened:
        opened.truncate(size - 4)
    with pytest.raises(UnableToOpenIndex, match=f"Truncated: sums.npy has {size - 4} of {size} bytes"):
        open_index(copied)


@pytest.mark.parametrize("name", ["manifest.json", "mean_query.npy", ""])
def test_a_symbolic_link_is_refused_wherever_it_leads(copied: Path, tmp_path: Path, name: str) -> None:
    path = copied / name if name else copied
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnableToOpenIndex, match=r"Foreign: \S+ is a symbolic link"):
        open_index(copied)


def test_a_manifest_that_does_not_fit_its_files_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    for name in ("overlay", "config"):
        (copied / "manifest.json").write_text(json.dumps({key: manifest[key] for key in manifest if key != name}))
        with pytest.raises(UnableToOpenIndex, match="Corrupt: the manifest of copy does not describe"):
            open_index(copied)


def test_a_format_of_the_future_is_refused_with_both_versions(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "format": "tributary-index/12"}))
    with pytest.raises(UnableToOpenIndex, match=r"later version .* tributary-index/12; this one reads"):
        open_index(copied)


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"files": 3, "format": "tributary-index/2"}'])
def test_a_manifest_that_cannot_be_read_is_refused(copied: Path, manifest: str) -> None:
    (copied / "manifest.json").write_text(manifest)
    with pytest.raises(UnableToOpenIndex, match="Corrupt: the manifest"):
        open_index(copied)


def test_a_directory_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnableToOpenIndex, match="Partial"):
        open_index(tmp_path)
    with pytest.raises(UnableToOpenIndex, match="Partial"):
        open_index(tmp_path / "nowhere")


def test_another_format_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "format": "tributary-index/0"}))
    with pytest.raises(UnableToOpenIndex, match="Foreign: copy has format"):
        open_index(copied)


def test_the_index_of_another_checkpoint_is_refused(built: Index, items: list[IndexItem]) -> None:
    with pytest.raises(UnableToOpenIndex, match="other checkpoints"):
        open_index(built.path, model=trained(items, steps=60))


def test_a_manifest_other_than_the_one_on_record_is_refused(built: Index) -> None:
    with pytest.raises(UnableToOpenIndex, match="not the one on record"):
        open_index(built.path, sha256="0" * 64)


def test_without_a_model_it_scores_but_does_not_embed(built: Index) -> None:
    bare = open_index(built.path)
    features = built.embed(QUERIES[:3])
    np.testing.assert_array_equal(bare.score(features).specific, built.score(features).specific)
    with pytest.raises(UnableToEmbed, match="without its model"):
        bare.embed(QUERIES[:1])


def test_an_example_that_cannot_be_embedded_is_named(built: Index) -> None:
    with pytest.raises(UnableToEmbed, match="Example 1: Nothing to score"):
        built.embed([QUERIES[0], Example((1, 2), prompt_tokens=2)])


def test_an_existing_index_is_never_built_over(built: Index, model: LoadedModel, items: list[IndexItem]) -> None:
    with pytest.raises(UnableToBuildIndex, match="exists already"):
        build_index(built.path, model=model, items=items, config=CONFIG)


def test_an_item_that_cannot_be_embedded_stops_the_build_by_name(
    model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    bad = dataclasses.replace(items[0], example=Example((99, 1)))
    with pytest.raises(UnableToBuildIndex, match="Item 1, of work 100: Token 99"):
        build_index(tmp_path / "indexes" / "x", model=model, items=[items[0], bad], config=CONFIG)
    assert [path.name for path in (tmp_path / "indexes").iterdir()] == [".x.lock"]


def test_a_build_that_fails_leaves_no_index_and_the_next_one_goes_on_from_there(
    model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("features 2"):
            raise KeyboardInterrupt

    target = tmp_path / "indexes" / "x"
    with pytest.raises(KeyboardInterrupt):
        build_index(target, model=model, items=items, config=CONFIG, progress=stop)
    assert not target.exists()
    stages: list[str] = []
    build_index(target, model=model, items=items, config=CONFIG, progress=lambda stage, *_: stages.append(stage))
    assert set(stages) == {"features 2/2", "items"}, "What was done is not done again."
    assert sorted(path.name for path in (tmp_path / "indexes").iterdir()) == [".x.lock", "x"]


def test_two_builds_of_one_index_at_once_are_refused(
    model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    def second(stage: str, done: int, total: int) -> None:
        with pytest.raises(UnableToBuildIndex, match="Another process"):
            build_index(tmp_path / "x", model=model, items=items, config=CONFIG)

    build_index(tmp_path / "x", model=model, items=items[:24], config=CONFIG, progress=second)


def test_progress_tells_every_stage_to_its_end(model: LoadedModel, items: list[IndexItem], tmp_path: Path) -> None:
    last: dict[str, tuple[int, int]] = {}
    told: Callable[[str, int, int], None] = lambda stage, done, total: last.__setitem__(stage, (done, total))  # noqa: E731
    build_index(tmp_path / "x", model=model, items=items, config=CONFIG, mean_of=OWN, progress=told)
    assert all(done == total for done, total in last.values())
    assert {"factors 1/2", "eigenvalues 2/2", "features 1/2", "items", "mean query"} <= set(last)


def test_a_projection_fitted_on_a_quarter_of_the_items_follows_the_sample_and_not_the_corpus(
    model: LoadedModel, items: list[IndexItem], built: Index, tmp_path: Path
) -> None:
    exact = build_index(
        tmp_path / "exact", model=model, items=items, config=dataclasses.replace(CONFIG, k=96), mean_of=OWN
    )
    quarter = build_index(
        tmp_path / "quarter",
        model=model,
        items=items,
        config=dataclasses.replace(CONFIG, k=24, pca_items=24),
        mean_of=OWN,
    )
    whole = build_index(
        tmp_path / "whole", model=model, items=items, config=dataclasses.replace(CONFIG, k=24), mean_of=OWN
    )
    target = undivided(exact)
    lost = {index.path.name: float(np.square(undivided(index) - target).sum()) for index in (quarter, whole)}
    assert lost["whole"] < 0.8 * lost["quarter"]


def test_the_same_build_twice_is_the_same_index(model: LoadedModel, items: list[IndexItem], tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = build_index(tmp_path / "a", model=model, items=items, config=CONFIG)
    torch.manual_seed(2)
    two = build_index(tmp_path / "b", model=model, items=items, config=CONFIG)
    assert one.sha256 == two.sha256
