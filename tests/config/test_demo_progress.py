"""The page of the demo's progress: every state of the file, as a browser without a login reads it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from django.test import Client
from rich.console import Console

from config.demo import progress
from config.engine import servers
from tests.config.test_installation import CONFIGURED, ROOT

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(data_directory: Path) -> Path:
    return progress.path_of(data_directory)


@pytest.fixture
def stages(path: Path) -> progress.Stages:
    return progress.Stages(Console(file=io.StringIO()), path)


def shown(client: Client, address: str = "/demo/") -> str:
    response = client.get(address)
    assert response.status_code == 200
    # Policy and page agree: nothing inline, so that nothing needs to be allowed.
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    page = response.content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    return re.sub(r"\s+", " ", page)


def test_an_installation_without_a_demo_has_no_such_page_and_no_link_to_it(client: Client) -> None:
    assert client.get("/demo/").status_code == 404
    assert client.get("/demo/stages/").status_code == 404
    assert "/demo/" not in shown(client, "/")


def test_a_demo_that_begins_says_what_comes_first(client: Client, stages: progress.Stages) -> None:
    page = shown(client)
    assert f"0 of {len(progress.STAGES)} stages are done" in page
    assert f"Next: {progress.STAGES['people']}." in page
    assert 'hx-get="/demo/stages/"' in page
    assert 'without script, <a href="/demo/">reload the page</a>' in page
    assert "being prepared: 0 of" in (home := shown(client, "/"))
    assert 'href="/demo/"' in home


def test_stages_in_progress_are_shown_with_their_counts(
    client: Client, stages: progress.Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WRITE_SECONDS", 0.0)
    for opening in progress.OPENING:
        with stages.stage(opening):
            assert "Log in</a> with one of the addresses" not in shown(client, "/demo/stages/")
    counted = iter(range(100))
    with stages.beside("retrain", lambda: (next(counted), 16)), stages.stage("train") as advance:
        advance(1_200, 4_800)
        page = shown(client, "/demo/stages/")
        assert "1,200 of 4,800" in page
        assert re.search(r'<progress id="stage-train" value="1200" max="4800">', page)
        assert re.search(r"\b[1-9] of 16\b", page)
        assert f"Next: {progress.STAGES['draw_retrain']}." in page
        assert "the month, still empty" in page
        assert f"{len(progress.OPENING)} of {len(progress.STAGES)} stages are done" in page
    assert list(stages.seconds) == [*progress.OPENING, "train", "retrain"]
    assert set(stages.processor_seconds) == {*progress.OPENING, "train"}


def test_a_stage_beside_others_is_done_when_its_count_is_full(
    client: Client, stages: progress.Stages, path: Path
) -> None:
    with stages.beside("retrain", lambda: (16, 16)), stages.stage("train"):
        report = progress.read(path)
        assert report is not None
        assert [stage.name for stage in report.running] == ["train"]
        assert "retrain" in stages.seconds


def test_a_failure_is_shown_with_its_stage_and_reason_and_ends_the_demo(
    client: Client, stages: progress.Stages, path: Path
) -> None:
    with (
        pytest.raises(progress.UnableToDemonstrate, match="works: the disk is full <here>"),
        stages.beside("retrain", lambda: (1, 16)),
        stages.stage("train"),
    ):
        raise OSError("the disk is full <here>")
    page = shown(client)
    assert f"{progress.STAGES['train']}: the disk is full &lt;here&gt;" in page
    assert "hx-get" not in page
    assert "renews itself" not in page
    assert "could not be prepared" in shown(client, "/")
    report = progress.read(path)
    assert report is not None
    assert [stage.name for stage in report.stages if stage.state == progress.FAILED] == ["train"]


def test_a_demo_that_is_done_says_so_and_asks_no_more(client: Client, stages: progress.Stages) -> None:
    stages.finish()
    page = shown(client)
    assert "The demonstration is ready" in page
    assert "hx-get" not in page
    assert "renews itself" not in page
    assert f"{len(progress.STAGES)} of {len(progress.STAGES)} stages are done" in page
    assert "/demo/" not in shown(client, "/")


def test_a_demo_whose_command_is_gone_has_failed(client: Client, stages: progress.Stages, path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": gone.pid}))
    assert progress.ENDED_EARLY in shown(client)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "done"}', '{"state": "done", "stages": [{"x": 1}]}'])
def test_a_file_of_another_program_is_no_demo(client: Client, path: Path, content: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert client.get("/demo/").status_code == 404
    assert client.get("/").status_code == 200


def test_the_second_demo_says_when_its_first_page_was_there(data_directory: Path, tmp_path: Path) -> None:
    demo = data_directory / "demo"
    demo.mkdir()
    (demo / "figures.json").write_text(json.dumps({"seconds": {"total": 1.5}}))
    port = servers.free_port()
    environment = {name: value for name, value in os.environ.items() if name not in CONFIGURED}
    subprocess.run(
        [sys.executable, "manage.py", "demo", "--once", "--json", tmp_path / "out.json", "--port", str(port)],
        cwd=ROOT,
        env=environment,
        check=True,
        timeout=240,
        capture_output=True,
    )
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["reused"]
    assert 0 < figures["seconds"]["first_page"] < 240
    assert figures["seconds"]["total"] == 1.5
    assert figures["invariants_violated"] == []
    report = progress.read(progress.path_of(data_directory))
    assert report is not None
    assert report.state == progress.DONE
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/demo/", timeout=5)
