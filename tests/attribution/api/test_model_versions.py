"""The model team's calls: a checkpoint uploaded in parts, a version registered with it, its manifest, its end."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from django.conf import settings
from django.utils import timezone

from attribution.models import CheckpointUpload, ManifestWork, ModelVersion, TrainingItem
from attribution.operations import model_services, uploads
from attribution.operations.factories import load_model
from contributors.operations import consents
from contributors.operations.works import NewWork, register_dataset, register_works
from tests.worlds.programme import Programme
from tests.worlds.trained import Trained

NDJSON, PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"


@dataclass
class Team:
    """A service's model team with a key, over HTTP."""

    programme: Programme
    key: str

    def call(self, method: str, path: str, body: Any = None, *, media: str = "application/json") -> Any:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        return self.programme.api.generic(
            method, f"/api/v1/{path}", sent, content_type=media, headers={"Authorization": f"Bearer {self.key}"}
        )

    def upload(self, directory: Path) -> str:
        """Upload a directory in parts; returns the upload's id."""
        files = {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*.*")}
        opened = self.call(
            "POST",
            "uploads",
            {
                "files": [
                    {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                    for path, content in files.items()
                ]
            },
        )
        assert opened.status_code == 201, opened.content
        name = opened.json()["id"]
        for path, content in files.items():
            size = max(len(content) // 2, 1)
            for start in range(0, len(content), size):
                part = content[start : start + size]
                answer = self.call(
                    "PUT", f"uploads/{name}/parts?path={path}&offset={start}", part, media="application/octet-stream"
                )
                assert answer.status_code == 200, answer.content
        done = self.call("POST", f"uploads/{name}/complete")
        assert done.status_code == 200, done.content
        return str(name)

    def register(self, **changes: Any) -> Any:
        body = {
            "name": "writer-2",
            "adapter": "causal_lm",
            "factory": "demo",
            "purpose": "train_generative",
            "trained_at": "2026-11-01T00:00:00Z",
        }
        return self.call("POST", "model-versions", {**body, **changes})


@pytest.fixture
def team(programme: Programme) -> Team:
    _, key = model_services.issue_key(service=programme.service, scopes=["models:write"], at=programme.at)
    return Team(programme, key)


def lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# --- uploads --------------------------------------------------------------------------------------------------------
def test_a_checkpoint_is_uploaded_in_parts_and_loaded_at_registration(team: Team, trained: Trained) -> None:
    name = team.upload(trained.directory)
    answer = team.register(checkpoint={"upload": name}, licence="CC0-1.0", base_model="from scratch")
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["state"], body["purpose"], body["licence"]) == ("registered", "train_generative", "CC0-1.0")
    kept = Path(settings.TRIBUTARY_DATA) / "models" / body["checkpoint_sha256"]
    assert (kept / "config.json").read_bytes() == (trained.directory / "config.json").read_bytes()
    assert not (Path(settings.TRIBUTARY_DATA) / "uploads" / name).exists()
    # The same again is the same; another body under the name is told apart, field by field.
    assert team.register(checkpoint={"upload": name}, licence="CC0-1.0", base_model="from scratch").status_code == 200
    other = team.register(checkpoint={"upload": name}, purpose="fine_tune")
    assert (other.status_code, other.json()["differs"]) == (409, ["base_model", "licence", "purpose"])
    # By digest, for a directory that lies in the store.
    digest = {"sha256": body["checkpoint_sha256"]}
    assert team.register(name="writer-3", checkpoint=digest).status_code == 201
    assert team.call("GET", "model-versions/writer-3").json()["name"] == "writer-3"
    listed = team.call("GET", "model-versions?limit=2").json()
    assert [version["name"] for version in listed["results"]] == ["writer-3", "writer-2"]
    rest = team.call("GET", listed["next"].split("/api/v1/")[1]).json()
    assert [version["name"] for version in rest["results"]] == ["orator-1"]
    assert rest["next"] is None


def test_layers_that_are_also_traced_are_those_of_the_loaded_model(team: Team, trained: Trained) -> None:
    name = team.upload(trained.directory)
    answer = team.register(checkpoint={"upload": name}, also_traced=["norm"])
    assert answer.status_code == 201, answer.content
    assert answer.json()["config"] == {"also_traced": ["norm"]}
    version = ModelVersion.objects.get(name="writer-2")
    loaded: Any = load_model(version=version)
    version.config = {}
    plain: Any = load_model(version=version)
    assert loaded.adapter.also_traced - plain.adapter.also_traced == {"norm"}
    again = team.register(checkpoint={"upload": name}, also_traced=["embedding"])
    assert (again.status_code, again.json()["differs"]) == (409, ["config"])
    for change in ({"also_traced": ["head"]}, {"config": {"also_traced": "norm"}}):
        assert team.register(name="writer-4", checkpoint={"upload": name}, **change).status_code == 422
    pushed = team.register(name="writer-5", adapter="pushed", factory="pushed", also_traced=["norm"])
    assert (pushed.status_code, pushed.json()["field"]) == (422, "also_traced")


def test_a_wrong_adapter_is_told_at_registration_with_the_right_one(team: Team, trained: Trained) -> None:
    answer = team.register(checkpoint={"upload": team.upload(trained.directory)}, adapter="diffusion")
    assert answer.status_code == 422
    assert (answer.json()["field"], answer.json()["adapter"]) == ("adapter", "causal_lm")
    assert "register it as causal_lm" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"name": "a/b"}, "name", "no slash"),
        ({"purpose": "fun"}, "purpose", "not a valid choice"),
        ({"factory": "os.system"}, "factory", "there is demo, "),
        ({"checkpoint": None}, "checkpoint", "needs a checkpoint"),
        ({"checkpoint": {}}, "checkpoint", "upload"),
        ({"checkpoint": {"sha256": "00" * 32}}, "checkpoint.sha256", "upload it"),
        ({"trained_at": "yesterday"}, "trained_at", "wrong format"),
        ({"trained_at": "2199-01-01T00:00:00Z"}, "trained_at", "future"),
        ({"training_started_at": "2026-11-02T00:00:00Z"}, "training_started_at", "cannot begin"),
        ({"colour": "red"}, "colour", "nobody reads it"),
    ],
)
def test_a_registration_that_cannot_be_names_its_field(
    team: Team, change: dict[str, Any], field: str, words: str
) -> None:
    answer = team.register(**change)
    problem = answer.json()
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    named = problem["field"]
    assert named.startswith(field), problem
    assert words in problem["detail"]
    assert not ModelVersion.objects.filter(name="writer-2").exists()


def test_an_interrupted_upload_goes_on_where_it_stopped(team: Team) -> None:
    content = b"0123456789"
    told = {"path": "a/b.bin", "size": 10, "sha256": hashlib.sha256(content).hexdigest()}
    name = team.call("POST", "uploads", {"files": [told]}).json()["id"]

    def put(offset: int, part: bytes, path: str = "a/b.bin") -> Any:
        return team.call("PUT", f"uploads/{name}/parts?path={path}&offset={offset}", part, media="application/x-any")

    assert put(0, content[:4]).json() == {"path": "a/b.bin", "received": 4}
    gap = put(6, content[6:])
    assert (gap.status_code, gap.json()["received"]) == (409, 4)
    assert put(0, content[:4]).json()["received"] == 4, "a repeated part changes nothing"
    assert team.call("GET", f"uploads/{name}").json()["files"] == [{"path": "a/b.bin", "size": 10, "received": 4}]
    early = team.call("POST", f"uploads/{name}/complete")
    assert (early.status_code, early.json()["received"]) == (409, 4)
    assert put(4, b"xxxxxx").json()["received"] == 10
    assert put(4, b"xxxxxxx").status_code == 422
    assert put(0, b"", path="other").status_code == 404
    wrong = team.call("POST", f"uploads/{name}/complete")
    assert (wrong.status_code, wrong.json()["path"], wrong.json()["received"]) == (422, "a/b.bin", 0)
    assert put(0, content).json()["received"] == 10
    assert team.call("POST", f"uploads/{name}/complete").json()["state"] == "complete"
    assert team.call("POST", f"uploads/{name}/complete").json()["state"] == "complete"
    assert put(0, content).status_code == 409


@pytest.mark.parametrize(
    ("path", "words"), [("../x", "relative"), ("/x", "relative"), ("a//b", "relative"), ("a\\b", "relative")]
)
def test_a_path_outside_of_the_directory_is_refused(team: Team, path: str, words: str) -> None:
    answer = team.call("POST", "uploads", {"files": [{"path": path, "size": 1, "sha256": "00" * 32}]})
    assert (answer.status_code, answer.json()["field"]) == (422, "files.0.path")
    assert words in answer.json()["detail"]


def test_files_that_exclude_each_other_are_refused(team: Team) -> None:
    for paths in (["a", "a"], ["a", "a/b"]):
        files = [{"path": path, "size": 1, "sha256": "00" * 32} for path in paths]
        assert team.call("POST", "uploads", {"files": files}).status_code == 422


def test_unfinished_uploads_are_limited_and_expire(team: Team) -> None:
    file = {"path": "a", "size": 1, "sha256": "00" * 32}
    names = [team.call("POST", "uploads", {"files": [file]}).json()["id"] for _ in range(uploads.OPEN_MAX)]
    team.call("PUT", f"uploads/{names[0]}/parts?path=a&offset=0", b"x")
    assert team.call("POST", "uploads", {"files": [file]}).status_code == 409
    later = timezone.now() + uploads.LIFE + timedelta(seconds=1)
    assert uploads.expire_uploads(at=later) == uploads.OPEN_MAX
    assert not list((Path(settings.TRIBUTARY_DATA) / "uploads").iterdir())
    assert CheckpointUpload.objects.get(public_id=names[0]).state == "expired"
    gone = team.call("PUT", f"uploads/{names[0]}/parts?path=a&offset=0", b"x")
    assert (gone.status_code, gone.json()["type"]) == (410, "/problems/unable-to-upload")


def test_another_service_finds_neither_upload_nor_checkpoint_nor_version(team: Team, trained: Trained) -> None:
    name = team.upload(trained.directory)
    digest = team.call("GET", f"uploads/{name}").json()["sha256"]
    stranger = model_services.register_service(name="stranger", at=team.programme.at)
    _, key = model_services.issue_key(service=stranger, scopes=["models:write"], at=team.programme.at)
    other = Team(team.programme, key)
    assert other.call("GET", f"uploads/{name}").status_code == 404
    assert other.register(checkpoint={"upload": name}).status_code == 422
    assert other.register(checkpoint={"sha256": digest}).status_code == 422
    assert other.call("GET", "model-versions/orator-1").status_code == 404
    assert other.call("POST", "model-versions/orator-1/retire").status_code == 404


def test_a_key_without_the_scope_registers_nothing(team: Team) -> None:
    reader = Team(team.programme, team.programme.key)
    for method, path in [
        ("POST", "uploads"),
        ("POST", "model-versions"),
        ("PUT", "model-versions/orator-1/manifest"),
        ("POST", "model-versions/orator-1/indexes"),
        ("POST", "model-versions/orator-1/retire"),
        ("POST", "model-versions/orator-1/supersede"),
    ]:
        answer = reader.call(method, path, {})
        assert (answer.status_code, answer.json()["scope"]) == (403, "models:write"), path
    assert reader.call("GET", "model-versions/orator-1").status_code == 200


# --- manifests ------------------------------------------------------------------------------------------------------
@pytest.fixture
def registered(team: Team, trained: Trained) -> Team:
    assert team.register(checkpoint={"upload": team.upload(trained.directory)}).status_code == 201
    return team


def test_a_manifest_names_works_by_id_digest_or_fingerprint(registered: Team) -> None:
    works = registered.programme.works
    body = lines(
        [
            {"work": str(works[0].public_id), "token_start": 0, "token_end": 48},
            {"sha256": bytes(works[1].sha256).hex().upper(), "token_start": 48, "token_end": 96},
            {"fingerprint": bytes(works[2].fingerprint).hex()},
        ]
    )
    dry = registered.call("PUT", "model-versions/writer-2/manifest?dry_run=true", body, media=NDJSON)
    assert dry.json() == {"items": 3, "works": 3, "refused": [], "would_be_accepted": True}
    assert registered.call("GET", "model-versions/writer-2").json()["manifest"] is None
    stored = registered.call("PUT", "model-versions/writer-2/manifest", body, media=NDJSON)
    assert stored.status_code == 201, stored.content
    assert (stored.json()["items"], stored.json()["works"]) == (3, 3)
    version = ModelVersion.objects.get(name="writer-2")
    rows = TrainingItem.objects.filter(manifest__model_version=version).order_by("ordinal")
    assert list(rows.values_list("ordinal", "work", "token_start", "token_end", "part")) == [
        (0, works[0].pk, 0, 48, None),
        (1, works[1].pk, 48, 96, None),
        (2, works[2].pk, None, None, None),
    ]
    assert version.state == "ready"
    assert ManifestWork.objects.filter(manifest__model_version=version).count() == 3
    again = registered.call("PUT", "model-versions/writer-2/manifest", body, media=NDJSON)
    assert again.json()["sha256"] == stored.json()["sha256"]
    fewer = lines([{"work": str(works[0].public_id)}])
    other = registered.call("PUT", "model-versions/writer-2/manifest", fewer, media=NDJSON)
    assert other.status_code == 409


def test_parquet_and_json_lines_make_the_same_manifest(registered: Team, trained: Trained) -> None:
    works = [str(work.public_id) for work in registered.programme.works]
    rows = [{"work": works[place % 4], "token_start": place, "token_end": place + 9} for place in range(40)]
    written = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), written)
    first = registered.call("PUT", "model-versions/writer-2/manifest", lines(rows), media=NDJSON)
    digest = registered.call("GET", "model-versions/writer-2").json()["checkpoint_sha256"]
    registered.register(name="writer-3", checkpoint={"sha256": digest})
    second = registered.call("PUT", "model-versions/writer-3/manifest", written.getvalue(), media=PARQUET)
    assert second.status_code == 201, second.content
    assert first.json()["sha256"] == second.json()["sha256"]


def test_every_refused_work_is_named_with_its_lines(registered: Team) -> None:
    programme = registered.programme
    works = programme.works
    for number in (1, 2):
        consents.withdraw_consent(
            contributor=programme.contributors[number],
            scope="train_generative",
            valid_from=programme.at - timedelta(days=25),
            by=programme.user,
            at=programme.at - timedelta(days=25),
        )
    dataset = register_dataset(
        contributor=programme.contributors[3], name="Copies", description="", licence="own", at=programme.at
    )
    (copy,) = register_works(
        dataset=dataset,
        works=[NewWork("A copy", "text", (Path(settings.TRIBUTARY_DATA) / works[0].content_path).read_bytes())],
        at=programme.at,
    )
    same = bytes(works[0].sha256).hex()
    body = lines(
        [
            {"work": str(works[1].public_id), "token_start": 0, "token_end": 9},
            {"work": str(works[0].public_id), "token_start": 0, "token_end": 9},
            {"work": str(works[2].public_id)},
            {"work": str(works[1].public_id)},
            {"sha256": same},
            {"work": "00000000-0000-0000-0000-000000000000"},
            {"work": str(works[0].public_id), "part": 3},
        ]
    )
    for query, status in (("?dry_run=1", 200), ("", 422)):
        answer = registered.call("PUT", f"model-versions/writer-2/manifest{query}", body, media=NDJSON)
        assert answer.status_code == status
        refused = {(row["reason"], row["work"] or row["reference"]): row for row in answer.json()["refused"]}
        assert {key: row["lines"] for key, row in refused.items()} == {
            ("refused", str(works[1].public_id)): [1, 4],
            ("refused", str(works[2].public_id)): [3],
            ("ambiguous", f"sha256:{same}"): [5],
            ("unknown", "work:00000000-0000-0000-0000-000000000000"): [6],
            ("misfit", str(works[0].public_id)): [7],
        }
        assert refused["ambiguous", f"sha256:{same}"]["candidates"] == [
            str(works[0].public_id),
            str(copy.public_id),
        ]
    assert ModelVersion.objects.get(name="writer-2").state == "registered"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b'{"work": "x"}', "work must be the id of a work"),
        (b'{"sha256": "00"}', "64 hexadecimal"),
        (b"{}", "exactly one of"),
        (b'{"work": "%s", "sha256": "%s"}' % (b"0" * 8, b"0" * 64), "not by 2"),
        (b'{"title": "x"}', "Nobody reads title"),
        (b'{"work": "00000000-0000-0000-0000-000000000000", "token_start": 5, "token_end": 5}', "after the start"),
        (b'{"work": "00000000-0000-0000-0000-000000000000", "token_start": 5}', "after the start"),
        (b'{"work": "00000000-0000-0000-0000-000000000000", "part": -1}', "from 0"),
        (b'{"work": "00000000-0000-0000-0000-000000000000", "part": true}', "from 0"),
        (b'{"x": "%s"}' % (b"y" * 20_000), "at most 16384 bytes"),
        (b"\xff\xfe", "no JSON object"),
    ],
)
def test_a_line_that_is_none_is_named_by_its_number(registered: Team, line: bytes, words: str) -> None:
    good = lines([{"work": str(registered.programme.works[0].public_id)}])
    answer = registered.call(
        "PUT", "model-versions/writer-2/manifest", good + b"\n" + line + b"\n" + good, media=NDJSON
    )
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["type"], problem["line"]) == ("/problems/malformed-manifest", 3)
    assert words in problem["detail"]
    assert [fault["line"] for fault in problem["faults"]] == [3]


@pytest.mark.parametrize(
    ("body", "media", "status", "words"),
    [
        (b"\n\n", NDJSON, 422, "no items"),
        (b"PAR1 not really PAR1", PARQUET, 422, "no readable Parquet"),
        (b"{}", PARQUET, 422, "no Parquet"),
        (b"{}", "text/csv", 415, "is sent as application/x-ndjson"),
    ],
)
def test_a_body_that_is_no_manifest_is_refused(
    registered: Team, body: bytes, media: str, status: int, words: str
) -> None:
    answer = registered.call("PUT", "model-versions/writer-2/manifest", body, media=media)
    assert answer.status_code == status, answer.content
    assert words in answer.json()["detail"]


# --- the end --------------------------------------------------------------------------------------------------------
def test_a_version_is_superseded_and_takes_no_generation_any_more(registered: Team) -> None:
    programme = registered.programme
    early = registered.call("POST", "model-versions/orator-1/supersede", {"by": "writer-2"})
    assert (early.status_code, "no training manifest" in early.json()["detail"]) == (409, True)
    body = lines([{"work": str(programme.works[0].public_id)}])
    registered.call("PUT", "model-versions/writer-2/manifest", body, media=NDJSON)
    answer = registered.call("POST", "model-versions/orator-1/supersede", {"by": "writer-2"})
    assert (answer.status_code, answer.json()["state"]) == (200, "retired")
    assert answer.json()["superseded_by"] == "writer-2"
    (result,) = programme.report(programme.generation("late"))
    assert result.refusal is not None
    assert result.refusal.problem == "retired-model-version"
    assert registered.call("POST", "model-versions/writer-2/retire").json()["state"] == "retired"
    assert registered.call("POST", "model-versions/writer-2/retire").status_code == 409
