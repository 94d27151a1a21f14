"""A service that reports, to be killed: `python -m tests.faults.reporter URL KEY MODEL BATCHES SIZE DIRECTORY`.

It sends every batch until it hears that all of it is stored, and writes each heard id down. A successor does not trust
that list alone: it sends the last batches of it again. Once a file named `hurry` is there it makes no more pauses.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import urllib.parse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PAUSE_SECONDS = 0.2
AGAIN = 2


def body(model: str, batch: int, size: int, moment: str) -> bytes:
    """Make the same batch in any process."""
    made = [
        {
            "external_id": f"{batch}-{number}",
            "model_version": model,
            "occurred_at": moment,
            "prompt": {"text": "Fellow citizens"},
            "output": {"text": f" the state of the Union is peace, for the {batch * size + number}th time."},
        }
        for number in range(size)
    ]
    return json.dumps({"generations": made}).encode()


def report(url: str, key: str, sent: bytes) -> list[dict[str, Any]] | None:
    """Send a batch once; None when nobody answered, or an answer was no judgement."""
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/api/v1/generations", sent, headers)
        answer = connection.getresponse()
        read = answer.read()
        if answer.status >= 500:
            return None
        assert answer.status == 207, f"{answer.status}: {read[:300]!r}"
        results: list[dict[str, Any]] = json.loads(read)["results"]
        return results
    except (OSError, http.client.HTTPException, json.JSONDecodeError):
        return None
    finally:
        connection.close()


def main() -> None:
    url, key, model, batches, size = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
    directory = Path(sys.argv[6])
    # Chosen once, so that every successor sends the same bodies.
    chosen = directory / "moment"
    if not chosen.exists():
        moment = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        chosen.with_suffix(".new").write_text(moment)
        os.replace(chosen.with_suffix(".new"), chosen)
    moment = chosen.read_text()
    heard = len(list(directory.glob("heard-*")))
    log = directory / f"heard-{heard}"
    log.touch()
    known = {int(line.split("-")[0]) for path in directory.glob("heard-*") for line in path.read_text().splitlines()}
    first = max(0, max(known, default=0) + 1 - AGAIN)
    for batch in [*sorted(set(range(first)) - known), *range(first, batches)]:
        sent = body(model, batch, size, moment)
        while (results := report(url, key, sent)) is None:
            time.sleep(PAUSE_SECONDS)
        bad = [result for result in results if result["status"] not in (200, 201)]
        assert not bad, bad[:3]
        with log.open("a") as output:
            output.write("".join(f"{result['external_id']} {result['id']}\n" for result in results))
        if not (directory / "hurry").exists():
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
