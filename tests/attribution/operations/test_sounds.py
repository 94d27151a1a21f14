"""Recordings: works of which parts are training items, and outputs that an encoder compares with them."""

from __future__ import annotations

import base64
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from attribution.models import Attribution, Generation, ModelService, ModelVersion
from attribution.operations import attributions, indexes, manifests, model_services, model_versions, reports
from attribution.operations.base_pool import pay_by_base_pool
from attribution.operations.manifest_items import UnableToBuild
from contributors.models import Work
from contributors.operations import consents, people
from contributors.operations.works import NewWork, register_dataset, register_works
from people.operations import users
from tests.worlds.sounds import tone
from tests.worlds.trained import REGISTERED_AT, TRAINED_AT

TONES = (220.0, 550.0, 900.0, 1_150.0)
pytestmark = pytest.mark.django_db


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """One recording each of four people."""
    monkeypatch.setattr(settings, "TRIBUTARY_MODEL_FACTORIES", {"sounds": "tests.worlds.sounds.load"})
    user = users.register_user(email="band@example.org", password="a long enough phrase", at=REGISTERED_AT)
    found = []
    for number, hertz in enumerate(TONES):
        contributor = people.register_contributor(
            user=user,
            kind="person",
            legal_name=f"Player {number}",
            display_name=f"Player {number}",
            country="US",
            at=REGISTERED_AT,
        )
        dataset = register_dataset(
            contributor=contributor, name="Tones", description="", licence="CC0-1.0", at=REGISTERED_AT
        )
        new = NewWork(f"{hertz:g} Hz", Work.Modality.AUDIO, tone(hertz, seed=number))
        found += register_works(dataset=dataset, works=[new], at=REGISTERED_AT)
        consents.grant_consent(
            contributor=contributor,
            scope="train_generative",
            valid_from=REGISTERED_AT,
            by=user,
            source="test",
            at=REGISTERED_AT,
        )
    return found


def registered(works: list[Work], directory: Path, *, parts: int, at: datetime) -> tuple[ModelService, ModelVersion]:
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    service = model_services.register_service(name="band", at=at)
    version = model_versions.register_model_version(
        service=service,
        name="band-1",
        adapter="encoder",
        factory="sounds",
        purpose="train_generative",
        directory=directory,
        trained_at=TRAINED_AT,
        at=at,
    )
    items = [
        manifests.NewItem(work.pk, parts * number + part, part=part)
        for number, work in enumerate(works)
        for part in range(parts)
    ]
    manifests.register_manifest(model_version=version, items=items, at=at)
    version.refresh_from_db()
    return service, version


def as_reported(content: bytes, at: datetime, **changes: Any) -> dict[str, Any]:
    media = {"type": "audio/x-wav", "base64": base64.b64encode(content).decode()}
    body = {"external_id": "s1", "model_version": "band-1", "occurred_at": at.isoformat(), "output": {"media": media}}
    return {**body, **changes}


def test_a_recording_is_compared_by_an_encoder_and_credits_its_like(
    works: list[Work], tmp_path: Path, at: datetime
) -> None:
    service, version = registered(works, tmp_path / "box", parts=2, at=at)
    built = indexes.build_index(model_version=version, config={"attributor": "encoder"}, at=at)
    pay_by_base_pool(index=built, at=at)
    reported = reports.report_generations(
        service=service,
        generations=[
            as_reported(tone(TONES[2], noise=0.1, seed=99), at),
            as_reported(tone(TONES[2])[:60], at, external_id="s2"),
            as_reported(tone(TONES[2], parts=1)[:-400], at, external_id="s3"),
        ],
        at=at,
    )
    assert [result.status for result in reported] == [201, 201, 201]
    assert attributions.attribute_batch(at=at) == 3
    states = {row.external_id: (row.modality, row.state) for row in Generation.objects.all()}
    assert states["s1"] == ("audio", "attributed")
    # A recording that was cut on its way costs nobody else anything, and says why.
    assert states["s2"] == states["s3"] == ("audio", "unattributable")
    assert "has no part 0" in Generation.objects.get(external_id="s3").error
    attribution = Attribution.objects.get(unattributable=False)
    shares = dict(zip(attribution.holder_ids, attribution.shares_ppb, strict=True))
    strongest = max(shares, key=lambda holder: shares[holder])
    assert strongest == works[2].holder_id
    assert attribution.index.method_words == "Similarity of embeddings, not influence"


def test_a_part_that_a_recording_does_not_have_stops_the_build_by_name(
    works: list[Work], tmp_path: Path, at: datetime
) -> None:
    _, version = registered(works, tmp_path / "box", parts=3, at=at)
    with pytest.raises(UnableToBuild, match="Item 2: the model cannot read “220 Hz”: The recording of 0"):
        indexes.build_index(model_version=version, config={"attributor": "encoder"}, at=at)
