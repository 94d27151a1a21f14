"""Features that a service computes where its model runs: taken only whole, finite, for the right index, with the right
key; kept as they came; attributed like any others."""

from __future__ import annotations

import base64
import math
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db import DatabaseError, transaction

from attribution.models import Attribution, AttributionIndex, Generation, ModelVersion
from attribution.operations import attributions, indexes, manifests, model_services, model_versions, recomputations
from attribution.operations.base_pool import pay_by_base_pool
from influence.features import FEATURES_MAX, read_features, report_features
from tests.worlds.programme import Programme
from tests.worlds.trained import TRAINED_AT

MEMBERS, NUMBERS = 2, 5


@dataclass
class Pushing:
    """A programme with its model at its service, and the service's knowledge of its items."""

    programme: Programme
    version: ModelVersion
    index: AttributionIndex
    items: np.ndarray
    key: str

    def generation(self, external_id: str = "p1", **changes: Any) -> dict[str, Any]:
        features = report_features(self.items[0].ravel().tolist(), index=str(self.index.public_id))
        body = {"model_version": self.version.name, "features": features}
        return self.programme.generation(external_id, **{**body, **changes})

    def report(self, *generations: Any, key: str | None = None) -> list[dict[str, Any]]:
        response = self.programme.post({"generations": list(generations)}, key=self.key if key is None else key)
        assert response.status_code == 207, response.content
        results: list[dict[str, Any]] = response.json()["results"]
        return results

    def refusal(self, **changes: Any) -> dict[str, Any]:
        (result,) = self.report(self.generation(**changes))
        assert result["status"] == 422, result
        problem: dict[str, Any] = result["problem"]
        return problem


@pytest.fixture
def pushing(programme: Programme, tmp_path: Path) -> Pushing:
    from influence.adapters.pushed import write_features

    # Two items of each work: those of a work point the same way, and works differ.
    chance = np.random.default_rng(0)
    ways = chance.normal(size=(len(programme.works), MEMBERS, NUMBERS))
    items = np.repeat(ways, 2, 0) + 0.01 * chance.normal(size=(2 * len(ways), MEMBERS, NUMBERS))
    write_features(tmp_path / "features", items=items, mean_query=ways.mean(0), measures="influence")
    version = model_versions.register_model_version(
        service=programme.service,
        name="far-away-1",
        adapter="pushed",
        factory="pushed",
        purpose="train_generative",
        directory=tmp_path / "features",
        trained_at=TRAINED_AT,
        at=programme.at,
    )
    parts = [
        manifests.NewItem(work.pk, 2 * number + part, 48 * part, 48 * (part + 1))
        for number, work in enumerate(programme.works)
        for part in range(2)
    ]
    manifests.register_manifest(model_version=version, items=parts, at=programme.at)
    index = indexes.build_index(model_version=version, config={"attributor": "pushed"}, at=programme.at)
    index = pay_by_base_pool(index=index, at=programme.at)
    _, key = model_services.issue_key(
        service=programme.service, scopes=["generations:write", "features:write"], at=programme.at
    )
    version.refresh_from_db()
    return Pushing(programme, version, index, items.astype(np.float32), key)


def test_what_a_service_reports_is_kept_and_attributed(pushing: Pushing) -> None:
    assert (pushing.index.attributor, pushing.index.method) == ("pushed", "influence")
    assert pushing.index.feature_shape == [MEMBERS, NUMBERS]
    assert pushing.index.method_words == "Features that the service computed, as influence"
    (result,) = pushing.report(pushing.generation(output={"text": ""}))
    assert result["status"] == 201
    stored = Generation.objects.get(pk=result["id"])
    assert bytes(stored.features or b"") == pushing.items[0].tobytes()
    assert stored.features_index == pushing.index
    assert attributions.attribute_batch(at=pushing.programme.at) == 1
    attribution = Attribution.objects.get(generation=stored)
    items = pushing.items.astype(np.float64)
    query = items[0] - np.load(pushing_directory(pushing) / "mean_query.npy")
    # Fewer items than can be paid: all that helped are, for all of their score.
    pay = np.clip(np.einsum("nmk,mk->n", items, query), 0, None).reshape(-1, 2).sum(1)
    found = dict(zip(attribution.holder_ids, attribution.shares_ppb, strict=True))
    shares = [found.get(work.holder_id, 0) / 1e9 for work in pushing.programme.works]
    np.testing.assert_allclose(shares, pay / pay.sum(), atol=0.01)
    assert int(np.argmax(shares)) == 0
    assert recomputations.recompute(attribution=attribution, from_gradients=True).agrees


def pushing_directory(pushing: Pushing) -> Path:
    from django.conf import settings

    return Path(settings.TRIBUTARY_DATA) / pushing.version.directory


def test_the_service_is_told_which_features_its_index_takes(pushing: Pushing) -> None:
    _, reader = model_services.issue_key(
        service=pushing.programme.service, scopes=["generations:read"], at=pushing.programme.at
    )
    answer = pushing.programme.api.get(
        "/api/v1/model-versions?name=far-away-1", headers={"Authorization": f"Bearer {reader}"}
    ).json()
    index = answer["results"][0]["index"]
    assert (index["id"], index["attributor"]) == (str(pushing.index.public_id), "pushed")
    assert index["feature_shape"] == [MEMBERS, NUMBERS]


def test_a_key_without_the_scope_reports_no_features(pushing: Pushing) -> None:
    (result,) = pushing.report(pushing.generation(), key=pushing.programme.key)
    assert result["status"] == 422
    assert result["problem"]["type"] == "/problems/features-not-allowed"
    assert result["problem"]["scope"] == "features:write"
    assert not Generation.objects.exists()


def test_features_for_another_index_or_for_none_are_refused(pushing: Pushing) -> None:
    foreign = {**pushing.generation()["features"], "index": str(uuid.uuid4())}
    problem = pushing.refusal(features=foreign)
    assert problem["type"] == "/problems/foreign-features"
    assert problem["index"] == str(pushing.index.public_id)
    assert pushing.refusal(features=None)["type"] == "/problems/missing-features"
    unasked = pushing.refusal(model_version=pushing.programme.model_version.name)
    assert unasked["type"] == "/problems/unexpected-features"


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


@pytest.mark.parametrize(
    ("values", "problem", "detail"),
    [
        (packed(*[1.0] * 9), "invalid-features", "2 x 5 numbers, not 9"),
        (packed(*[1.0] * 9, math.nan), "invalid-features", "must be finite"),
        (packed(*[1.0] * 9, math.inf), "invalid-features", "must be finite"),
        ("AAAA", "invalid-features", "four bytes each"),
        ("", "invalid-features", "four bytes each"),
        ("not base64!", "invalid-features", "must be base64"),
        ("ü" * 8, "invalid-features", "must be base64"),
        ("A" * 100_000, "invalid-features", f"at most {FEATURES_MAX} numbers"),
        (7, "invalid-field", "must be a string"),
        (None, "invalid-field", "must be a string"),
    ],
)
def test_features_that_are_none_are_refused_with_the_reason(
    pushing: Pushing, values: Any, problem: str, detail: str
) -> None:
    found = pushing.refusal(features={"index": str(pushing.index.public_id), "values": values})
    assert found["type"] == f"/problems/{problem}"
    assert detail in found["detail"]
    assert found["field"] == "features.values"


@pytest.mark.parametrize(
    "features", [{"index": "x", "values": "AAAAAA=="}, {"values": "AAAAAA=="}, [1.0], {"index": 5}]
)
def test_features_without_an_index_are_refused(pushing: Pushing, features: Any) -> None:
    assert pushing.refusal(features=features)["type"] in {"/problems/invalid-field", "/problems/missing-field"}


def test_a_repeated_report_is_the_same_and_other_features_are_a_conflict(pushing: Pushing) -> None:
    first, again = (pushing.report(pushing.generation())[0] for _ in range(2))
    assert (first["status"], again["status"], first["id"]) == (201, 200, again["id"])
    other = report_features(pushing.items[1].ravel().tolist(), index=str(pushing.index.public_id))
    (conflict,) = pushing.report(pushing.generation(features=other))
    assert (conflict["status"], conflict["problem"]["differs"]) == (409, ["output"])


def test_what_was_reported_never_changes_and_names_its_index(pushing: Pushing) -> None:
    pushing.report(pushing.generation())
    with pytest.raises(DatabaseError, match="what was reported does not change"), transaction.atomic():
        Generation.objects.update(features=b"0" * 40)
    with pytest.raises(DatabaseError, match="features_name_their_index"), transaction.atomic():
        Generation.objects.create(
            service=pushing.programme.service,
            external_id="x",
            model_version=pushing.version,
            features=b"0000",
            output_sha256=b"",
            request_sha256=b"",
            occurred_at=pushing.programme.at,
            received_at=pushing.programme.at,
        )


def test_features_of_an_index_that_no_longer_serves_leave_the_generation_unattributed(pushing: Pushing) -> None:
    pushing.report(pushing.generation())
    AttributionIndex.objects.filter(pk=pushing.index.pk).update(state="retired", serving=False)
    second = indexes.build_index(
        model_version=pushing.version, config={"attributor": "pushed", "seed": 1}, at=pushing.programme.at
    )
    pay_by_base_pool(index=second, at=pushing.programme.at)
    attributions.attribute_batch(at=pushing.programme.at)
    generation = Generation.objects.get()
    assert generation.state == "unattributable"
    assert "another index" in generation.error


def test_the_sdk_writes_what_the_api_reads() -> None:
    told = report_features([1.5, -2.0, 1e-30], index="i")
    assert struct.unpack("<3f", read_features(told["values"])) == pytest.approx((1.5, -2.0, 1e-30))
    for values, reason in (
        ([], "1 to"),
        ([math.nan], "finite"),
        ([0.0] * (FEATURES_MAX + 1), "1 to"),
        ([1e39], "finite"),
    ):
        with pytest.raises(ValueError, match=reason):
            report_features(values, index="i")
