"""`tributary report` and `tributary receipt`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO

from tributary.cli.output import DONE, REFUSED, UNFINISHED, Output
from tributary.client import Tributary
from tributary.errors import InvalidInput
from tributary.progress import Progress
from tributary.reporting import Refusal

PENDING_MAX = 20_000
SHOWN_MAX = 20


class Answers:
    """The answers of the server to reports: the refusals, and with `ids` a file of the ids of stored generations.

    Opening raises OSError before anything is sent.
    """

    def __init__(self, *, ids: str | None = None) -> None:
        self.refusals: list[Refusal] = []
        self.ids = ids
        self._file: TextIO | None = None

    def __enter__(self) -> Answers:
        # A file that is sent again adds its ids: they are the same.
        self._file = open(self.ids, "a", encoding="utf-8") if self.ids else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def note_id(self, external_id: str, number: str) -> None:
        """Add a line; each is whole on disk when the next answer comes."""
        if self._file is not None:
            self._file.write(json.dumps({"external_id": external_id, "id": number}) + "\n")
            self._file.flush()


def report(client: Tributary, options: argparse.Namespace, output: Output, refusals: list[Refusal]) -> int:
    """Report a file of JSON lines: each is a generation as the API takes it."""
    places: dict[str, int] = {}
    refused: list[dict[str, Any]] = []
    with _opened(options.file) as file:
        for number, body in _generations(file, options.model):
            if isinstance(body, str):
                refused.append({"line": number, "external_id": None, "detail": body})
                continue
            places[client.report_body(body)] = number
            while client.counts().pending > PENDING_MAX:
                time.sleep(0.05)
            output.progress(Progress("report", number, 0))
    is_done = client.flush(options.timeout)
    counts = client.counts()
    refused += [
        {"line": places.get(refusal.external_id or ""), "external_id": refusal.external_id, **dict(refusal.problem)}
        for refusal in refusals
    ]
    refused.sort(key=lambda row: row["line"] or 0)
    lines = [f"{counts.stored} stored, {counts.repeated} stored before, {len(refused)} refused."]
    for row in refused[:SHOWN_MAX]:
        name = f" ({row['external_id']})" if row["external_id"] else ""
        lines.append(f"  line {row['line']}{name}: {row.get('detail') or row.get('title')}")
    if len(refused) > SHOWN_MAX:
        lines.append(f"  and {len(refused) - SHOWN_MAX} more; --json lists all")
    if not is_done:
        lines.append(f"{counts.pending} were not answered within {options.timeout:g} s. Run it again: it is safe.")
    document = {
        "stored": counts.stored,
        "repeated": counts.repeated,
        "refused": refused,
        "pending": counts.pending,
    }
    output.result(document, *lines)
    if not is_done:
        return UNFINISHED
    return REFUSED if refused or counts.dropped else DONE


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
    else:
        with open(name, "rb") as file:
            yield file


def _generations(file: BinaryIO, model: str | None) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield each line with its number: a generation, or the reason for which it is none."""
    for number, line in enumerate(file, start=1):
        if line.isspace():
            continue
        try:
            body = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"It is no JSON: {error}"
            continue
        if not isinstance(body, dict):
            yield number, "An object is needed, as a generation of the API."
            continue
        if model is not None:
            body.setdefault("model_version", model)
        # Without an id of its own a line would be another generation each time that the file is sent.
        if not isinstance(body.get("external_id"), str) or not body["external_id"]:
            yield number, "external_id is missing: without it the file cannot be sent again safely."
            continue
        yield number, body


def receipt(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Show the receipt of a generation."""
    if (options.id is None) == (options.external_id is None):
        raise InvalidInput("name the generation by its id, or by --external-id", field="id")
    number = options.id
    if number is None:
        named = client.generations.find(external_id=options.external_id)
        if named is None:
            raise InvalidInput(f"no generation was reported as {options.external_id!r}", field="--external-id")
        number = named["id"]
    found = client.receipts.get(number)
    if options.wait:
        found = client.receipts.wait(found["id"], timeout_seconds=options.timeout)
    lines = [f"{found['external_id']} of {found['model_version']}: {found['state']}"]
    if found.get("reason"):
        lines.append(f"  {found['reason']}")
    if found.get("gross"):
        lines.append(
            f"  gross {found['currency']} {found['gross']} = take {found['take']} + direct {found['direct']} + base "
            f"pool {found['floor']}"
        )
    for share in found.get("shares") or ():
        amount = f"{found['currency']} {share['amount']}" if share.get("amount") else "not accrued yet"
        works = len(share["works"])
        lines.append(f"  {share['holder']}  {share['ppb'] / 10_000_000:6.2f} %  {amount}  ({works} works)")
    if found.get("entry"):
        lines.append(f"  entry {found['entry']['id']} of {found['entry']['period']}, hash {found['entry']['hash']}")
    output.result(found, *lines)
    return DONE
