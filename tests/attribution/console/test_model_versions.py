"""The staff's pages on which a model version is registered, gets its manifest, and is retired."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from attribution.models import ModelVersion
from attribution.operations.checkpoints import keep_directory
from contributors.operations import consents
from people.models import AuditEvent
from tests.attribution.console.test_model_services import page, staff
from tests.worlds.programme import Programme
from tests.worlds.trained import TRAINED_AT, Trained


@pytest.fixture
def team(programme: Programme) -> Client:
    return staff("model_team")


def registration(trained: Trained, **changes: str) -> dict[str, str]:
    form = {
        "name": "writer-2",
        "adapter": "causal_lm",
        "factory": "demo",
        "purpose": "train_generative",
        "checkpoint_sha256": keep_directory(trained.directory).digest.hex(),
        "trained_at": "2026-11-01 00:00",
    }
    return {**form, **changes}


def manifest_of(programme: Programme) -> SimpleUploadedFile:
    lines = [{"work": str(work.public_id), "token_start": 0, "token_end": 48} for work in programme.works]
    return SimpleUploadedFile("m.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())


def test_the_model_team_registers_a_version_with_its_manifest_and_retires_it(
    team: Client, programme: Programme, trained: Trained
) -> None:
    new = f"/console/services/{programme.service.public_id}/models/new/"
    assert "None: a pushed model" in page(team, new)
    wrong = team.post(new, registration(trained, adapter="classifier"))
    assert wrong.status_code == 422
    assert "register it as causal_lm" in wrong.content.decode()
    made = team.post(new, registration(trained))
    version = ModelVersion.objects.get(name="writer-2")
    address = f"/console/models/{version.public_id}/"
    assert (made.status_code, made.headers["Location"]) == (302, address)
    text = page(team, address)
    assert "Training generative models" in text
    assert "Every work needs consent" in text

    checked = team.post(f"{address}manifest/", {"manifest": manifest_of(programme), "check": "1"})
    assert "It would be accepted" in checked.content.decode()
    assert ModelVersion.objects.get(name="writer-2").state == "registered"
    consents.withdraw_consent(
        contributor=programme.contributors[1],
        scope="train_generative",
        valid_from=TRAINED_AT - timedelta(days=1),
        by=programme.user,
        at=TRAINED_AT - timedelta(days=1),
    )
    refused = team.post(f"{address}manifest/", {"manifest": manifest_of(programme), "check": "1"}).content.decode()
    assert "1 refused" in refused
    assert programme.works[1].title in refused
    stored = team.post(f"{address}manifest/", {"manifest": manifest_of(programme), "store": "1"})
    assert (stored.status_code, "its owner refused" in stored.content.decode()) == (422, True)

    retired = team.post(f"{address}retire/", {"successor": ""})
    assert retired.status_code == 302
    assert ModelVersion.objects.get(name="writer-2").state == "retired"
    logged = AuditEvent.objects.filter(subject=f"model_version:{version.public_id}").values_list("action", flat=True)
    assert list(logged.order_by("sequence")) == ["register_model_version", "retire_model_version"]


def test_a_manifest_is_stored_and_the_version_superseded(team: Client, programme: Programme, trained: Trained) -> None:
    team.post(f"/console/services/{programme.service.public_id}/models/new/", registration(trained))
    version = ModelVersion.objects.get(name="writer-2")
    stored = team.post(
        f"/console/models/{version.public_id}/manifest/", {"manifest": manifest_of(programme), "store": "1"}
    )
    assert stored.status_code == 302
    version.refresh_from_db()
    assert version.state == "ready"
    old = programme.model_version
    team.post(f"/console/models/{old.public_id}/retire/", {"successor": str(version.public_id)})
    old.refresh_from_db()
    assert (old.state, old.superseded_by) == ("retired", version)


def test_others_see_no_form(programme: Programme) -> None:
    auditor = staff("auditor")
    assert auditor.get(f"/console/services/{programme.service.public_id}/models/new/").status_code == 403
    assert auditor.post(f"/console/models/{programme.model_version.public_id}/retire/").status_code == 403


def test_a_mandate_is_recorded_and_revoked(team: Client, programme: Programme) -> None:
    address = f"/console/services/{programme.service.public_id}/mandates/"
    assert "No mandate yet" in page(team, address)
    form = {
        "organisation": "Collecting Society",
        "contributors": str(programme.contributors[0].public_id),
        "uses": ["fine_tune"],
        "evidence": "contract 7",
        "evidence_sha256": "0" * 64,
        "valid_from": "2026-11-01 00:00",
    }
    stranger = team.post(address, {**form, "contributors": "nobody"})
    assert (stranger.status_code, "no contributor nobody" in stranger.content.decode()) == (422, True)
    assert team.post(address, form).status_code == 302
    text = page(team, address)
    assert "Collecting Society" in text
    mandate = programme.service.mandates.get()
    assert team.post(f"/console/mandates/{mandate.public_id}/revoke/").status_code == 302
    assert "Revoked" in page(team, address)
