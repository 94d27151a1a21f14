"""The demo's model services: each a process of its own that has a checkpoint and a key, and speaks HTTP only.

One writes and one draws. It samples from its model and reports its generations, as any model service would. Run as
`python -m config.demo.service`; the key comes from the environment (TRIBUTARY_KEY), never from the command line, where
every user of the machine could read it. Prints one JSON object per line: its progress.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from config.demo import drawing, model
from influence.adapters import Example

# One batch is one request; the API takes up to 1,000.
BATCH = 200
ATTEMPTS_MAX = 5
TIMEOUT_SECONDS = (5, 60)


class UnableToReport(Exception):
    """Tributary refused a report, or did not answer; the message carries its reason."""


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def moments(count: int, *, since: datetime, until: datetime, seed: int) -> list[datetime]:
    """`count` moments in order, spread at random over a half-open interval."""
    chance = random.Random(seed)
    seconds = (until - since).total_seconds()
    return [since + timedelta(seconds=second) for second in sorted(chance.uniform(0, seconds) for _ in range(count))]


def as_reported(example: Example, *, number: int, name: str, occurred_at: datetime, tokeniser: Any) -> dict[str, Any]:
    """A text as it is reported, or a picture where there is no tokeniser."""
    return {
        "external_id": f"{name}-{number:06d}",
        "model_version": name,
        "occurred_at": occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        **(_drawn(example) if tokeniser is None else _written(example, tokeniser)),
    }


def _written(example: Example, tokeniser: Any) -> dict[str, Any]:
    prompt = list(example.tokens[: example.prompt_tokens])
    output = list(example.tokens[example.prompt_tokens :])
    return {
        "prompt": {"text": tokeniser.decode(prompt)},
        "output": {"text": tokeniser.decode(output), "token_ids": output},
    }


def _drawn(example: Example) -> dict[str, Any]:
    png = base64.b64encode(drawing.as_png(example)).decode()
    return {
        "prompt": {"text": drawing.prompt_of(example)},
        "output": {"media": {"type": "image/png", "base64": png}},
    }


def report(session: requests.Session, url: str, batch: Sequence[dict[str, Any]]) -> dict[str, int]:
    """POST one batch until it is answered. Safe to repeat: Tributary answers the same ids with the same result."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            answer = session.post(
                f"{url}/api/v1/generations", json={"generations": list(batch)}, timeout=TIMEOUT_SECONDS
            )
        except requests.RequestException as error:
            if attempt == ATTEMPTS_MAX:
                raise UnableToReport(f"{url} did not answer: {error}") from error
        else:
            if answer.status_code == 207:
                results = answer.json()["results"]
                refused = [result for result in results if result["status"] not in (200, 201)]
                if refused:
                    raise UnableToReport(f"{len(refused)} of {len(results)} were refused; the first: {refused[0]}")
                return {"new": sum(result["status"] == 201 for result in results), "reported": len(results)}
            if answer.status_code not in (429, 502, 503):
                raise UnableToReport(f"{url} answered {answer.status_code}: {answer.text[:500]}")
        time.sleep(min(0.5 * 2**attempt, 10))
    raise UnableToReport(f"{url} was too busy for {ATTEMPTS_MAX} attempts.")


def batches(rows: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--kind", choices=["text", "drawing"], default="text", help="what its model makes")
    parser.add_argument("--model", type=Path, required=True, help="the directory of the checkpoint")
    parser.add_argument("--name", required=True, help="the registered name of the model version")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--since", type=datetime.fromisoformat, required=True)
    parser.add_argument("--until", type=datetime.fromisoformat, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wait", action="store_true", help="report only when a line comes on the standard input")
    given = parser.parse_args(arguments)

    started = time.monotonic()
    loaded = model.load(given.model) if given.kind == "text" else drawing.load(given.model)
    tokeniser = loaded.tokeniser if given.kind == "text" else None
    assert loaded.sample is not None
    examples = loaded.sample(given.count, given.seed)
    sampled = time.monotonic()
    say(stage="sampled", generations=len(examples), seconds=round(sampled - started, 2))
    dates = moments(len(examples), since=given.since, until=given.until, seed=given.seed)
    rows = [
        as_reported(example, number=number, name=given.name, occurred_at=date, tokeniser=tokeniser)
        for number, (example, date) in enumerate(zip(examples, dates, strict=True), 1)
    ]
    if given.wait and not sys.stdin.readline():
        # The demo is gone, or needs no report any more.
        return 0
    reporting = time.monotonic()
    done = new = 0
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {os.environ['TRIBUTARY_KEY']}"
        for batch in batches(rows):
            counts = report(session, given.url, batch)
            done += counts["reported"]
            new += counts["new"]
            say(stage="reporting", done=done, total=len(rows))
    say(stage="reported", generations=done, new=new, seconds=round(time.monotonic() - reporting, 2))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UnableToReport as error:
        say(stage="failed", error=str(error))
        sys.exit(1)
