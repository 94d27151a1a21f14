"""Outputs that are not text: reported, verified by their content, measured, accrued and shown on receipts."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import struct
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError, transaction
from django.utils import timezone
from PIL import Image
from pytest_django import DjangoDbBlocker

from attribution.models import Attribution, Generation, GenerationPart
from attribution.operations import (
    attributions,
    indexes,
    manifests,
    model_services,
    model_versions,
    outputs,
    recomputations,
)
from attribution.operations.base_pool import pay_by_base_pool
from attribution.operations.measurements import let_the_model_take_its_time
from config.demo import drawing
from contributors.queries.contents import OUTPUTS, path_of
from ledger.operations import periods, plans
from people.operations import users
from people.operations.proposals import approve
from tests.databases import cloned_database, on_database
from tests.worlds.pages import receipt_over_api
from tests.worlds.painted import Painted, Painting, start_painting, train_small
from tests.worlds.trained import NOW, TRAINED_AT
from tests.worlds.world import TERMS

# So many that several of them look like a work, on any machine that trained the model.
DRAWN = 12
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>fetch("/console/")</script></svg>'


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    return train_small(tmp_path_factory.mktemp("drawing"))


@pytest.fixture(scope="session")
def painting_database(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    painted: Painted,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Path, Painting]]:
    """Built once: an index takes seconds."""
    data = tmp_path_factory.mktemp("painting")
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch, cloned_database() as clone:
        patch.setattr(settings, "TRIBUTARY_DATA", data)
        with on_database(clone.name):
            made = start_painting(painted, NOW)
        yield clone.name, data, made


@pytest.fixture
def painting(
    painting_database: tuple[str, Path, Painting],
    django_db_blocker: DjangoDbBlocker,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Painting]:
    """The programme of pictures, at the real time, in a transaction that is rolled back."""
    name, data, made = painting_database
    monkeypatch.setattr(settings, "TRIBUTARY_DATA", data)
    with django_db_blocker.unblock(), on_database(name), transaction.atomic():
        # A busy machine leaves this transaction idle for longer than a session may be.
        let_the_model_take_its_time()
        found = copy.deepcopy(made)
        found.programme.at = timezone.now()
        yield found
        transaction.set_rollback(True)


def reported(painting: Painting, *generations: Any) -> list[dict[str, Any]]:
    answer = painting.programme.post({"generations": list(generations)})
    assert answer.status_code == 207, answer.content
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def refusal(painting: Painting, **output: Any) -> dict[str, Any]:
    (result,) = reported(painting, painting.drawing(output=output))
    assert result["status"] == 422, result
    assert not Generation.objects.exists()
    problem: dict[str, Any] = result["problem"]
    return problem


def as_media(content: bytes, media_type: str = "image/png") -> dict[str, str]:
    return {"type": media_type, "base64": base64.b64encode(content).decode()}


def png(side: int = 16) -> bytes:
    written = io.BytesIO()
    Image.new("L", (side, side), 200).save(written, "PNG")
    return written.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of few bytes that says it has a side of so many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


# --- from the report to the receipt -----------------------------------------------------------------------------------
def test_a_picture_is_reported_measured_accrued_and_stands_on_the_receipt(painting: Painting) -> None:
    programme = painting.programme
    _adopt_plan(painting)
    results = reported(painting, *(painting.drawing(number, f"p{number}") for number in range(DRAWN)))
    assert [result["status"] for result in results] == [201] * DRAWN
    assert attributions.attribute_batch(at=programme.at) == DRAWN
    # A drawing that no work made likelier has nobody's share above the noise. The receipt shown is of one that has.
    attribution = min(Attribution.objects.all(), key=lambda row: row.unattributed_ppb)
    assert attribution.top_works
    generation = attribution.generation
    content = drawing.as_png(painting.painted.drawn[int(generation.external_id[1:])])
    assert (generation.modality, generation.output_text) == ("image", "")
    assert bytes(generation.output_sha256) == hashlib.sha256(content).digest()
    part = generation.media.get()
    assert (part.media_type, part.size_bytes, part.is_kept) == ("image/png", len(content), True)
    assert path_of(OUTPUTS, bytes(part.sha256)).read_bytes() == content

    assert attribution.scored_tokens == 1
    assert sum(attribution.shares_ppb) + attribution.unattributed_ppb == 10**9
    again = recomputations.recompute(attribution=attribution, from_gradients=True)
    assert again.agrees
    assert again.score_error_max is not None
    assert again.score_error_max < 1e-4
    assert programme.accrue(at=programme.at) == DRAWN

    generation.refresh_from_db()
    told = receipt_over_api(programme, generation).json()
    assert (told["modality"], told["state"]) == ("image", "accrued")
    digest = hashlib.sha256(content).hexdigest()
    facts = {"position": 0, "type": "image/png", "sha256": digest, "size": len(content), "kept": True}
    assert told["media"] == [facts]

    # The strongest holder with a work in evidence sees it on the receipt, with the output only if the service permits.
    holder = max(attribution.top_works, key=lambda pk: attribution.shares_ppb[attribution.holder_ids.index(int(pk))])
    place = [each.pk for each in programme.holders].index(int(holder))
    work_id = int(attribution.top_works[holder][0][0])
    work = next(work for work in programme.works if work.pk == work_id)
    browser = programme.client(place)
    page = browser.get(f"/portal/receipts/{generation.pk}/")
    shown = page.content.decode()
    assert f"/portal/works/{work.public_id}/thumbnail" in shown
    assert browser.get(f"/portal/works/{work.public_id}/thumbnail")["Content-Type"] == "image/webp"
    assert "image/png, " in shown
    address = f"/portal/receipts/{generation.pk}/output/0"
    assert address not in shown
    assert browser.get(address).status_code == 404
    model_services.show_outputs(service=programme.service, shown=True, at=programme.at)
    assert address in browser.get(f"/portal/receipts/{generation.pk}/").content.decode()
    drawn = browser.get(address)
    assert (drawn.status_code, drawn["Content-Type"]) == (200, "image/webp")
    assert "sandbox" in drawn["Content-Security-Policy"]
    assert browser.get(f"/portal/receipts/{generation.pk}/output/1").status_code == 404


def _adopt_plan(painting: Painting) -> None:
    at = painting.programme.at
    before = at - timedelta(days=40)
    maker, checker = (
        users.register_user(email=f"{role}@finance.example", password="a long enough phrase", roles=[role], at=before)
        for role in ("finance_maker", "finance_checker")
    )
    periods.open_periods(at=before)
    periods.open_periods(at=at)
    plan = plans.propose_plan(
        by=maker, currency="USD", effective_from=before, at=before, terms={**TERMS, "price": 10**8}
    )
    approve(plan, by=checker, at=before)
    # Weight comes with an evaluation; here every other rule is looked at.
    type(painting.index).objects.filter(pk=painting.index.pk).update(
        state="audited", weight_ppb=10**9, audit={"passed": True}, audited_at=before
    )


def test_a_report_of_a_picture_is_idempotent_and_says_that_the_output_differs(painting: Painting) -> None:
    first, second = (reported(painting, painting.drawing())[0] for _ in range(2))
    assert (first["status"], second["status"]) == (201, 200)
    assert first["id"] == second["id"]
    (third,) = reported(painting, painting.drawing(1, prompt=painting.drawing(0)["prompt"]))
    assert third["status"] == 409
    assert third["problem"]["differs"] == ["output"]
    assert GenerationPart.objects.count() == 1


def test_a_picture_comes_as_a_file_of_a_multipart_body(painting: Painting) -> None:
    content = drawing.as_png(painting.painted.drawn[0])
    one = painting.drawing(output={"media": {"type": "image/png", "file": "drawn"}})
    lost = painting.drawing(external_id="p2", output={"media": {"type": "image/png", "file": "nowhere"}})
    answer = painting.programme.api.post(
        "/api/v1/generations",
        {
            "report": json.dumps({"generations": [one, lost]}),
            "drawn": SimpleUploadedFile("x.exe", content, content_type="application/octet-stream"),
        },
        headers={"Authorization": f"Bearer {painting.programme.key}"},
    )
    assert answer.status_code == 207, answer.content
    first, second = answer.json()["results"]
    assert first["status"] == 201
    assert second["problem"]["type"] == "/problems/missing-file"
    assert "there is drawn" in second["problem"]["detail"]
    # The same as base64 is the same report.
    assert reported(painting, painting.drawing())[0] == {"external_id": "p1", "status": 200, "id": first["id"]}


def test_a_multipart_body_without_a_report_is_refused_in_words(painting: Painting) -> None:
    answer = painting.programme.api.post(
        "/api/v1/generations",
        {"drawn": SimpleUploadedFile("x.png", png())},
        headers={"Authorization": f"Bearer {painting.programme.key}"},
    )
    assert answer.status_code == 400
    assert "report" in answer.json()["detail"]


def test_an_output_of_several_parts_keeps_their_order_and_kinds(painting: Painting) -> None:
    content = drawing.as_png(painting.painted.drawn[0])
    parts = [{"text": "Here it is: "}, {"media": as_media(content)}, {"text": "Enjoy."}]
    (result,) = reported(painting, painting.drawing(output={"parts": parts}))
    assert result["status"] == 201
    generation = Generation.objects.get()
    assert (generation.modality, generation.output_text) == ("mixed", "Here it is: Enjoy.")
    assert [(part.position, part.modality) for part in generation.media.all()] == [(1, "image")]
    assert attributions.attribute_batch(at=painting.programme.at) == 1
    assert Generation.objects.get().state == "attributed"


def test_a_picture_that_the_model_does_not_read_says_why_and_costs_no_other(painting: Painting) -> None:
    foreign = painting.drawing(external_id="p2", output={"media": as_media(png(48))})
    asked = painting.drawing(external_id="p3", prompt={"text": "a cat"})
    assert [result["status"] for result in reported(painting, painting.drawing(), foreign, asked)] == [201] * 3
    assert attributions.attribute_batch(at=painting.programme.at) == 3
    states = {row.external_id: (row.state, row.error) for row in Generation.objects.all()}
    assert states["p1"] == ("attributed", "")
    assert states["p2"] == ("unattributable", "It has (48, 48) pixels, and this model draws 16 x 16.")
    assert "in the manner of" in states["p3"][1]


def test_a_stored_part_does_not_change(painting: Painting) -> None:
    reported(painting, painting.drawing())
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
        GenerationPart.objects.update(media_type="text/html")


def test_the_index_of_pictures_is_evaluated_by_retraining_and_gets_weight(painting: Painting) -> None:
    audited = indexes.audit_index(
        index=painting.index,
        at=painting.programme.at,
        coalitions=10,
        processes=1,
        generations=64,
        # Noise is planted as sequences of tokens.
        controls=True,
    )
    report = audited.audit or {}
    assert (report["coalitions"], report["controls"]) == (10, None)
    assert set(report["own_generations"]) >= {"undivided", "specific", "general", "pro_rata", "embedding"}
    assert "lexical" not in report["own_generations"]
    assert report["own_generations"]["specific"]["lds"] > 0.3
    assert audited.state == "audited"
    assert audited.weight_ppb > 0


# --- hostile and mistaken outputs -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("output", "slug", "said"),
    [
        ({}, "missing-field", "output.media"),
        ({"media": {"type": "image/png"}}, "invalid-field", "exactly one of base64, file"),
        ({"media": {"base64": "AA=="}}, "missing-field", "output.media.type"),
        ({"media": {"type": "png", "base64": "AA=="}}, "invalid-field", "must be a media type, as image/png"),
        ({"media": {"type": "image/png", "base64": "AA==", "colour": 1}}, "unknown-field", "takes only"),
        ({"media": {"type": "image/png", "base64": "no base64!"}}, "invalid-field", "must be base64"),
        ({"media": {"type": "image/png", "base64": ""}}, "invalid-media", "is empty"),
        ({"media": as_media(b"GIF89a and no more", "image/gif")}, "invalid-media", "not a readable"),
        ({"media": as_media(png(), "image/jpeg")}, "invalid-media", "says image/jpeg, and its content is image/png"),
        ({"media": as_media(png(), "audio/wav")}, "invalid-media", "says audio/wav, and its content is image/png"),
        ({"media": as_media(png(), "application/zip")}, "invalid-media", "its content is image/png"),
        ({"media": as_media(SVG, "image/svg+xml")}, "invalid-media", "is SVG, which is a program that draws"),
        ({"media": as_media(SVG, "image/png")}, "invalid-media", "is none of the pictures"),
        ({"media": as_media(b"<script>", "text/html")}, "invalid-media", "report it as output.text"),
        ({"media": as_media(bomb(7_000))}, "invalid-media", "7,000 x 7,000 pixels"),
        ({"media": as_media(bomb(60_000))}, "invalid-media", "far more than"),
        ({"media": as_media(b"MZ\x90\0", "video/mp4")}, "invalid-media", "is none of the pictures"),
        ({"media": as_media(png()), "text": "x"}, "unknown-field", "output takes only media"),
        ({"parts": []}, "invalid-field", "1 to 16 parts"),
        ({"parts": [{"text": "a"}, {"media": as_media(SVG)}]}, "invalid-media", "output.parts[1].media.type"),
        ({"parts": [{"text": "a", "media": as_media(png())}]}, "unknown-field", "output.parts[0] takes only text"),
        ({"text": "a picture, in words"}, "wrong-modality", "report output.media"),
        ({"media": {"type": "image/png", "sha256": "ab" * 32}}, "missing-content", "takes the bytes of its outputs"),
        ({"media": {"type": "image/png", "sha256": "ab"}}, "invalid-field", "must be 64 hexadecimal digits"),
        ({"media": {"type": "image/png", "sha256": "ab" * 32, "size": 0}}, "invalid-field", "more than zero"),
        ({"media": {**as_media(png()), "size": 3}}, "invalid-field", "of bytes it is found out here"),
    ],
)
def test_an_output_that_is_not_what_it_says_is_refused_alone_by_field(
    painting: Painting, output: dict[str, Any], slug: str, said: str
) -> None:
    problem = refusal(painting, **output)
    assert problem["type"] == f"/problems/{slug}"
    assert said in problem["detail"] or said in problem.get("field", "")
    assert problem["field"].startswith("output")
    assert not list((Path(settings.TRIBUTARY_DATA) / OUTPUTS).rglob("*.*"))


def test_too_large_a_part_is_refused_by_its_limit(painting: Painting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "MEDIA_BYTES_MAX", 100)
    problem = refusal(painting, media=as_media(png(64) + bytes(200)))
    assert problem["type"] == "/problems/media-too-large"
    assert "at most 100 bytes" in problem["detail"]


def test_one_hostile_picture_costs_its_batch_nothing(painting: Painting) -> None:
    bad = painting.drawing(external_id="p2", output={"media": as_media(bomb(60_000))})
    first, second, third = reported(painting, painting.drawing(), bad, painting.drawing(2, "p3"))
    assert (first["status"], second["status"], third["status"]) == (201, 422, 201)


def test_any_other_file_is_kept_unread(painting: Painting) -> None:
    assert (
        outputs.read_parts(
            {"media": as_media(b"glTF\2\0\0\0", "model/gltf-binary")}, text_bytes_max=10, files={}
        ).modality
        == "other"
    )


# --- outputs that may not leave their service -------------------------------------------------------------------------
def test_a_digest_with_features_is_attributed_without_its_bytes(painting: Painting, tmp_path: Path) -> None:
    import numpy as np

    from influence.adapters.pushed import write_features
    from influence.features import report_features

    programme = painting.programme
    ways = np.eye(8, dtype=np.float32)
    numbers = {holder: place for place, holder in enumerate(dict.fromkeys(work.holder_id for work in programme.works))}
    write_features(
        tmp_path / "features",
        items=ways[[numbers[work.holder_id] for work in programme.works]],
        mean_query=np.full(8, 1 / 8),
        measures="influence",
    )
    version = model_versions.register_model_version(
        service=programme.service,
        name="private-1",
        adapter="pushed",
        factory="pushed",
        purpose="train_generative",
        directory=tmp_path / "features",
        trained_at=TRAINED_AT,
        at=programme.at,
    )
    items = [manifests.NewItem(work.pk, ordinal) for ordinal, work in enumerate(programme.works)]
    manifests.register_manifest(model_version=version, items=items, at=programme.at)
    index = indexes.build_index(model_version=version, config={"attributor": "pushed"}, at=programme.at)
    pay_by_base_pool(index=index, at=programme.at)
    _, key = model_services.issue_key(
        service=programme.service, scopes=["generations:write", "features:write"], at=programme.at
    )
    media = {"type": "video/mp4", "sha256": "5a" * 32, "size": 123_456, "fingerprint": "0f0f"}
    body = painting.drawing(
        model_version="private-1",
        output={"media": media},
        features=report_features(ways[2].tolist(), index=str(index.public_id)),
    )
    answer = programme.post({"generations": [body]}, key=key)
    assert answer.json()["results"][0]["status"] == 201, answer.content
    part = GenerationPart.objects.get()
    assert (part.modality, part.is_kept, part.size_bytes) == ("video", False, 123_456)
    assert bytes(part.fingerprint) == b"\x0f\x0f"
    assert not path_of(OUTPUTS, bytes(part.sha256)).exists()
    assert attributions.attribute_batch(at=programme.at) == 1
    attribution = Attribution.objects.get()
    strongest = attribution.holder_ids[attribution.shares_ppb.index(max(attribution.shares_ppb))]
    assert numbers[strongest] == 2
