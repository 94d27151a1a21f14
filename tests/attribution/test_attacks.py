"""What somebody gains who tries to be paid for more than the works taught: measured on models that are trained here.

Every attack retrains: the attacker's items are in the training, as they would be. Shares are those of a pool of which
half goes by attribution and the rest by general shares, averaged over generations, with the noise floor of the product.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attribution.adapters import Example, LoadedModel
from attribution.index import Index, IndexItem, build_index
from attribution.shares import BILLION, apportion_scores
from tests.attribution.small_model import (
    HOLDERS,
    LENGTH,
    PER_HOLDER,
    WORDS,
    Trainer,
    sentences,
    trained,
    training_items,
)
from tests.attribution.test_index import CONFIG

GENERATIONS = [example for holder in range(HOLDERS) for example in sentences(holder, 3, seed=9)]
AVERAGE = [example for holder in range(HOLDERS) for example in sentences(holder, 4, seed=6)]
ATTACKER = 9
VICTIM = 1
NOISE_Z = 2.0
STEPS = (50, 100, 150)


@dataclasses.dataclass(frozen=True)
class Paid:
    """What each holder gets of the pool, and the index that says so."""

    shares: dict[int, float]
    index: Index
    model: LoadedModel


def staged(items: Sequence[IndexItem]) -> LoadedModel:
    """Checkpoints after a third, two thirds and all of the training, as the demo keeps them."""
    model = trained(items, members=1)
    assert isinstance(model.retrain, Trainer)
    trainer = model.retrain
    examples = [item.example for item in items]
    stages = [dataclasses.replace(trainer, steps=steps)(examples, 0) for steps in STEPS]
    states = tuple(dict(stage.module.state_dict()) for stage in stages)
    return dataclasses.replace(model, adapter=stages[-1], checkpoints=states)


def paid(items: Sequence[IndexItem], model: LoadedModel | None = None) -> Paid:
    model = model or staged(items)
    with tempfile.TemporaryDirectory() as scratch:
        index = build_index(Path(scratch) / "index", model=model, items=items, config=CONFIG, mean_of=AVERAGE)
        scores = index.score(index.embed(GENERATIONS))
    ids = scores.holder_ids
    general = apportion_scores(
        holder_ids=ids,
        scores=scores.general.tolist(),
        standard_errors=scores.general_se.tolist(),
        noise_z=NOISE_Z,
        key="general",
    )
    total = np.zeros(len(ids))
    for row in range(len(GENERATIONS)):
        specific = apportion_scores(
            holder_ids=ids,
            scores=scores.specific[row].tolist(),
            standard_errors=scores.specific_se[row].tolist(),
            noise_z=NOISE_Z,
            key=str(row),
        )
        by_general = BILLION / 2 + specific.unattributed_ppb / 2
        total += np.array(specific.ppb) / 2 + np.array(general.ppb) / BILLION * by_general
    return Paid(dict(zip(ids, total / BILLION / len(GENERATIONS), strict=True)), index, model)


@functools.cache
def honest() -> Paid:
    return paid(training_items())


def handed_in(examples: Sequence[Example], holder: int = ATTACKER) -> list[IndexItem]:
    return [IndexItem(example, work_id=900 + number, holder_id=holder) for number, example in enumerate(examples)]


def random_words(count: int) -> list[Example]:
    chance = random.Random(1)
    return [Example(tuple(chance.randrange(WORDS) for _ in range(LENGTH)), prompt_tokens=1) for _ in range(count)]


@torch.no_grad()
def generated(model: LoadedModel, count: int) -> list[Example]:
    chance = torch.Generator().manual_seed(3)
    words = torch.randint(WORDS, (count, 1), generator=chance)
    while words.shape[1] < LENGTH:
        likely = model.adapter.module(words)[:, -1].softmax(-1)
        words = torch.cat([words, torch.multinomial(likely, 1, generator=chance)], 1)
    return [Example(tuple(row), prompt_tokens=1) for row in words.tolist()]


def edited(examples: Sequence[Example], part: float) -> list[Example]:
    chance = random.Random(5)
    return [
        dataclasses.replace(
            example,
            tokens=tuple(chance.randrange(WORDS) if chance.random() < part else word for word in example.tokens),
        )
        for example in examples
    ]


def victims_works() -> list[Example]:
    return [item.example for item in training_items() if item.holder_id == VICTIM]


# --- many accounts --------------------------------------------------------------------------------------------------
def test_the_scores_of_an_account_split_into_many_add_up_to_the_one_account() -> None:
    whole = honest()
    split = [
        dataclasses.replace(item, holder_id=100 + number % 6) if item.holder_id == VICTIM else item
        for number, item in enumerate(training_items())
    ]
    parts = paid(split, whole.model)
    features = whole.index.embed(GENERATIONS)
    before, after = whole.index.score(features), parts.index.score(features)
    pieces = [column for column, holder in enumerate(after.holder_ids) if holder >= 100]
    one = before.holder_ids.index(VICTIM)
    scale = np.abs(before.specific).sum(1)
    assert len(pieces) == 6
    assert (np.abs(after.specific[:, pieces].sum(1) - before.specific[:, one]) / scale).max() < 1e-6
    assert abs(after.general[pieces].sum() - before.general[one]) / np.abs(before.general).sum() < 1e-6
    for holder in set(before.holder_ids) - {VICTIM}:
        own, same = before.holder_ids.index(holder), after.holder_ids.index(holder)
        assert (np.abs(after.specific[:, same] - before.specific[:, own]) / scale).max() < 1e-6


@given(scores=st.lists(st.floats(0.0625, 10, width=32), min_size=1, max_size=12), pieces=st.integers(2, 50))
def test_even_pieces_of_an_account_share_what_it_would_have(scores: list[float], pieces: int) -> None:
    def shares(values: list[float]) -> tuple[int, ...]:
        ids = range(len(values))
        return apportion_scores(
            holder_ids=ids, scores=values, standard_errors=[0.0] * len(values), noise_z=2.0, key="g"
        ).ppb

    first = struct.unpack("<f", struct.pack("<f", scores[0]))[0]
    whole, split = shares([first, *scores[1:]]), shares([*[first / pieces] * pieces, *scores[1:]])
    assert abs(sum(split[:pieces]) - whole[0]) / BILLION < 1e-6


# --- works that are nobody's or somebody else's ---------------------------------------------------------------------
def test_an_exact_copier_gets_half_of_what_both_get_and_nobody_else_pays_for_it() -> None:
    base = [
        dataclasses.replace(item, cluster_id=item.work_id) if item.holder_id == VICTIM else item
        for item in training_items()
    ]
    copies = [
        dataclasses.replace(item, work_id=2_000 + item.work_id, holder_id=ATTACKER)
        for item in base
        if item.holder_id == VICTIM
    ]
    # Nobody else in the cluster yet: it is the holder's alone, as without one.
    assert paid(base, honest().model).shares == pytest.approx(honest().shares, abs=1e-6)
    # Trained on all the same, both get the same, and together at most what twice the training adds.
    both = paid([*base, *copies]).shares
    assert both[ATTACKER] == pytest.approx(both[VICTIM], abs=1e-6)
    assert both[ATTACKER] < honest().shares[VICTIM] * 0.75


@pytest.mark.parametrize("times", [1, 3])
def test_random_words_earn_next_to_nothing_however_many(times: int) -> None:
    flood = handed_in(random_words(PER_HOLDER * times))
    part_of_items = len(flood) / (len(flood) + HOLDERS * PER_HOLDER)
    share = paid([*training_items(), *flood]).shares[ATTACKER]
    assert share < part_of_items / 5


@pytest.mark.parametrize("times", [1, 3])
def test_the_models_own_output_handed_in_as_works_earns_far_less_than_its_part_of_the_items(times: int) -> None:
    flood = handed_in(generated(honest().model, PER_HOLDER * times))
    part_of_items = len(flood) / (len(flood) + HOLDERS * PER_HOLDER)
    share = paid([*training_items(), *flood]).shares[ATTACKER]
    assert share < part_of_items / 2


@pytest.mark.parametrize("part", [0.1, 0.3])
def test_a_copy_edited_past_the_duplicate_detection_earns_no_more_than_what_it_copies(part: float) -> None:
    found = paid([*training_items(), *handed_in(edited(victims_works(), part))]).shares
    assert found[ATTACKER] < found[VICTIM] * 1.1
    assert found[ATTACKER] + found[VICTIM] < honest().shares[VICTIM] * 1.5


# --- generations ----------------------------------------------------------------------------------------------------
def test_the_same_output_reported_again_is_divided_the_same_way_and_moves_nobody_elses_share() -> None:
    index = honest().index
    once = index.score(index.embed(GENERATIONS[:4]))
    flooded = index.score(index.embed([GENERATIONS[0]] * 20 + GENERATIONS[1:4]))
    assert np.abs(flooded.specific[:20] - once.specific[0]).max() < 1e-5 * np.abs(once.specific).max()
    assert np.abs(flooded.specific[20:] - once.specific[1:]).max() < 1e-5 * np.abs(once.specific).max()
    assert np.array_equal(flooded.general, once.general)


def test_an_extreme_score_takes_at_most_the_whole_and_breaks_no_sum() -> None:
    largest = 3.4e38
    found = apportion_scores(
        holder_ids=[1, 2, 3], scores=[largest, 1e-30, -largest], standard_errors=[0.0, 0.0, 0.0], noise_z=2.0, key="g"
    )
    assert found.ppb == (BILLION, 0, 0)
    assert sum(found.ppb) + found.unattributed_ppb == BILLION
    doubtful = apportion_scores(
        holder_ids=[1, 2], scores=[largest, 1.0], standard_errors=[largest, 0.1], noise_z=2.0, key="g"
    )
    assert doubtful.ppb == (0, 0)
    assert doubtful.unattributed_ppb == BILLION
