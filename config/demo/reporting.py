"""The demo's model services as processes of their own: each has a checkpoint, a key and an address, and no more."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.utils import timezone

from attribution.models import ModelService
from attribution.operations import model_services
from config.demo.progress import Advance, UnableToDemonstrate


@dataclass(frozen=True, slots=True)
class Reported:
    """The generations of one service: the kind of its model, its name and directory, their number and their dates."""

    kind: str
    name: str
    directory: Path
    count: int
    since: datetime
    until: datetime


@contextlib.contextmanager
def start_service(service: ModelService, wanted: Reported, *, url: str) -> Iterator[subprocess.Popen[str]]:
    """Start the model service, and end it with the block. It samples at once, and reports when it is told to:
    generations of a model without an evaluated index would earn by the base pool alone."""
    _key, secret = model_services.issue_key(
        service=service, scopes=["generations:write", "generations:read"], at=timezone.now()
    )
    command = [
        sys.executable, "-m", "config.demo.service", "--url", url, "--kind", wanted.kind,
        "--model", str(wanted.directory), "--name", wanted.name, "--count", str(wanted.count), "--wait",
        "--since", wanted.since.isoformat(), "--until", wanted.until.isoformat(),
    ]  # fmt: skip
    # Nothing of this installation's environment: the service has a checkpoint, a key and an address.
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "TRIBUTARY_KEY": secret}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.terminate()


def watch_report(process: subprocess.Popen[str], advance: Advance) -> dict[str, Any]:
    """Let the service report, and watch it; return its figures by stage. Raises UnableToDemonstrate if it fails."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        # One that is gone is asked for its reason below.
        process.stdin.write("report\n")
        process.stdin.flush()
    figures: dict[str, Any] = {}
    for line in process.stdout:
        said = json.loads(line)
        if said["stage"] == "reporting":
            advance(said["done"], said["total"])
        elif said["stage"] == "failed":
            raise UnableToDemonstrate(f"The model service could not report: {said['error']}")
        else:
            figures[said["stage"]] = said
    if process.wait():
        raise UnableToDemonstrate(f"The model service ended with {process.returncode}.")
    return figures
