"""An index over HTTP: built from pushed features, waiting for its evaluation, evaluated by the service's utilities."""

from __future__ import annotations

import base64
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attribution.models import AttributionIndex, Generation, ModelVersion
from attribution.operations import attributions, base_pool, builds, model_services
from contributors.models import Holder
from influence.adapters.pushed import write_features
from influence.features import report_features
from tests.attribution.api.test_model_versions import NDJSON, Team, lines
from tests.worlds.programme import Programme

MEMBERS, NUMBERS, QUERIES = 2, 5, 12


@dataclass
class Away:
    """A model at its service, with the features that the service keeps of its items."""

    team: Team
    items: np.ndarray
    index: AttributionIndex

    @property
    def path(self) -> str:
        return f"indexes/{self.index.public_id}"

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.team.call("GET", self.path).json()
        return found

    def report(self, **changes: Any) -> dict[str, Any]:
        """Retrain every coalition, as far as a linear model with these features is retrained, and report."""
        told = self.team.call("GET", f"{self.path}/coalitions?count=6").json()
        chance = np.random.default_rng(3)
        queries = self.items[chance.integers(len(self.items), size=QUERIES)] + 0.05 * chance.normal(
            size=(QUERIES, MEMBERS, NUMBERS)
        )
        effect = np.einsum("imk,qmk->iq", self.items, queries) / MEMBERS
        utilities = []
        for coalition in told["coalitions"]:
            present = [n for holder in coalition for start, end in told["holders"][holder] for n in range(start, end)]
            utilities.append(effect[present].sum(0).tolist())
        return {
            "index_sha256": told["index_sha256"],
            "coalitions": 6,
            "recipe": "closed form",
            "queries": {"own_generations": [{"features": encoded(query)} for query in queries]},
            "utilities": {"own_generations": utilities},
            **changes,
        }

    def evaluate(self, report: dict[str, Any]) -> Any:
        return self.team.call("POST", f"{self.path}/evaluations", {"report": report})


def encoded(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


@pytest.fixture
def away(programme: Programme, tmp_path: Path) -> Away:
    scopes = ["models:write", "generations:write", "features:write", "generations:read"]
    _, key = model_services.issue_key(service=programme.service, scopes=scopes, at=programme.at)
    team = Team(programme, key)
    programme.keys[0] = key
    made = team.register(name="far-1", adapter="pushed", factory="pushed", checkpoint=None)
    assert (made.status_code, made.json()["checkpoint_sha256"]) == (201, None)
    parts = [(work, 48 * n) for work in programme.works for n in (0, 1)]
    manifest = lines({"work": str(work.public_id), "token_start": n, "token_end": n + 48} for work, n in parts)
    assert team.call("PUT", "model-versions/far-1/manifest", manifest, media=NDJSON).status_code == 201
    chance = np.random.default_rng(0)
    ways = chance.normal(size=(len(programme.works), MEMBERS, NUMBERS))
    items = np.repeat(ways, 2, 0) + 0.01 * chance.normal(size=(2 * len(ways), MEMBERS, NUMBERS))
    none_yet = team.call("POST", "model-versions/far-1/indexes", {})
    assert none_yet.status_code == 202
    (step,) = builds.steps_to_do()
    with pytest.raises(Exception, match="hand them over with its first index"):
        builds.take_step(step_id=step.pk, at=programme.at)
    write_features(tmp_path / "few", items=items[:3], mean_query=None, measures="influence")
    few = team.call("POST", "model-versions/far-1/indexes", {"features": {"upload": team.upload(tmp_path / "few")}})
    assert (few.status_code, few.json()["field"]) == (422, "features")
    assert "features of 3 items, and the manifest of far-1 has 8" in few.json()["detail"]
    write_features(tmp_path / "all", items=items, mean_query=ways.mean(0), measures="influence")
    queued = team.call("POST", "model-versions/far-1/indexes", {"features": {"upload": team.upload(tmp_path / "all")}})
    assert queued.status_code == 202, queued.content
    assert (queued.json()["attributor"], queued.json()["state"]) == ("pushed", "building")
    assert queued.json()["progress"]["of"] == 1
    while steps := builds.steps_to_do():
        builds.take_step(step_id=steps[0].pk, at=programme.at)
    index = AttributionIndex.objects.get(public_id=queued.json()["id"])
    return Away(team, items, index)


def test_generations_wait_until_their_index_is_evaluated(away: Away) -> None:
    programme = away.team.programme
    body = programme.generation("g1", model_version="far-1")
    body["features"] = report_features(away.items[0].ravel().tolist(), index=str(away.index.public_id))
    (told,) = programme.post({"generations": [body]}).json()["results"]
    assert told["status"] == 201
    assert "is not evaluated: its generations wait" in told["held"]
    assert away.state()["reason"] == told["held"]
    assert away.team.call("GET", "model-versions/far-1").json()["holds"] == told["held"]
    assert attributions.attribute_batch(at=programme.at) == 0
    assert Generation.objects.get().state == "received"

    answer = away.evaluate(away.report())
    assert answer.status_code == 201, answer.content
    evaluation = answer.json()["evaluation"]
    assert (evaluation["passed"], evaluation["made"], evaluation["coalitions"]) == (True, "service", 6)
    assert (evaluation["rule"], evaluation["lds"] > 0.85) == (2, True)
    assert 0 < evaluation["weight"] <= 1
    assert (answer.json()["state"], answer.json()["reason"]) == ("audited", None)
    assert attributions.attribute_batch(at=programme.at) == 1
    attribution = Generation.objects.get().attributions.get()
    assert attribution.weight_ppb == round(evaluation["weight"] * 10**9)
    kept = AttributionIndex.objects.get(pk=away.index.pk).audit
    assert kept is not None
    assert len(kept["evidence"]["utilities"]["own_generations"]) == 6


def test_two_people_may_let_the_base_pool_pay_instead(away: Away) -> None:
    programme = away.team.programme
    body = programme.generation("g1", model_version="far-1")
    body["features"] = report_features(away.items[0].ravel().tolist(), index=str(away.index.public_id))
    programme.post({"generations": [body]})
    base_pool.pay_by_base_pool(index=away.index, at=programme.at)
    assert away.state()["reason"] is None
    assert attributions.attribute_batch(at=programme.at) == 1
    assert Generation.objects.get().attributions.get().weight_ppb == 0
    with pytest.raises(base_pool.UnableToPayByBasePool, match="pays the generations of this index already"):
        base_pool.pay_by_base_pool(index=away.index, at=programme.at)


def test_utilities_that_predict_nothing_give_no_weight(away: Away) -> None:
    report = away.report()
    chance = np.random.default_rng(1)
    report["utilities"] = {"own_generations": chance.normal(size=(6, QUERIES)).tolist()}
    answer = away.evaluate(report)
    assert (answer.status_code, answer.json()["state"], answer.json()["evaluation"]["weight"]) == (201, "failed", 0)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"index_sha256": "00" * 32}, "index_sha256", "another index"),
        ({"lds": 0.1}, "lds", "lds is 0.8"),
        ({"weight": 0.001}, "lds", "by the utilities, not 0.0010"),
        ({"coalitions": 5}, "utilities", "5 rows (retrained models) of 12 numbers (queries), not 6 x 12"),
        ({"coalitions": 3}, "utilities", "4 to 256 coalitions"),
        ({"coalitions": "6"}, "coalitions", "number of retrained models"),
        ({"utilities": {"own_generations": [["x"]]}}, "utilities", "must be 6 rows"),
        ({"utilities": {}}, "utilities", "must be 6 rows"),
        ({"queries": {"own_generations": []}}, "utilities", "8 to 1000 queries"),
        ({"queries": {"own_generations": [{"text": "x"}]}}, "queries.own_generations.0", "the text features"),
        ({"queries": {"own_generations": [{"features": "x"}]}}, "queries.own_generations.0", "base64"),
        ({"queries": {"mine": []}}, "queries", "own_generations and held_out"),
        ({"colour": 1}, "colour", "Nobody reads colour"),
    ],
)
def test_a_report_that_does_not_hold_is_refused_and_changes_nothing(
    away: Away, change: dict[str, Any], field: str, words: str
) -> None:
    answer = away.evaluate({**away.report(), **copy.deepcopy(change)})
    assert (answer.status_code, answer.json().get("field")) == (422, field), answer.content
    assert words in answer.json()["detail"]
    assert AttributionIndex.objects.get(pk=away.index.pk).state == "built"


def test_a_value_that_is_not_finite_is_refused(away: Away) -> None:
    report = away.report()
    report["utilities"]["own_generations"][2][3] = 1e400
    answer = away.evaluate(report)
    assert answer.status_code in {400, 422}
    assert AttributionIndex.objects.get(pk=away.index.pk).state == "built"


def test_coalitions_name_holders_and_their_items(away: Away) -> None:
    told = away.team.call("GET", f"{away.path}/coalitions?count=4").json()
    holders = {str(holder.public_id) for holder in Holder.objects.all()}
    assert set(told["holders"]) == holders
    assert sorted(n for ranges in told["holders"].values() for start, end in ranges for n in range(start, end)) == list(
        range(8)
    )
    assert [len(coalition) for coalition in told["coalitions"]] == [2] * 4
    more = away.team.call("GET", f"{away.path}/coalitions?count=7")
    assert (more.status_code, more.json()["field"]) == (422, "count")
    assert "4 holders have 6 different halves" in more.json()["detail"]


def test_a_pushed_model_is_not_retrained_here(away: Away) -> None:
    answer = away.team.call("POST", f"{away.path}/evaluations", {})
    assert (answer.status_code, "retrain it there" in answer.json()["detail"]) == (409, True)


def test_the_index_of_a_model_that_runs_here_takes_no_report(programme: Programme) -> None:
    _, key = model_services.issue_key(service=programme.service, scopes=["models:write"], at=programme.at)
    team = Team(programme, key)
    version = ModelVersion.objects.get()
    index = AttributionIndex.objects.create(
        model_version=version, config_sha256=bytes(32), sha256=bytes(32), state="built", created_at=programme.at
    )
    report = {"index_sha256": "", "coalitions": 4, "queries": {}, "utilities": {}}
    answer = team.call("POST", f"indexes/{index.public_id}/evaluations", {"report": report})
    assert (answer.status_code, answer.json()["field"]) == (422, "report")
    queued = team.call("POST", f"indexes/{index.public_id}/evaluations", {})
    assert (queued.status_code, queued.json()["progress"]["stage"]) == (202, "evaluation")


def test_an_index_needs_a_manifest_and_a_configuration(programme: Programme) -> None:
    _, key = model_services.issue_key(service=programme.service, scopes=["models:write"], at=programme.at)
    team = Team(programme, key)
    team.register(name="far-1", adapter="pushed", factory="pushed")
    answer = team.call("POST", "model-versions/far-1/indexes", {})
    assert (answer.status_code, "no training manifest" in answer.json()["detail"]) == (409, True)
    wrong = team.call("POST", "model-versions/orator-1/indexes", {"config": {"damping": -1}})
    assert (wrong.status_code, "damping" in wrong.json()["detail"]) == (409, True)
    assert team.call("GET", "indexes/00000000-0000-0000-0000-000000000000").status_code == 404


def test_the_state_of_an_index_needs_one_of_two_scopes(away: Away) -> None:
    programme = away.team.programme
    for scope, status in (("generations:read", 200), ("models:write", 200), ("works:read", 403)):
        _, key = model_services.issue_key(service=programme.service, scopes=[scope], at=programme.at)
        assert Team(programme, key).call("GET", away.path).status_code == status
