"""The examples of the client's README, executed in their order against the product's own server."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from attribution.models import Generation
from attribution.operations import attributions
from clients.python.tests.servers import Reply, Server, serving
from clients.python.tests.test_integrations import EXAMPLES, Seen, model, work
from clients.python.tests.test_wrapping import completion
from ledger.statements.csv import statement_csv
from tests.client.conftest import Command, Served
from tests.client.test_models import items_of
from tests.ledger.statements.test_files import a_statement
from tests.worlds.programme import OUTPUT
from tests.worlds.trained import Trained

pytestmark = pytest.mark.usefixtures("on_served_data")
README = Path(__file__).resolve().parents[2] / "clients" / "python" / "README.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def provider() -> Iterator[Server]:
    with serving() as server:
        server.reply = lambda request: Reply(200, completion(request, request.json["model"]))
        yield server


@pytest.fixture
def folder(served: Served, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the files that the examples name."""
    place = tmp_path / "work"
    shutil.copytree(trained.directory, place / "checkpoint")
    monkeypatch.chdir(place)
    items = items_of(served, trained)
    Path("manifest.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    made = {"external_id": "readme-1", "occurred_at": timezone.now().isoformat(), "output": {"text": OUTPUT}}
    Path("generations.jsonl").write_text(json.dumps(made) + "\n")
    Path("statement.csv").write_bytes(statement_csv(a_statement()))
    return place


@pytest.fixture
def environment(served: Served, provider: Server) -> dict[str, str]:
    return {
        "TRIBUTARY_URL": served.url,
        "TRIBUTARY_KEY": served.key,
        "TRIBUTARY_MODELS_KEY": served.key_with("models:write", "generations:read"),
        "TRIBUTARY_WORKS_KEY": served.key_with("works:read"),
        "TRIBUTARY_WEBHOOK_SECRET": SECRET,
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": f"{provider.url}/v1",
    }


def test_every_python_example_runs(
    folder: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import transformers

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    arguments = transformers.TrainingArguments(
        "out", per_device_train_batch_size=4, max_steps=2, report_to=[], save_strategy="no", use_cpu=True
    )
    names: dict[str, Any] = {"model": model(), "arguments": arguments, "examples": Seen()}
    names["work_ids"] = [work(index) for index in range(EXAMPLES)]
    found = blocks("python")
    assert len(found) == 10
    for source in found:
        if "client.receipts.get" in source:
            assert names["client"].flush(30)
            while attributions.attribute_batch(at=timezone.now()):
                pass
        exec(compile(source, str(README), "exec"), names)
    said = capsys.readouterr().out
    assert "order-1236" in said
    assert "stored=1, repeated=0, refused=1" in said
    assert "True []" in said
    assert "4 0 []" in said
    stored = Generation.objects.filter(external_id__in=["order-1234", "order-1235", "order-1237", "chatcmpl-1"])
    assert stored.count() == 4
    assert names["receipt"]["external_id"] == "order-1234"
    assert len((folder / "trained.jsonl").read_text().splitlines()) == 8
    assert names["verified"].is_proved
    body, moment = b'{"type":"index.evaluated"}', int(timezone.now().timestamp())
    headers = {"webhook-id": "m1", "webhook-timestamp": str(moment)}
    signed = {**headers, "webhook-signature": names["webhook"].sign("m1", moment, body)}
    assert names["receive"](body, signed) == 204
    assert names["receive"](body + b" ", signed) == 400
    for client in (names["client"], names["team"]):
        client.close()


def test_every_command_runs(folder: Path, environment: dict[str, str], command: Command, served: Served) -> None:
    key = served.key_with("models:write", "generations:read", "generations:write", "works:read")
    assert command("login", served.url, "--key-stdin", input=key).returncode == 0
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 8
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "tributary"
        done = command(*arguments, cwd=folder)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert Generation.objects.filter(external_id="readme-1").exists()


def test_every_command_is_named(command: Command) -> None:
    """A command that the page does not name is found by nobody."""
    page = README.read_text()
    for group, actions in {
        "models": ("push", "list", "retire", "supersede"),
        "manifest": ("check", "push"),
        "index": ("build", "watch", "evaluate"),
        "statement": ("verify",),
        "works": ("pull", "import"),
    }.items():
        said = command(group, "--help").stdout
        for action in actions:
            assert action in said
            assert f"{group} {action}" in page
    for name in ("login", "services", "report", "receipt"):
        assert name in command("--help").stdout
        assert name in page
