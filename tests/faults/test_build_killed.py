"""Workers that die while they build an index together: others go on, and the files are of an undisturbed build."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from pytest_django import DjangoDbBlocker

from attribution.models import AttributionIndex, BuildStep
from attribution.operations import builds
from attribution.operations.factories import load_model
from attribution.operations.indexes import Wanted, own_generations
from attribution.operations.manifest_items import ManifestItems
from tests.attribution.conftest import trained
from tests.coverage import unmeasured
from tests.databases import cloned_database, on_database
from tests.worlds.trained import NOW, SMALL_INDEX, Trained, start_programme

__all__ = ["trained"]

CONFIG = {**SMALL_INDEX, "part_items": 32, "shard_items": 40}


@pytest.fixture
def environment(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, data_directory: Path
) -> Iterator[dict[str, str]]:
    """Of processes that work on a database of this test alone."""
    with django_db_blocker.unblock(), cloned_database() as database, on_database(database.name):
        path = urllib.parse.urlsplit(settings.DATABASE_URL)._replace(path=f"/{database.name}")
        yield {**os.environ, "DATABASE_URL": path.geturl(), "TRIBUTARY_DATA": str(data_directory)}


@contextlib.contextmanager
def workers(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run two real Celery processes with their own beat; its sweeps alone tell them of work."""
    environment = {
        **unmeasured(environment),
        "BROKER_URL": f"{settings.BROKER_URL}?virtual_host=13",
        "SWEEP_SECONDS": "0.5",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable, "-m", "celery", "-A", "config", "worker", "-Q", "builds,attribution", "-c", "2", "--beat",
        "--scheduler", "celery.beat:Scheduler", "--loglevel", "WARNING", "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    with log.open("ab") as output:
        worker = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)


def wait_until(met: Callable[[], bool], log: Path, *, seconds_max: float = 240) -> None:
    deadline = time.monotonic() + seconds_max
    while not met():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.01)


def digests(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.full)])
def test_a_build_whose_workers_are_killed_again_and_again_writes_the_bytes_of_an_undisturbed_one(
    environment: dict[str, str], trained: Trained, tmp_path: Path, kills: int
) -> None:
    from influence import scorers

    programme = start_programme(trained, NOW)
    index = builds.queue_build(model_version=programme.model_version, config=CONFIG, at=NOW)
    log, chance = tmp_path / "workers.log", random.Random(11)

    def done() -> int:
        return BuildStep.objects.filter(index=index, done_at__isnull=False).count()

    interrupted = 0
    for kill in range(1, kills + 1):
        with workers(environment, log):
            # From the first step to the last; a moment later, so that another one is under way.
            wait_until(lambda target=kill * 44 // (kills + 1): done() >= target, log)  # type: ignore[misc]
            time.sleep(chance.random() * 0.05)
        interrupted += AttributionIndex.objects.get(pk=index.pk).state == "building"
    assert interrupted >= kills - 1, "Otherwise nobody was killed at work."
    with workers(environment, log):
        # The index serves a moment before its last step is marked as done.
        wait_until(lambda: not BuildStep.objects.filter(index=index, done_at__isnull=True).exists(), log)
    assert AttributionIndex.objects.get(pk=index.pk).serving
    # Deaths are nobody's failures.
    assert not BuildStep.objects.filter(index=index, failures__gt=0).exists()
    model = load_model(version=programme.model_version)
    wanted = Wanted.from_json(CONFIG)
    scorers.build(
        tmp_path / "undisturbed",
        model=model,
        items=ManifestItems(programme.model_version, model),
        config=wanted.index,
        mean_of=own_generations(model, wanted),
    )
    built = Path(settings.TRIBUTARY_DATA) / index.directory
    assert digests(built) == digests(tmp_path / "undisturbed")
    assert [path.name for path in built.parent.iterdir() if path.name != built.name] == []
