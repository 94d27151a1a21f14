"""The client against the product's own server: reports, refusals, receipts, kill -9, and the command line."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from tributary import InvalidInput, ProblemError, Refusal, Tributary
from tributary.backoff import Backoff

from attribution.models import Generation
from attribution.operations import attributions
from tests.client.conftest import CLIENT_PATHS, Command, Served
from tests.worlds.programme import OUTPUT

pytestmark = pytest.mark.usefixtures("on_served_data")
QUICK = Backoff(first=0.05, most=0.5)


def client_of(served: Served, **options: Any) -> Tributary:
    return Tributary(served.url, served.key, **{"backoff": QUICK, "interval_seconds": 0.05, **options})


def ids_of(prefix: str) -> list[str]:
    rows = Generation.objects.filter(external_id__startswith=prefix)
    return sorted(rows.values_list("external_id", flat=True))


def test_reports_are_stored_once_and_refusals_come_back_by_item(served: Served) -> None:
    found: list[Refusal] = []
    with client_of(served, on_refused=found.append) as client:
        for number in range(30):
            client.report(
                model_version="orator-1", output=OUTPUT, prompt="Fellow citizens", external_id=f"once-{number}"
            )
        client.report(model_version="nobody-1", output=OUTPUT, external_id="once-x")
        client.report(model_version="orator-1", output="o" * 1_100_000, external_id="once-y")
        assert client.flush(30)
        for number in range(30):
            client.report(
                model_version="orator-1",
                output=OUTPUT,
                prompt="Fellow citizens",
                external_id=f"once-{number}",
                occurred_at=Generation.objects.get(external_id=f"once-{number}").occurred_at,
            )
        assert client.flush(30)
        counts = client.counts()
    assert (counts.stored, counts.repeated, counts.refused, counts.dropped) == (30, 30, 2, 0)
    by_id = {refusal.external_id: refusal for refusal in found}
    assert by_id["once-x"].problem["type"] == "/problems/unknown-model-version"
    assert by_id["once-y"].problem["field"] == "output.text"
    assert ids_of("once-") == sorted(f"once-{number}" for number in range(30))


def test_generations_are_listed_and_found_by_their_external_id(served: Served, command: Command) -> None:
    with client_of(served) as client:
        for number in range(3):
            client.report(model_version="orator-1", output=OUTPUT, external_id=f"listed-{number}")
        assert client.flush(30)
        stored = Generation.objects.get(external_id="listed-1")
        found = client.generations.find(external_id="listed-1")
        assert found is not None
        assert found["id"] == str(stored.pk)
        assert client.generations.find(external_id="listed-9") is None
        later = client.generations.list(model_version="orator-1", since=stored.occurred_at)
        assert {"listed-1", "listed-2"} <= {row["external_id"] for row in later}
        assert "listed-1" not in {row["external_id"] for row in client.generations.list(until=stored.occurred_at)}
        with pytest.raises(InvalidInput, match="since: the datetime has no time zone"):
            list(client.generations.list(since=stored.occurred_at.replace(tzinfo=None)))
        with pytest.raises(ProblemError, match="state"):
            list(client.generations.list(state="lost"))
    log_in(command, served)
    shown = json.loads(command("receipt", "--external-id", "listed-1", "--json").stdout)
    assert shown["id"] == str(stored.pk)
    assert "no generation was reported as 'listed-9'" in command("receipt", "--external-id", "listed-9").stderr
    assert "by its id, or by --external-id" in command("receipt").stderr


def test_a_receipt_follows_the_report_and_a_void_takes_it_back(served: Served) -> None:
    with client_of(served) as client:
        client.report(model_version="orator-1", output=OUTPUT, prompt="Fellow citizens", external_id="receipt-1")
        assert client.flush(30)
        number = str(Generation.objects.get(external_id="receipt-1").pk)
        assert client.receipts.get(number)["state"] == "received"
        while attributions.attribute_batch(at=timezone.now()):
            pass
        receipt = client.receipts.get(number)
        assert receipt["state"] == "attributed"
        assert sum(share["ppb"] for share in receipt["shares"]) + receipt["unattributed_ppb"] == 10**9
        assert client.receipts.void(number, reason="test", detail="by the client")["state"] == "voided"
        assert client.receipts.wait(number, timeout_seconds=5)["state"] == "voided"
        with pytest.raises(ProblemError) as caught:
            client.receipts.get("019e0000-0000-7000-8000-000000000000")
        assert caught.value.status == 404


def test_an_unknown_key_is_told_and_a_key_without_the_scope_too(served: Served) -> None:
    with Tributary(served.url, "trib_nobody_nothing") as client, pytest.raises(ProblemError) as caught:
        client.receipts.get("019e0000-0000-7000-8000-000000000000")
    assert caught.value.status == 401
    with (
        Tributary(served.url, served.key_with("generations:write")) as client,
        pytest.raises(ProblemError, match="generations:read") as caught,
    ):
        client.receipts.get("019e0000-0000-7000-8000-000000000000")
    assert (caught.value.slug, caught.value.members["scope"]) == ("missing-scope", "generations:read")


PRODUCER = """
import sys
from tributary import Tributary
client = Tributary(sys.argv[1], sys.argv[2], spool=sys.argv[3], interval_seconds=0.01)
for number in range(100_000):
    name = client.report(model_version="orator-1", output=sys.argv[5], external_id=f"{sys.argv[4]}-{number}")
    sys.stdout.write(name + "\\n")
    sys.stdout.flush()
"""


def test_kill_9_of_the_client_loses_and_doubles_nothing(served: Served, tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for turn in range(3):
        given = [served.url, served.key, str(tmp_path / "spool"), f"kill-{turn}", OUTPUT]
        environment = {**os.environ, "PYTHONPATH": CLIENT_PATHS}
        with subprocess.Popen(
            [sys.executable, "-c", PRODUCER, *given], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            acknowledged += [process.stdout.readline().strip() for _ in range(700)]
            process.send_signal(signal.SIGKILL)
            acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
    with client_of(served, spool=tmp_path / "spool") as client:
        assert client.flush(60)
        assert client.counts().refused == 0
    stored = ids_of("kill-")
    assert set(acknowledged) <= set(stored)
    assert len(set(stored)) == len(stored)
    assert list((tmp_path / "spool").iterdir()) == []


# --- the command line -------------------------------------------------------------------------------------------------
def log_in(command: Command, served: Served) -> None:
    done = command("login", served.url, "--key-stdin", input=served.key + "\n")
    assert done.returncode == 0, done.stderr
    assert served.key not in done.stdout + done.stderr


def test_a_login_is_stored_for_its_owner_alone_and_its_key_is_never_printed(
    command: Command, served: Served, tmp_path: Path
) -> None:
    log_in(command, served)
    stored = tmp_path / "config" / "logins.json"
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    listed = command("services", "--json")
    assert listed.returncode == 0
    (row,) = json.loads(listed.stdout)["services"]
    assert (row["name"], row["url"], row["state"]) == ("default", served.url, "accepted")
    assert served.key not in listed.stdout + listed.stderr + command("services").stdout
    stored.chmod(0o644)
    told = command("services")
    assert told.returncode == 2
    assert "chmod 600" in told.stderr


def test_a_key_that_is_refused_is_not_stored(command: Command, served: Served, tmp_path: Path) -> None:
    done = command("login", served.url, "--key-stdin", input="trib_nobody_nothing\n")
    assert done.returncode == 2
    assert "nothing was stored" in done.stderr
    assert not (tmp_path / "config").exists()
    away = command("login", "http://127.0.0.1:9", "--key-stdin", input=served.key)
    assert away.returncode == 3
    assert "did not answer" in away.stderr
    assert command("receipt", "x").returncode == 2


def test_a_file_is_reported_and_its_bad_lines_are_named(command: Command, served: Served, tmp_path: Path) -> None:
    log_in(command, served)
    good = {"occurred_at": timezone.now().isoformat(), "output": {"text": OUTPUT}}
    lines = [json.dumps({**good, "external_id": f"file-{number}"}) for number in range(5)]
    lines[1] = json.dumps({**good, "external_id": "file-1", "model_version": "nobody-1"})
    lines[3] = "{"
    path = tmp_path / "generations.jsonl"
    path.write_text("\n".join([*lines, json.dumps(good), "[]"]) + "\n")
    done = command("report", str(path), "--model", "orator-1")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("3 stored, 0 stored before, 4 refused.")
    for words in ("line 2 (file-1): ", "line 4: It is no JSON", "line 6: external_id is missing", "line 7: An object"):
        assert words in done.stdout
    assert ids_of("file-") == ["file-0", "file-2", "file-4"]
    ids = tmp_path / "ids.jsonl"
    again = command("report", "-", "--model", "orator-1", "--json", "--ids", str(ids), input=path.read_text())
    document = json.loads(again.stdout)
    written = {row["external_id"]: row["id"] for row in map(json.loads, ids.read_text().splitlines())}
    stored = Generation.objects.filter(external_id__startswith="file-")
    assert written == {generation.external_id: str(generation.pk) for generation in stored}
    away = command("report", str(path), "--ids", str(tmp_path / "none" / "ids.jsonl"))
    assert (away.returncode, "No such file" in away.stderr) == (2, True)
    assert (document["stored"], document["repeated"], document["pending"]) == (0, 3, 0)
    assert [row["line"] for row in document["refused"]] == [2, 4, 6, 7]


def test_a_receipt_is_shown_and_an_unknown_one_is_told(command: Command, served: Served) -> None:
    login = {"TRIBUTARY_URL": served.url, "TRIBUTARY_KEY": served.key}
    with client_of(served) as client:
        client.report(model_version="orator-1", output=OUTPUT, external_id="shown-1")
        assert client.flush(30)
    number = str(Generation.objects.get(external_id="shown-1").pk)
    while attributions.attribute_batch(at=timezone.now()):
        pass
    shown = command("receipt", number, environment=login)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("shown-1 of orator-1: attributed\n")
    assert " % " in shown.stdout
    assert json.loads(command("receipt", number, "--json", environment=login).stdout)["external_id"] == "shown-1"
    unknown = command("receipt", "019e0000-0000-7000-8000-000000000000", "--json", environment=login)
    assert unknown.returncode == 1
    assert json.loads(unknown.stderr)["error"]["status"] == 404
