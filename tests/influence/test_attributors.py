"""One interface, several ways of scoring: each additive, each all there or not there, each named for its method."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attribution.models import Generation
from attribution.operations.indexes import Opened
from attribution.operations.measurements import Measured, Unattributable, measure
from influence import scorers
from influence.adapters import Example, LoadedModel, UnableToEmbed, Utf8, example_of
from influence.adapters.encoder import Encoder
from influence.adapters.pushed import Pushed, load, write_features
from influence.scorers import Attributor, IndexConfig, IndexItem, UnableToBuildIndex, UnableToOpenIndex
from influence.scorers.hybrid import HybridIndex
from influence.scorers.lexical import LexicalIndex
from tests.worlds.small_model import HOLDERS, PER_HOLDER, Numbers, sentences, trained, training_items

SMALL: dict[str, Any] = {"k": 48, "coordinates": 600, "fit_items": 96}
CONFIGS = {
    "midpoint": IndexConfig(**SMALL),
    "lexical": IndexConfig(attributor="lexical"),
    "hybrid": IndexConfig(attributor="hybrid", **SMALL),
    "encoder": IndexConfig(attributor="encoder"),
    "pushed": IndexConfig(attributor="pushed"),
}
QUERIES = [example for holder in range(HOLDERS) for example in sentences(holder, 3, seed=9)]
OWN = QUERIES[::2]


@pytest.fixture(scope="module")
def items() -> list[IndexItem]:
    return training_items()


@pytest.fixture(scope="module")
def model(items: list[IndexItem]) -> LoadedModel:
    return trained(items)


def black_box(items: list[IndexItem]) -> LoadedModel:
    """Nothing but texts and an encoder for them."""
    encoder = Encoder.of_wording(Numbers(), dimensions=256)
    return LoadedModel(adapter=encoder, checkpoints=({"none": torch.zeros(1)},), initial=None, tokeniser=Numbers())


class Pushing(Pushed):
    """The computation of a service at its model; the test asks for features of examples, as its reports have them."""

    def __init__(self, model: LoadedModel, items: list[IndexItem], directory: Path) -> None:
        alone = [dataclasses.replace(item, holder_id=number, work_id=number) for number, item in enumerate(items)]
        self._own = scorers.build(directory, model=model, items=alone, config=CONFIGS["midpoint"], mean_of=OWN)
        known = self._own.embed([item.example for item in items])
        super().__init__(known, mean_query=self._own.embed(OWN).mean(0), measures="influence")

    def check(self, example: Example) -> None:
        if len(example.tokens) < 2:
            super().check(example)

    def vectors(self, examples: Sequence[Example]) -> Tensor:
        return torch.from_numpy(self._own.embed(examples))


@pytest.fixture(scope="module")
def models(
    model: LoadedModel, items: list[IndexItem], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, LoadedModel]:
    pushing = Pushing(model, items, tmp_path_factory.mktemp("service") / "own")
    pushed = LoadedModel(adapter=pushing, checkpoints=model.checkpoints, initial=None)
    white = {"midpoint": model, "lexical": model, "hybrid": model}
    return {**white, "encoder": black_box(items), "pushed": pushed}


@pytest.fixture(scope="module")
def built(
    models: dict[str, LoadedModel], items: list[IndexItem], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Attributor]:
    directory = tmp_path_factory.mktemp("indexes")
    return {
        name: scorers.build(directory / name, model=models[name], items=items, config=config, mean_of=OWN)
        for name, config in CONFIGS.items()
    }


each = pytest.mark.parametrize("name", sorted(CONFIGS))


def scores_of(index: Attributor, queries: list[Example] = QUERIES) -> np.ndarray:
    return index.score(index.embed(queries)).specific


@each
def test_what_is_opened_again_is_what_was_built(
    built: dict[str, Attributor], models: dict[str, LoadedModel], name: str
) -> None:
    index = built[name]
    again = scorers.open_attributor(index.path, model=models[name], sha256=index.sha256)
    assert again.config == CONFIGS[name]
    assert again.manifest["config_sha256"] == CONFIGS[name].sha256
    assert again.holder_ids == tuple(range(1, HOLDERS + 1))
    np.testing.assert_array_equal(scores_of(again), scores_of(index))


@each
def test_the_scores_of_works_add_up_to_their_holders_score(built: dict[str, Attributor], name: str) -> None:
    index = built[name]
    features = index.embed(QUERIES)
    specific = index.score(features).specific
    rows = [0, 5, 11]
    for column, holder in enumerate(index.holder_ids):
        works, scores = index.work_scores(features, holder, rows)
        assert len(works) == 2
        np.testing.assert_allclose(scores.sum(0), specific[rows, column], rtol=1e-4, atol=1e-7)
    best = index.top_works(features, [[1, 2]] * len(QUERIES), 1)[5]
    works, scores = index.work_scores(features, 2, [5])
    assert best[2][0].work_id == works[scores[:, 0].argmax()]
    assert best[2][0].score == pytest.approx(scores.max())


@each
def test_items_are_scored_one_by_one_and_keep_their_factors_when_works_come_and_go(
    models: dict[str, LoadedModel], items: list[IndexItem], tmp_path: Path, name: str
) -> None:
    own = [example for holder in range(HOLDERS) for example in sentences(holder, 13, seed=6)]
    model = models[name]
    index = scorers.build(tmp_path / "index", model=model, items=items, config=CONFIGS[name], mean_of=own)

    def of_works(index: Attributor) -> dict[int, list[tuple[float, float]]]:
        """Each work's items: the first query's score, and the factor."""
        features = index.embed(QUERIES)
        blocks = list(index.item_scores(features))
        positions = np.concatenate([chosen for chosen, _ in blocks])
        scores = np.concatenate([found for _, found in blocks], axis=1)
        holders, works, _ = index.counted.labels[:, positions]
        specific = index.score(features).specific
        for column, holder in enumerate(index.holder_ids):
            summed = scores[:, holders == holder].sum(1)
            np.testing.assert_allclose(summed, specific[:, column], rtol=1e-3, atol=1e-5 * np.abs(specific).max())
        factors = np.ones(len(positions)) if index.net_tails is None else index.net_tails[positions]
        of: dict[int, list[tuple[float, float]]] = {}
        for place, work in enumerate(works.tolist()):
            of.setdefault(work, []).append((float(scores[0, place]), float(factors[place])))
        return of

    before = of_works(index)
    tailed = [factor for found in before.values() for _, factor in found]
    # A service brings its own mean, and no generations that anything could be tried on.
    assert (index.net_tails is None) == (name == "pushed")
    # Similarities are never below zero, so that no item is found to harm.
    assert (min(tailed) < 1) == (name in {"midpoint", "hybrid"})
    assert 0 <= min(tailed) <= max(tailed) <= 1
    gone = items[0].work_id
    assert of_works(scorers.remove_works(index.path, work_ids=[gone], model=model)).keys() == before.keys() - {gone}
    again = [item for item in items if item.work_id == gone]
    after = of_works(scorers.extend(index.path, model=model, items=again))
    assert after.keys() == before.keys()
    for work, found in after.items():
        np.testing.assert_allclose(found, before[work], rtol=1e-4, atol=1e-6)


@each
def test_holders_that_count_as_one_have_the_scores_of_one_with_all_their_works(
    built: dict[str, Attributor], models: dict[str, LoadedModel], items: list[IndexItem], tmp_path: Path, name: str
) -> None:
    merged_items = [dataclasses.replace(item, holder_id=2) if item.holder_id in {5, 7} else item for item in items]
    model = models[name]
    merged = scorers.build(tmp_path / "index", model=model, items=merged_items, config=CONFIGS[name], mean_of=OWN)
    one = merged.score(merged.embed(QUERIES))
    index = built[name]
    alone = index.score(index.embed(QUERIES))
    found = index.score(index.embed(QUERIES), groups=[(2, 5, 7), (3, 4)])
    column, after = one.holder_ids.index(2), len(alone.holder_ids)
    assert found.holder_ids == alone.holder_ids
    for part in ("specific", "specific_se", "general", "general_se"):
        scores = getattr(found, part)
        np.testing.assert_array_equal(scores[..., :after], getattr(alone, part))
        assert scores.shape[-1] == after + 2
        expected = getattr(one, part)[..., column]
        np.testing.assert_allclose(scores[..., after], expected, atol=1e-5 * np.abs(getattr(one, part)).max() + 1e-9)


@each
def test_an_account_split_in_three_earns_what_it_earned_as_one(
    built: dict[str, Attributor], models: dict[str, LoadedModel], items: list[IndexItem], tmp_path: Path, name: str
) -> None:
    split = [
        dataclasses.replace(item, holder_id=100 + number % 3) if item.holder_id == 2 else item
        for number, item in enumerate(items)
    ]
    other = scorers.build(tmp_path / "split", model=models[name], items=split, config=CONFIGS[name], mean_of=OWN)
    before, after = scores_of(built[name]), scores_of(other)
    parts = [other.holder_ids.index(holder) for holder in (100, 101, 102)]
    whole = built[name].holder_ids.index(2)
    largest = np.abs(before).max()
    np.testing.assert_allclose(after[:, parts].sum(1), before[:, whole], atol=1e-5 * largest)
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-5 * largest)


@each
def test_a_registered_copy_shares_what_its_twin_earned(
    models: dict[str, LoadedModel], items: list[IndexItem], tmp_path: Path, name: str
) -> None:
    copies = [
        dataclasses.replace(item, holder_id=99, work_id=item.work_id + 900, cluster_id=item.work_id)
        for item in items
        if item.holder_id == 3
    ]
    marked = [dataclasses.replace(i, cluster_id=i.work_id) if i.holder_id == 3 else i for i in items]
    index = scorers.build(
        tmp_path / "copied", model=models[name], items=[*marked, *copies], config=CONFIGS[name], mean_of=OWN
    )
    found = scores_of(index)
    twin, copy = (found[:, index.holder_ids.index(holder)] for holder in (3, 99))
    np.testing.assert_allclose(copy, twin, atol=1e-6 * np.abs(found).max())


@each
def test_works_come_and_go_without_a_new_build(
    built: dict[str, Attributor], models: dict[str, LoadedModel], items: list[IndexItem], tmp_path: Path, name: str
) -> None:
    path = tmp_path / "copy"
    subprocess.run(["cp", "-r", built[name].path, path], check=True)
    before = scores_of(built[name])
    more = [IndexItem(example, work_id=500, holder_id=50) for example in sentences(1, 6, seed=4)]
    longer = scorers.extend(path, model=models[name], items=more)
    assert longer.holder_ids == (*built[name].holder_ids, 50)
    grown = scores_of(longer)
    np.testing.assert_array_equal(grown[:, :-1], before)
    assert np.abs(grown[:, -1]).max() > 0
    shorter = scorers.remove_works(path, work_ids=[500, 100], model=models[name])
    assert shorter.holder_ids == built[name].holder_ids
    left = scores_of(shorter)
    np.testing.assert_allclose(left[:, 1:], before[:, 1:], atol=1e-6 * np.abs(before).max())
    features = shorter.embed(QUERIES)
    assert [work.work_id for work in shorter.top_works(features, [[1]], 5)[0][1]] == [101]


@each
def test_an_index_of_other_checkpoints_is_refused(
    built: dict[str, Attributor], models: dict[str, LoadedModel], name: str
) -> None:
    stranger = dataclasses.replace(models[name], checkpoints=({"other": torch.ones(1)},))
    with pytest.raises(UnableToOpenIndex, match="other checkpoints"):
        scorers.open_attributor(built[name].path, model=stranger)


@each
def test_a_damaged_file_is_named(built: dict[str, Attributor], tmp_path: Path, name: str) -> None:
    for number, file in enumerate(
        sorted(p for p in built[name].path.rglob("*") if p.suffix in {".npy", ".safetensors"})
    ):
        path = tmp_path / str(number)
        subprocess.run(["cp", "-r", built[name].path, path], check=True)
        damaged = path / file.relative_to(built[name].path)
        raw = bytearray(damaged.read_bytes())
        raw[-1] ^= 1
        damaged.write_bytes(raw)
        with pytest.raises(UnableToOpenIndex, match=f"Corrupt: {file.name}"):
            scorers.open_attributor(path)


def test_a_directory_that_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnableToOpenIndex, match="no manifest"):
        scorers.open_attributor(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "somebody-else/1"}))
    with pytest.raises(UnableToOpenIndex, match="somebody-else/1"):
        scorers.open_attributor(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(UnableToOpenIndex, match="cannot be read"):
        scorers.open_attributor(tmp_path)


# --- lexical --------------------------------------------------------------------------------------------------------
def tf_idf(texts: list[str], ngrams: int) -> list[dict[tuple[str, ...], float]]:
    """The textbook's, term by term, to compare with."""
    counts = []
    for text in texts:
        words = text.split()
        counts.append(Counter(tuple(words[i : i + n]) for n in range(1, ngrams + 1) for i in range(len(words) - n + 1)))
    having = Counter(term for count in counts for term in count)
    vectors = []
    for count in counts:
        raw = {
            term: (1 + math.log(n)) * (math.log((1 + len(texts)) / (1 + having[term])) + 1) for term, n in count.items()
        }
        norm = math.sqrt(sum(value**2 for value in raw.values()))
        vectors.append({term: value / norm for term, value in raw.items()})
    return vectors


@pytest.mark.parametrize("terms", ["tokens", "words"])
def test_lexical_scores_are_sums_of_cosines_of_tf_idf_vectors(
    model: LoadedModel, items: list[IndexItem], tmp_path: Path, terms: str
) -> None:
    # Columns enough that no two terms of this corpus share one. The tokeniser writes a number a token: a word is one.
    config = IndexConfig(attributor="lexical", terms=terms, buckets=2**22)
    index = scorers.build(tmp_path / "one", model=model, items=items, config=config)
    # The queries are training items, so that one table of term weights serves for both.
    queries = [item.example for item in items[:4]]
    texts = [model.tokeniser.decode(item.example.tokens[1:]) for item in items]
    vectors = tf_idf(texts, 3)
    cosines = np.array([[sum(a[t] * b.get(t, 0.0) for t in a) for b in vectors] for a in vectors])
    expected = (cosines[:4] - cosines.mean(0)).reshape(4, HOLDERS, PER_HOLDER).sum(2) / len(items)
    np.testing.assert_allclose(scores_of(index, queries), expected, atol=2e-6)
    general = cosines.mean(0).reshape(HOLDERS, PER_HOLDER).sum(1) / len(items)
    np.testing.assert_allclose(index.score(index.embed(queries)).general, general, atol=2e-6)


def test_case_punctuation_and_scripts_without_spaces_are_read_as_words() -> None:
    from influence.scorers import terms

    assert terms._words("Peace, PEACE; über-all") == ["peace", "peace", "über", "all"]
    assert terms._words("春が来た ok") == ["春", "が", "来", "た", "ok"]
    assert terms._words("… — !") == []


def test_an_output_without_a_token_has_no_wording_to_compare(built: dict[str, Attributor], model: LoadedModel) -> None:
    silent = Example((1, 2), prompt_tokens=2)
    with pytest.raises(UnableToEmbed, match="no token"):
        built["lexical"].check(silent)
    with pytest.raises(UnableToEmbed, match=r"Example 1: .*no token"):
        built["lexical"].embed([QUERIES[0], silent])
    lexical = built["lexical"]
    assert isinstance(lexical, LexicalIndex)
    assert lexical.vectors([silent]).nnz == 0
    assert lexical.vectors([silent, QUERIES[0], silent]).sum(axis=1)[1] > 0


# --- hybrid ---------------------------------------------------------------------------------------------------------
def test_a_hybrid_score_adds_both_in_units_of_their_spread_over_items(
    built: dict[str, Attributor], model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    alone = [dataclasses.replace(item, holder_id=number, work_id=number) for number, item in enumerate(items)]
    each_item = {
        part: scorers.build(tmp_path / part, model=model, items=alone, config=CONFIGS[part], mean_of=OWN)
        for part in ("midpoint", "lexical")
    }
    hybrid = built["hybrid"]
    assert isinstance(hybrid, HybridIndex)
    # One member at a time the units are its own; with two the mean of both is taken.
    influence = each_item["midpoint"]
    features = influence.embed(QUERIES)
    by_member = influence.divided(features).specific.numpy()  # type: ignore[attr-defined]
    wording = scores_of(each_item["lexical"])
    spread = by_member.std(2, keepdims=True) / wording.std(1)[:, None, None]
    expected = (by_member + 0.5 * spread * wording[:, None]).mean(1).reshape(len(QUERIES), HOLDERS, -1).sum(2)
    found = scores_of(hybrid)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3 * np.abs(expected).max())
    plain = hybrid.score(hybrid.embed(QUERIES), lexical_weight=0.0).specific
    np.testing.assert_allclose(plain, scores_of(built["midpoint"]), atol=1e-7)

    # The error of wording is that of chance, over as many items as a holder has, or a group of them.
    together = hybrid.holder_ids[:2]
    scored = hybrid.score(hybrid.embed(QUERIES), groups=[together])
    each = (by_member + 0.5 * spread * wording[:, None]).reshape(*by_member.shape[:2], HOLDERS, -1).sum(3)
    each = np.concatenate([each, each[..., :2].sum(2, keepdims=True)], 2)
    counts = np.array([by_member.shape[2] / HOLDERS] * HOLDERS + [2 * by_member.shape[2] / HOLDERS])
    by_chance = 0.5 * by_member.std(2).mean(1)[:, None] * np.sqrt(counts)
    expected = np.hypot(each.std(1, ddof=1) / each.shape[1] ** 0.5, by_chance)
    np.testing.assert_allclose(scored.specific_se, expected, rtol=0, atol=2e-3 * expected.max())


def test_general_scores_of_a_hybrid_are_the_midpoints(built: dict[str, Attributor]) -> None:
    of_both = built["hybrid"].score(built["hybrid"].embed(QUERIES))
    alone = built["midpoint"].score(built["midpoint"].embed(QUERIES))
    np.testing.assert_array_equal(of_both.general, alone.general)


def test_features_of_a_hybrid_can_be_cut_by_row(built: dict[str, Attributor]) -> None:
    hybrid = built["hybrid"]
    features = hybrid.embed(QUERIES)
    np.testing.assert_allclose(
        hybrid.score(features[[4, 2]]).specific, hybrid.score(features).specific[[4, 2]], rtol=1e-5
    )
    assert len(features[:3]) == 3


def test_a_change_that_was_cut_off_between_the_parts_is_as_if_it_had_not_begun(
    built: dict[str, Attributor], model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    from influence.index import reader as index

    path = tmp_path / "copy"
    subprocess.run(["cp", "-r", built["hybrid"].path, path], check=True)
    added = [dataclasses.replace(item, work_id=900) for item in items[:3]]
    index.extend_index(path / "midpoint", model=model, items=added)
    unchanged = scorers.open_attributor(path, model=model)
    np.testing.assert_array_equal(scores_of(unchanged), scores_of(built["hybrid"]))
    extended = scorers.extend(path, model=model, items=added)
    assert extended.manifest["counts"]["items"] == len(items) + 3
    index.remove_works(path / "midpoint", work_ids=[100])
    removed = scorers.remove_works(path, work_ids=[100, 900], model=model)
    assert removed.manifest["counts"]["works"] == 2 * HOLDERS - 1


def test_a_hybrid_whose_build_was_cut_off_keeps_the_part_that_was_done(
    built: dict[str, Attributor], model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    stages: list[str] = []

    def killed(stage: str, done: int, total: int) -> None:
        if stage == "tokens":
            raise KeyboardInterrupt

    config = CONFIGS["hybrid"]
    with pytest.raises(KeyboardInterrupt):
        scorers.build(tmp_path / "one", model=model, items=items, config=config, mean_of=OWN, progress=killed)
    assert not (tmp_path / "one").exists()
    done = scorers.build(
        tmp_path / "one",
        model=model,
        items=items,
        config=config,
        mean_of=OWN,
        progress=lambda stage, done, total: stages.append(stage),
    )
    assert set(stages) == {"tokens", "lexical items"}
    np.testing.assert_array_equal(scores_of(done), scores_of(built["hybrid"]))
    with pytest.raises(UnableToBuildIndex, match="exists already"):
        scorers.build(tmp_path / "one", model=model, items=items, config=config, mean_of=OWN)


# --- vectors that an adapter supplies -------------------------------------------------------------------------------
def test_pushed_features_score_as_the_index_where_the_model_runs(
    built: dict[str, Attributor], models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    pushing = models["pushed"].adapter
    assert isinstance(pushing, Pushing)
    write_features(tmp_path / "model", items=pushing.items, mean_query=pushing.mean_query, measures="influence")
    model = load(tmp_path / "model")
    numbered = [dataclasses.replace(item, example=Example((number,))) for number, item in enumerate(training_items())]
    index = scorers.build(tmp_path / "index", model=model, items=numbered, config=CONFIGS["pushed"])
    reported = [example_of(features) for features in built["midpoint"].embed(QUERIES)]
    expected = scores_of(built["midpoint"])
    np.testing.assert_allclose(scores_of(index, reported), expected, atol=0.03 * np.abs(expected).max())
    assert index.manifest["method"] == "influence"
    assert index.manifest["mean_query_of"] == "own generations"
    assert index.score(index.embed(reported)).specific_se.max() > 0


def test_reported_features_must_be_finite_and_of_the_indexs_shape(tmp_path: Path) -> None:
    write_features(tmp_path, items=np.ones((3, 2, 4)), mean_query=None, measures="similarity")
    adapter = load(tmp_path).adapter
    adapter.check(example_of(np.ones((2, 4))))
    adapter.check(Example((2,)))
    for features, reason in ((np.ones(7), "7 values do not make"), (np.full((2, 4), np.nan), "not finite")):
        with pytest.raises(UnableToEmbed, match=reason):
            adapter.check(example_of(features))
    with pytest.raises(UnableToEmbed, match="items 0 to 2"):
        adapter.check(Example((3,)))


@pytest.mark.parametrize(
    ("items", "mean", "measures", "reason"),
    [
        (np.ones((3, 2, 4)), np.ones((2, 4)), "magic", "must be float32"),
        (np.ones(3), None, "influence", "must be float32"),
    ],
)
def test_features_that_are_none_are_refused(
    tmp_path: Path, items: np.ndarray, mean: np.ndarray | None, measures: str, reason: str
) -> None:
    write_features(tmp_path, items=items, mean_query=mean, measures=measures)
    with pytest.raises(ValueError, match=reason):
        load(tmp_path)


def test_embeddings_of_any_modality_are_compared_by_their_cosine(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    model = LoadedModel(
        adapter=Encoder(nn.Identity(), dimensions=8), checkpoints=({"none": torch.zeros(1)},), initial=None
    )
    items = [IndexItem(example_of(row), work_id=number, holder_id=number) for number, row in enumerate(values)]
    index = scorers.build(tmp_path / "one", model=model, items=items, config=CONFIGS["encoder"])
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    expected = (unit - unit.mean(0)) @ unit.T / len(unit)
    np.testing.assert_allclose(scores_of(index, [item.example for item in items]), expected, atol=2e-3)


def test_an_encoders_index_needs_an_encoder_and_an_encoder_has_no_gradient(
    models: dict[str, LoadedModel], items: list[IndexItem], tmp_path: Path
) -> None:
    with pytest.raises(UnableToBuildIndex, match="needs an adapter of that kind; this model's is causal_lm"):
        scorers.build(tmp_path / "one", model=models["midpoint"], items=items, config=CONFIGS["encoder"])
    with pytest.raises(UnableToBuildIndex, match="no layer to trace"):
        scorers.build(tmp_path / "two", model=models["encoder"], items=items, config=CONFIGS["midpoint"])


def test_a_black_box_is_asked_for_the_wording_of_an_output_whatever_its_token_ids_are(tmp_path: Path) -> None:
    texts = [f"the people of state number {number} are many" for number in range(8)]
    reads = Utf8()
    items = [IndexItem(reads.item(text, 0, 30), work_id=n, holder_id=n % 2) for n, text in enumerate(texts)]
    model = LoadedModel(
        adapter=Encoder.of_wording(reads), checkpoints=({"none": torch.zeros(1)},), initial=None, tokeniser=reads
    )
    index = scorers.build(tmp_path / "one", model=model, items=items, config=CONFIGS["encoder"])
    reported = [
        Generation(prompt_text="", output_text=texts[0], token_ids=token_ids)
        for token_ids in (None, [], [200, 17], [5_000, 17])
    ]
    without, *others = measure(Opened(model, index, 1), reported, groups=())
    assert isinstance(without, Measured)
    assert others == [without] * 3
    (wordless,) = measure(Opened(model, index, 1), [Generation(output_text="", token_ids=[200, 17])], groups=())
    assert wordless == Unattributable("The output is empty.")


# --- configurations -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ({"attributor": "oracle"}, "no attributor 'oracle'"),
        ({"attributor": "lexical", "damping": 0.1}, "lexical reads no 'damping'"),
        ({"attributor": "midpoint", "lexical_weight": 1}, "midpoint reads no 'lexical_weight'"),
        ({"attributor": "lexical", "terms": "letters"}, "terms must be tokens or words"),
        ({"attributor": "lexical", "buckets": 1000}, "power of two"),
        ({"attributor": "lexical", "ngrams": 0}, "between 1 and 5"),
        ({"attributor": "hybrid", "lexical_weight": -1}, "between 0 and 100"),
        ({"nodes": 0}, "1 to 32"),
        ({"nodes": []}, "1 to 32"),
        ({"nodes": True}, "a whole number or pairs of numbers, not True"),
        ({"nodes": [0.5]}, "a pair of numbers, not 0.5"),
        ({"nodes": [[0.5, -1]]}, "weighs more than 0"),
        ({"nodes": [[2, 1]]}, "lies between 0 and 1"),
        ({"damping": 0}, "more than 0, not 0"),
        ({"damping": float("nan")}, "a finite number, not nan"),
        ({"damping": "strong"}, "a finite number, not 'strong'"),
        ({"k": 2.5}, "k must be a whole number, not 2.5"),
        ({"coordinates": True}, "coordinates must be a whole number, not True"),
        ({"seed": -1}, "seed must not be negative"),
        ({"left_out": "head"}, "a list of names of layers"),
        ({"left_out": [3]}, "names of layers"),
        ({"precision": "float16"}, "precision must be float32 or bfloat16, not 'float16'"),
        ({"attributor": "lexical", "precision": "bfloat16"}, "lexical reads no 'precision'"),
        ({"attributor": "lexical", "spread_items": 0}, "spread_items must be at least 1"),
    ],
)
def test_a_configuration_that_is_none_says_why(stored: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        IndexConfig.from_json(stored)


def test_a_configuration_holds_what_its_attributor_reads_and_survives_storing() -> None:
    for config in CONFIGS.values():
        assert IndexConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert "damping" not in CONFIGS["lexical"].to_json()
    changed = dataclasses.replace(CONFIGS["hybrid"], lexical_weight=0.25)
    assert changed.sha256 != CONFIGS["hybrid"].sha256
    assert changed.of_part("midpoint").sha256 == CONFIGS["midpoint"].sha256


def test_a_configuration_of_before_there_was_a_precision_keeps_its_digest() -> None:
    assert "precision" not in IndexConfig().to_json()
    half = dataclasses.replace(CONFIGS["hybrid"], precision="bfloat16")
    assert half.of_part("midpoint").to_json()["precision"] == "bfloat16"
    assert IndexConfig.from_json(half.to_json()) == half
    assert half.sha256 != CONFIGS["hybrid"].sha256


def test_nodes_as_a_number_are_those_of_gauss() -> None:
    assert IndexConfig.from_json({"nodes": 1}).nodes == IndexConfig().nodes
    nodes = IndexConfig.from_json({"nodes": 3}).nodes
    # Three nodes integrate every polynomial up to the fifth degree exactly.
    for power in range(6):
        assert sum(weight * t**power for t, weight in nodes) == pytest.approx(1 / (power + 1))
