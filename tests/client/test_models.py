"""A model team's day by the client and by the command line: checkpoint, version, manifest, index, evaluation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone as clock
from tributary import InvalidInput, ProblemError, Tributary
from tributary.backoff import Backoff
from tributary.errors import Interrupted
from tributary.progress import Progress
from tributary.uploads import read_checkpoint

from attribution.models import AttributionIndex, CheckpointUpload
from attribution.operations import builds, evaluations
from contributors.operations import people
from contributors.operations.works import register_dataset, register_works
from tests.client.conftest import Command, Served
from tests.worlds.trained import REGISTERED_AT, SMALL_INDEX, Trained, new_work

pytestmark = pytest.mark.usefixtures("on_served_data")
TRAINED = datetime(2026, 11, 1, tzinfo=UTC)
REGISTRATION: dict[str, Any] = {
    "adapter": "causal_lm",
    "factory": "demo",
    "purpose": "train_generative",
    "trained_at": TRAINED,
}
OPTIONS = ["--adapter", "causal_lm", "--factory", "demo", "--purpose", "train_generative"]
OPTIONS += ["--trained-at", "2026-11-01T00:00:00Z"]


@pytest.fixture
def client(served: Served) -> Iterator[Tributary]:
    key = served.key_with("models:write", "generations:read")
    with Tributary(served.url, key, backoff=Backoff(first=0.05, most=0.2)) as client:
        yield client


@pytest.fixture
def checkpoint(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the trained model's files, with an empty one and a folder."""
    directory = tmp_path / "checkpoint"
    shutil.copytree(trained.directory, directory)
    (directory / "notes").mkdir()
    (directory / "notes" / "empty.txt").touch()
    return directory


def items_of(served: Served, trained: Trained) -> list[dict[str, Any]]:
    works = served.programme.works
    return [
        {"work": str(works[work].public_id), "token_start": start, "token_end": end}
        for work, start, end in trained.items
    ]


def a_work_without_consent(served: Served, trained: Trained) -> str:
    contributor = people.register_contributor(
        user=served.programme.members[0],
        kind="person",
        legal_name="N. Obody",
        display_name="N. Obody",
        country="US",
        at=REGISTERED_AT,
    )
    dataset = register_dataset(contributor=contributor, name="Kept", description="", licence="none", at=REGISTERED_AT)
    content = b"Nobody may train on this. " * 20
    kept = replace(new_work(trained.addresses[0]), content=content, title="Kept back")
    (work,) = register_works(dataset=dataset, works=[kept], at=REGISTERED_AT)
    return str(work.public_id)


def test_from_a_directory_to_an_evaluated_index(
    served: Served, client: Tributary, checkpoint: Path, trained: Trained, tmp_path: Path
) -> None:
    told: list[Progress] = []
    upload = client.uploads.push(checkpoint, on_progress=told.append)
    assert upload["sha256"] == read_checkpoint(checkpoint).sha256
    assert {progress.stage for progress in told} == {"digest", "upload"}
    assert (told[-1].done, told[-1].of) == (told[-1].of, read_checkpoint(checkpoint).size)

    version = client.model_versions.register(name="writer-1", upload=upload["id"], licence="CC0-1.0", **REGISTRATION)
    assert (version["state"], version["checkpoint_sha256"]) == ("registered", upload["sha256"])
    again = client.model_versions.register(name="writer-1", upload=upload["id"], licence="CC0-1.0", **REGISTRATION)
    assert again["id"] == version["id"]
    with pytest.raises(ProblemError) as caught:
        client.model_versions.register(name="writer-1", upload=upload["id"], licence="other", **REGISTRATION)
    assert (caught.value.status, caught.value.members["differs"]) == (409, ["licence"])
    with pytest.raises(ProblemError, match="register it as causal_lm"):
        client.model_versions.register(
            name="writer-x", sha256=upload["sha256"], **{**REGISTRATION, "adapter": "diffusion"}
        )

    items = items_of(served, trained)
    refused_work = a_work_without_consent(served, trained)
    checked = client.manifests.check("writer-1", [*items, {"work": refused_work}])
    assert not checked["would_be_accepted"]
    assert [(refused["work"], refused["lines"]) for refused in checked["refused"]] == [(refused_work, [len(items) + 1])]
    with pytest.raises(ProblemError) as caught:
        client.manifests.push("writer-1", [*items, {"work": refused_work}])
    assert (caught.value.status, caught.value.members["refused"][0]["work"]) == (422, refused_work)
    assert client.manifests.check("writer-1", items)["would_be_accepted"]
    stored = client.manifests.push("writer-1", items)
    assert (stored["items"], stored["works"]) == (len(items), len(trained.addresses))
    assert client.model_versions.get("writer-1")["manifest"]["sha256"] == stored["sha256"]

    index = client.indexes.build("writer-1", config=SMALL_INDEX)
    assert index["state"] == "building"
    told.clear()
    _build_in_steps()
    index = client.indexes.wait(index["id"], timeout_seconds=30, on_progress=told.append)
    assert (index["state"], index["model_version"]) == ("built", "writer-1")
    queued = client.indexes.evaluate(index["id"])
    assert queued["progress"]
    row = AttributionIndex.objects.get(public_id=index["id"])
    assert evaluations.take_audit(index_id=row.pk, at=clock.now(), coalitions=4, controls=False)
    evaluated = client.indexes.wait(index["id"], is_evaluated=True, timeout_seconds=30)
    assert evaluated["evaluation"]["coalitions"] == 4

    assert "writer-1" in [version["name"] for version in client.model_versions.list()]
    assert client.model_versions.supersede("writer-1", by="orator-1")["superseded_by"] == "orator-1"
    with pytest.raises(ProblemError):
        client.model_versions.retire("writer-1")


def _build_in_steps() -> None:
    """Do the steps of every build as the workers do."""
    for _ in range(50):
        steps = builds.steps_to_do()
        if not steps:
            return
        for step in steps:
            builds.take_step(step_id=step.pk, at=clock.now())
    raise AssertionError("the build does not end")


def test_an_interrupted_upload_goes_on(client: Tributary, checkpoint: Path) -> None:
    (checkpoint / "large.bin").write_bytes(bytes(range(256)) * 100_000)
    sent: list[int] = []

    def stop(progress: Progress) -> None:
        if progress.stage == "upload":
            sent.append(progress.done)
            if progress.done > 9_000_000:
                raise OSError("the line went down")

    opened: list[str] = []
    with pytest.raises(Interrupted) as caught:
        client.uploads.push(checkpoint, on_progress=stop, on_open=opened.append)
    assert caught.value.upload == opened[0]
    before = sent[-1]
    sent.clear()
    upload = client.uploads.push(checkpoint, resume=opened[0], on_progress=lambda progress: sent.append(progress.done))
    assert upload["id"] == opened[0]
    assert client.uploads.get(opened[0])["state"] == "complete"
    uploaded = [done for done in sent if done > before]
    assert uploaded
    assert client.uploads.push(checkpoint, resume=opened[0])["id"] == opened[0]
    (checkpoint / "large.bin").write_bytes(b"shorter")
    with pytest.raises(InvalidInput, match="of other files"):
        client.uploads.push(checkpoint, resume=opened[0])
    gone = client.uploads.push(checkpoint, resume="019e0000-0000-7000-8000-000000000000")
    assert gone["id"] != opened[0]


def test_links_and_empty_directories_are_refused_before_anything_is_sent(client: Tributary, tmp_path: Path) -> None:
    before = CheckpointUpload.objects.count()
    with pytest.raises(InvalidInput, match="no directory"):
        client.uploads.push(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no file"):
        client.uploads.push(tmp_path / "empty")
    (tmp_path / "empty" / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="is a link"):
        client.uploads.push(tmp_path / "empty")
    assert CheckpointUpload.objects.count() == before


# --- the command line -------------------------------------------------------------------------------------------------
@pytest.fixture
def team(served: Served, command: Command) -> Command:
    login = {"TRIBUTARY_URL": served.url, "TRIBUTARY_KEY": served.key_with("models:write", "generations:read")}
    return lambda *arguments, **options: command(*arguments, environment=login, **options)


def test_a_model_is_pushed_with_its_manifest_and_retired(
    served: Served, team: Command, checkpoint: Path, trained: Trained, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.jsonl"
    items = items_of(served, trained)
    manifest.write_text("".join(json.dumps(item) + "\n" for item in items))
    pushed = team("models", "push", str(checkpoint), "--name", "cli-1", *OPTIONS, "--manifest", str(manifest))
    assert pushed.returncode == 0, pushed.stderr
    assert f"Stored {len(items):,} items of 4 works" in pushed.stdout
    listed = json.loads(team("models", "list", "--json").stdout)["model_versions"]
    assert listed[0]["name"] == "cli-1"
    built = team("index", "build", "cli-1", "--json", "--config", '{"k": 8}')
    assert built.returncode == 0, built.stderr
    index = json.loads(built.stdout)["id"]
    assert AttributionIndex.objects.get(public_id=index).config["k"] == 8
    waited = team("index", "watch", index, "--timeout", "0.5")
    assert waited.returncode == 1
    assert "is still building" in waited.stderr
    retired = team("models", "retire", "cli-1")
    assert retired.stdout.startswith("cli-1 is retired")
    unknown = team("models", "retire", "cli-9", "--json")
    assert (unknown.returncode, json.loads(unknown.stderr)["error"]["status"]) == (1, 404)


def test_a_manifest_is_checked_line_by_line(
    served: Served, team: Command, checkpoint: Path, trained: Trained, tmp_path: Path
) -> None:
    assert team("models", "push", str(checkpoint), "--name", "cli-2", *OPTIONS).returncode == 0
    manifest = tmp_path / "manifest.jsonl"
    items = items_of(served, trained)[:3]
    refused = a_work_without_consent(served, trained)
    manifest.write_text("".join(json.dumps(item) + "\n" for item in [*items, {"work": refused}]))
    checked = team("manifest", "check", "cli-2", str(manifest))
    assert checked.returncode == 1
    assert refused in checked.stdout
    assert "(line 4)" in checked.stdout
    assert "1 works would be refused" in checked.stdout
    stored = team("manifest", "push", "cli-2", str(manifest))
    assert stored.returncode == 1
    assert refused in stored.stderr
    manifest.write_text(json.dumps(items[0]) + "\n" + json.dumps({**items[1], "token_end": 0}) + "\n")
    wrong = team("manifest", "check", "cli-2", str(manifest), "--json")
    assert wrong.returncode == 2
    assert json.loads(wrong.stderr)["error"]["line"] == 2
    assert json.loads(wrong.stderr)["error"]["field"] == "token_end"
    manifest.write_text(json.dumps(items[0]) + "\n")
    assert team("manifest", "push", "cli-2", str(manifest)).returncode == 0


def test_parquet_is_sent_as_it_is(
    served: Served, client: Tributary, checkpoint: Path, trained: Trained, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    upload = client.uploads.push(checkpoint)
    client.model_versions.register(name="parquet-1", upload=upload["id"], **REGISTRATION)
    items = items_of(served, trained)
    parquet.write_table(pyarrow.Table.from_pylist(items), tmp_path / "manifest.parquet")
    assert client.manifests.check("parquet-1", tmp_path / "manifest.parquet")["items"] == len(items)
    assert client.manifests.push("parquet-1", tmp_path / "manifest.parquet")["items"] == len(items)


def test_a_large_manifest_is_streamed(
    served: Served, client: Tributary, checkpoint: Path, trained: Trained, tmp_path: Path
) -> None:
    upload = client.uploads.push(checkpoint)
    client.model_versions.register(name="large-1", upload=upload["id"], **REGISTRATION)
    item = items_of(served, trained)[0]
    count = 20_000
    told: list[Progress] = []
    rows = ({**item, "token_start": start, "token_end": start + 8} for start in range(count))
    checked = client.manifests.check("large-1", rows, on_progress=told.append)
    assert checked["items"] == count
    assert told[-1].done == told[-1].of > 1_000_000
