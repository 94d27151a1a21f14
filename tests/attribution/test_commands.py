"""`manage.py register_model` and `retire_model`: the doors of the model team on the command line."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from attribution.models import ModelVersion
from contributors.operations import consents
from tests.worlds.programme import Programme
from tests.worlds.trained import TRAINED_AT, Trained


def run(name: str, *arguments: str) -> str:
    out = StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def manifest(programme: Programme, tmp_path: Path) -> Path:
    path = tmp_path / "m.jsonl"
    rows: list[dict[str, Any]] = [
        {"work": str(work.public_id), "token_start": 0, "token_end": 48} for work in programme.works
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def registering(trained: Trained, *more: str) -> tuple[str, ...]:
    return (
        "orator/writer-2",
        "--factory",
        "demo",
        "--adapter",
        "causal_lm",
        "--directory",
        str(trained.directory),
        "--purpose",
        "train_generative",
        "--trained-at",
        "2026-11-01T00:00:00Z",
        *more,
    )


def test_a_model_is_registered_with_its_manifest_and_retired(
    programme: Programme, trained: Trained, manifest: Path
) -> None:
    said = run("register_model", *registering(trained, "--manifest", str(manifest), "--licence", "CC0-1.0"))
    assert "orator/writer-2 is registered: models/" in said
    assert "4 items of 4 works" in said
    version = ModelVersion.objects.get(name="writer-2")
    assert (version.state, version.licence, version.purpose) == ("ready", "CC0-1.0", "train_generative")
    assert "is retired" in run("retire_model", "orator/orator-1", "--superseded-by", "writer-2")
    assert ModelVersion.objects.get(name="orator-1").superseded_by == version
    with pytest.raises(CommandError, match="retired already"):
        run("retire_model", "orator/orator-1")
    with pytest.raises(CommandError, match=r"no model version orator/x; there is orator/orator-1, orator/writer-2"):
        run("retire_model", "orator/x")


def test_a_dry_run_lists_every_work_without_consent(programme: Programme, trained: Trained, manifest: Path) -> None:
    for number in (0, 2):
        consents.withdraw_consent(
            contributor=programme.contributors[number],
            scope="train_generative",
            valid_from=TRAINED_AT - timedelta(days=1),
            by=programme.user,
            at=TRAINED_AT - timedelta(days=1),
        )
    said = run("register_model", *registering(trained, "--manifest", str(manifest), "--dry-run"))
    assert "2 refused" in said
    for number in (0, 2):
        assert programme.works[number].title in said
    assert ModelVersion.objects.get(name="writer-2").state == "registered"
    with pytest.raises(CommandError, match="2 works cannot be in the manifest"):
        run("register_model", "orator/writer-2", "--manifest", str(manifest))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("orator",), "must be SERVICE/NAME"),
        (("nobody/x",), "services of these: orator|a service of these: orator"),
        (("orator/x",), "needs --factory, --adapter, --purpose, --trained-at"),
        (("orator/orator-1", "--factory", "demo"), "give --manifest alone"),
        (("orator/orator-1", "--manifest", "nowhere.jsonl"), "cannot be read: No such file"),
    ],
)
def test_a_command_that_cannot_be_says_why(programme: Programme, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run("register_model", *arguments)


def test_a_wrong_adapter_is_told_with_the_right_one(programme: Programme, trained: Trained) -> None:
    arguments = ["encoder" if word == "causal_lm" else word for word in registering(trained)]
    with pytest.raises(CommandError, match="register it as causal_lm"):
        run("register_model", *arguments)
