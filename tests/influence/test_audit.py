"""An audit retrains for real: a good index passes well above pro rata, one with the wrong holders fails."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from influence.adapters import LoadedModel
from influence.evaluation.agreement import bootstrapped_lds
from influence.evaluation.lds import (
    Candidate,
    UnableToAudit,
    audit,
    choose,
    choose_coalitions,
    retrain_ahead,
    weight_ppb,
)
from influence.index.reader import Index, IndexItem, build_index
from influence.shares import BILLION
from tests.influence.test_index import CONFIG
from tests.worlds.small_model import HOLDERS, Trainer, sentences, trained, training_items

HELD_OUT = [example for holder in range(HOLDERS) for example in sentences(holder, 4, seed=5)]
SAID = [example for holder in range(HOLDERS) for example in sentences(holder, 4, seed=6)]
COALITIONS = 12


@pytest.fixture(scope="module")
def items() -> list[IndexItem]:
    return training_items()


@pytest.fixture(scope="module")
def model(items: list[IndexItem]) -> LoadedModel:
    return trained(items)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


def build(directory: Path, model: LoadedModel, items: list[IndexItem]) -> Index:
    return build_index(directory, model=model, items=items, config=CONFIG, mean_of=SAID)


def report_of(index: Index, model: LoadedModel, items: list[IndexItem], cache: Path, **options: Any) -> dict[str, Any]:
    return audit(
        index,
        model=model,
        items=items,
        held_out=HELD_OUT,
        own_generations=SAID,
        cache=cache,
        coalitions=COALITIONS,
        **{"controls": False, **options},
    )


@pytest.fixture(scope="module")
def index(model: LoadedModel, items: list[IndexItem], tmp_path_factory: pytest.TempPathFactory) -> Index:
    return build(tmp_path_factory.mktemp("indexes") / "one", model, items)


@pytest.fixture(scope="module")
def report(index: Index, model: LoadedModel, items: list[IndexItem], cache: Path) -> dict[str, Any]:
    return report_of(index, model, items, cache)


def test_retrained_coalitions_agree_with_the_scores_far_more_than_with_pro_rata(report: dict[str, Any]) -> None:
    for queries in ("own_generations", "held_out"):
        assert report[queries]["undivided"]["lds"] > 0.5
        assert report[queries]["specific"]["lds"] > 0.5
        assert report[queries]["pro_rata"]["lds"] < 0.25
    assert report["passed"]


def test_the_weight_follows_from_the_lower_bound_on_own_generations(report: dict[str, Any]) -> None:
    measured = report["paid"]["own_generations"][f"rule_{report['rule']}"]
    assert report["rule"] == 2
    assert measured["low"] < measured["lds"] < measured["high"]
    assert report["lds_low"] == measured["low"]
    assert report["weight_ppb"] == weight_ppb(measured["low"], weight_low=0.05, weight_high=0.5)


def test_an_index_that_gives_works_to_the_wrong_holders_fails(
    model: LoadedModel, items: list[IndexItem], tmp_path: Path, cache: Path, report: dict[str, Any]
) -> None:
    # Same items, same retrained coalitions: only the holders that the index believes in are shuffled.
    holders = [item.holder_id for item in items]
    random.Random(1).shuffle(holders)
    wrong = [dataclasses.replace(item, holder_id=holder) for item, holder in zip(items, holders, strict=True)]
    found = report_of(build(tmp_path / "wrong", model, wrong), model, items, cache)
    assert not found["passed"]
    assert found["weight_ppb"] < report["weight_ppb"] / 4
    assert found["own_generations"]["specific"]["lds"] < 0.3


def test_paid_shares_of_both_rules_are_judged_as_paid_and_cut_into_an_account_an_item(report: dict[str, Any]) -> None:
    paid = report["paid"]
    assert paid["items_counted"] == len(training_items())
    assert str(paid["items"]) in paid["tried"]
    for part in ("own_generations", "held_out"):
        sums, items = paid[part]["rule_1"], paid[part]["rule_2"]
        assert items["lds"] > 0.4
        assert items["low"] < items["lds"] < items["high"]
        assert 0 <= items["tv"] <= 1
        # The reason for rule 2: no account gains by being cut, and nothing else changes.
        assert abs(items["split_gain"] - 1) <= 0.01
        assert items["split"] == {"lds": items["lds"], "tv": items["tv"]}
        assert sums["split_gain"] > 1.05


def test_baselines_stand_beside_and_explain_less(report: dict[str, Any]) -> None:
    own = report["own_generations"]
    assert {"pro_rata", "lexical", "embedding"} <= own.keys()
    assert own["undivided"]["lds"] > max(own[name]["lds"] for name in ("pro_rata", "embedding"))


def test_a_planted_copy_earns_what_its_twin_does_and_planted_noise_is_told_beside_its_part_of_the_items(
    index: Index, model: LoadedModel, items: list[IndexItem], tmp_path: Path, cache: Path, report: dict[str, Any]
) -> None:
    found = report_of(index, model, items, cache, controls=True)["controls"]
    assert found["noise_items"] > 0.1
    # This training ignores its seed, so that no disagreement tells noise from signal: test_attacks.py has the ensemble.
    assert 0 <= found["noise"] < 2 * found["noise_items"]
    # An account an item earns the planted ones nothing more.
    assert found["noise_split"] == pytest.approx(found["noise"], rel=0.01)
    assert found["copier_split"] == pytest.approx(found["copier"], rel=0.01)
    assert found["copier"] == pytest.approx(found["copied"], rel=1e-3)
    assert found["copier"] > 0.02


def test_what_is_chosen_is_chosen_on_coalitions_that_the_audit_does_not_use(
    index: Index, model: LoadedModel, items: list[IndexItem], cache: Path, report: dict[str, Any]
) -> None:
    scores = index.score(index.embed(SAID)).specific
    told: dict[str, Any] = {"model": model, "items": items, "own_generations": SAID, "holder_ids": index.holder_ids}
    found = choose(
        [Candidate("as it is", scores), Candidate("upside down", -scores)], **told, cache=cache, coalitions=COALITIONS
    )
    assert found["as it is"] > 0.4
    assert found["upside down"] == -found["as it is"]
    used = choose_coalitions(index.holder_ids, count=COALITIONS, seed=0)
    others = choose_coalitions(index.holder_ids, count=40, seed=1, besides=set(used))
    assert not set(used) & set(others)


def test_an_audit_of_all_halves_leaves_none_to_choose_on(
    index: Index, model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    told: dict[str, Any] = {"model": model, "items": items, "own_generations": SAID, "holder_ids": index.holder_ids}
    with pytest.raises(UnableToAudit, match="none is left to choose on"):
        choose([], **told, cache=tmp_path, coalitions=70)


def test_a_report_is_plain_json(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report)) == report


def test_a_finished_audit_is_read_from_its_cache(
    index: Index, model: LoadedModel, items: list[IndexItem], cache: Path, report: dict[str, Any]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("retrained-*.npy")}
    again = report_of(index, model, items, cache)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("retrained-*.npy")} == before
    assert {**again, "seconds": 0} == {**report, "seconds": 0}


KILLED = """
import pathlib, sys
from tests.influence import test_audit
from tests.worlds.small_model import trained, training_items
from influence.index.reader import open_index
items = training_items()
model = trained(items)
index = open_index(pathlib.Path(sys.argv[1]), model=model)
test_audit.report_of(index, model, items, pathlib.Path(sys.argv[2]), processes=1)
"""


def test_a_killed_audit_goes_on_where_it_stopped(
    index: Index, model: LoadedModel, items: list[IndexItem], tmp_path: Path, report: dict[str, Any]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([sys.executable, "-c", KILLED, index.path, tmp_path / "audit"], env=environment)
    deadline = time.monotonic() + 240
    while not list(tmp_path.rglob("retrained-*.npy")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    time.sleep(0.5)
    left = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("retrained-*.npy")}
    assert 0 < len(left) < COALITIONS
    resumed = report_of(index, model, items, tmp_path / "audit")
    assert {path: path.stat().st_mtime_ns for path in left} == left
    assert len({path.parent for path in tmp_path.rglob("retrained-*.npy")}) == 1
    assert {**resumed, "seconds": 0} == {**report, "seconds": 0}


def test_an_audit_takes_the_models_that_were_retrained_ahead(
    index: Index, model: LoadedModel, items: list[IndexItem], tmp_path: Path, report: dict[str, Any]
) -> None:
    assert isinstance(model.retrain, Trainer)
    with retrain_ahead(model.retrain, items, cache=tmp_path, coalitions=COALITIONS, processes=2) as running:
        deadline = time.monotonic() + 240
        while running.done() < running.total:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    # Retraining fails now: the audit reports on the kept models, and the report is the same as without them.
    failing = dataclasses.replace(model, retrain=dataclasses.replace(model.retrain, fails=True))
    assert {**report_of(index, failing, items, tmp_path), "seconds": 0} == {**report, "seconds": 0}
    kept = list(tmp_path.rglob("*.model"))
    assert len(kept) == COALITIONS
    assert not any(path.stat().st_size for path in kept)


def test_an_audit_and_a_retraining_ahead_share_the_coalitions(
    index: Index, model: LoadedModel, items: list[IndexItem], tmp_path: Path, report: dict[str, Any]
) -> None:
    assert isinstance(model.retrain, Trainer)
    with retrain_ahead(model.retrain, items, cache=tmp_path, coalitions=COALITIONS) as running:
        found = report_of(index, model, items, tmp_path, processes=1)
        assert running.done() == running.total
    assert {**found, "seconds": 0} == {**report, "seconds": 0}


def test_other_items_take_no_model_that_was_retrained_ahead(
    index: Index, model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    assert isinstance(model.retrain, Trainer)
    with retrain_ahead(model.retrain, items[1:], cache=tmp_path, coalitions=COALITIONS) as running:
        while not running.done():
            time.sleep(0.02)
    failing = dataclasses.replace(model, retrain=dataclasses.replace(model.retrain, fails=True))
    with pytest.raises(UnableToAudit, match="the loss went to infinity"):
        report_of(index, failing, items, tmp_path)


def test_a_retraining_that_fails_is_told_with_its_reason(
    index: Index, model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    assert isinstance(model.retrain, Trainer)
    failing = dataclasses.replace(model, retrain=dataclasses.replace(model.retrain, fails=True))
    with pytest.raises(UnableToAudit, match="ArithmeticError: the loss went to infinity"):
        report_of(index, failing, items, tmp_path)


def test_progress_counts_coalitions(
    index: Index, model: LoadedModel, items: list[IndexItem], cache: Path, report: dict[str, Any]
) -> None:
    told: list[tuple[str, int, int]] = []
    report_of(index, model, items, cache, progress=lambda *step: told.append(step))
    assert told[-1] == ("retrain", COALITIONS, COALITIONS)


def test_a_model_that_cannot_be_retrained_cannot_be_audited(
    index: Index, model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    with pytest.raises(UnableToAudit, match="cannot be retrained"):
        report_of(index, dataclasses.replace(model, retrain=None), items, tmp_path)


def test_coalitions_are_different_halves_decided_by_the_seed() -> None:
    found = choose_coalitions(range(1, 9), count=30, seed=4)
    assert len(set(found)) == 30
    assert all(len(coalition) == 4 for coalition in found)
    assert found == choose_coalitions(range(1, 9), count=30, seed=4) != choose_coalitions(range(1, 9), count=30, seed=5)
    assert found[:12] == choose_coalitions(range(1, 9), count=12, seed=4)


@pytest.mark.parametrize(("holders", "count"), [(3, 4), (8, 71), (8, 3), (1, 4)])
def test_more_coalitions_than_there_are_halves_are_refused(holders: int, count: int) -> None:
    with pytest.raises(UnableToAudit, match="different halves"):
        choose_coalitions(range(holders), count=count, seed=0)


def test_lds_is_one_for_a_perfect_order_and_nothing_for_none() -> None:
    chance = np.random.default_rng(0)
    actual = chance.normal(size=(20, 30))
    assert bootstrapped_lds(3 * actual + 1, actual, seed=0)["lds"] == 1.0
    assert bootstrapped_lds(-actual, actual, seed=0)["lds"] == -1.0
    assert bootstrapped_lds(np.zeros_like(actual), actual, seed=0) == {"lds": 0.0, "low": 0.0, "high": 0.0}
    noise = bootstrapped_lds(chance.normal(size=(20, 30)), actual, seed=0)
    assert noise["low"] < 0 < noise["high"]


def test_the_weight_is_nothing_below_the_low_mark_and_all_above_the_high_one() -> None:
    assert weight_ppb(0.05, weight_low=0.05, weight_high=0.5) == 0
    assert weight_ppb(-0.3, weight_low=0.05, weight_high=0.5) == 0
    assert weight_ppb(0.1625, weight_low=0.05, weight_high=0.5) == 250_000_000
    assert weight_ppb(0.9, weight_low=0.05, weight_high=0.5) == BILLION
