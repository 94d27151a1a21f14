"""Works with consent: listed, fetched, kept up to date by the feed of consents; registered under a mandate."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO

from tributary.errors import InvalidInput, ProblemError
from tributary.progress import OnProgress, Progress
from tributary.transport import Transport

PATH = "/api/v1/works"
LIST_FILE = "works.jsonl"
REGISTER_WORKS_MAX = 1_000
REGISTER_BYTES = 16 * 1024 * 1024
READ_BYTES = 1024 * 1024
MODALITIES = {
    "text": (".txt", ".md", ".text"),
    "image": (".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp"),
    "audio": (".wav", ".mp3", ".flac", ".ogg", ".m4a"),
    "video": (".mp4", ".webm", ".mov", ".mkv"),
}


@dataclass
class Pulled:
    """The result of `pull`: works fetched now, works that lay there already, and works that were refused meanwhile."""

    fetched: int = 0
    kept: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class NewWork:
    """A work to register: the path of its content, its title, and `text`, `image`, `audio`, `video` or `other`."""

    path: Path
    title: str
    modality: str
    published_on: str | None = None
    line: int | None = None


class Works:
    """`client.works`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self, *, purpose: str, at: datetime | None = None, modality: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the works with consent to a use, by default now. Raises ProblemError."""
        moment = None if at is None else at.isoformat()
        return self._transport.pages(PATH, purpose=purpose, at=moment, modality=modality)

    def content(self, work: str, *, purpose: str, sink: BinaryIO) -> None:
        """Fetch the content of a work into an open file. Each delivery is recorded. Raises ProblemError."""
        path = f"{PATH}/{_id(work)}/content"
        self._transport.call("GET", path, params={"purpose": purpose}, sink=sink)

    def pull(
        self,
        folder: str | os.PathLike[str],
        *,
        purpose: str,
        at: datetime | None = None,
        modality: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Pulled:
        """Fetch every work into a folder, each as a file named by its id, with `works.jsonl` about them.

        A file that lies there with the right digest is kept, so that a pull goes on where it stopped. A work is
        listed in `refused` when its consent ended meanwhile. Raises ProblemError and InvalidInput.
        """
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        pulled = Pulled()
        made = root / f"{LIST_FILE}.new"
        with made.open("w", encoding="utf-8") as listed:
            for number, work in enumerate(self.list(purpose=purpose, at=at, modality=modality), start=1):
                if self._fetch(root / _id(work["id"]), work, purpose, pulled):
                    listed.write(json.dumps(work, ensure_ascii=False) + "\n")
                if on_progress:
                    on_progress(Progress("works", number, 0))
        os.replace(made, root / LIST_FILE)
        return pulled

    def _fetch(self, path: Path, work: Mapping[str, Any], purpose: str, pulled: Pulled) -> bool:
        if path.is_file() and _sha256(path) == work["sha256"]:
            pulled.kept += 1
            return True
        part = path.with_suffix(".part")
        try:
            with part.open("w+b") as sink:
                self.content(work["id"], purpose=purpose, sink=sink)
        except ProblemError as error:
            part.unlink()
            if error.slug != "no-consent":
                raise
            pulled.refused.append({"work": work["id"], "title": work["title"], "detail": error.detail})
            return False
        if _sha256(part) != work["sha256"]:
            part.unlink()
            raise InvalidInput(f"the content of {work['id']} has another digest than {work['sha256']}", field="work")
        os.replace(part, path)
        pulled.fetched += 1
        return True

    def consents(self, after: str | None = None) -> tuple[Sequence[dict[str, Any]], str]:
        """Read statements of consent in the order of their record, and the address of later ones to pass as `after`.

        An empty list is the end of today. Raises ProblemError.
        """
        first = "/api/v1/consents?limit=200"
        answer = self._transport.follow(first if after is None else after)
        return answer["results"], answer["next"]

    # --- for organisations that register for many ---------------------------------------------------------------------
    def open_dataset(
        self,
        *,
        mandate: str,
        contributor: str,
        name: str,
        licence: str,
        description: str = "",
        uses: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Open a dataset of a contributor of a mandate, with consent to `uses`. Raises ProblemError."""
        body: dict[str, Any] = {"mandate": mandate, "contributor": contributor, "name": name, "licence": licence}
        body.update({"description": description} if description else {})
        body.update({"uses": list(uses)} if uses else {})
        opened: dict[str, Any] = self._transport.post("/api/v1/datasets", body, is_repeatable=False)
        return opened

    def register(
        self,
        works: Sequence[NewWork],
        *,
        mandate: str,
        dataset: str,
        registered: str | os.PathLike[str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Register works in batches and yield each with its id and path. A batch is registered whole or not at all.

        `registered` is a file that keeps a line for each registered work; works with a line in it are skipped, so
        that an import goes on where it stopped. Raises ProblemError, and InvalidInput for a file that is too large.
        """
        known = _known(registered, dataset)
        done = 0
        for batch in _batches([work for work in works if _sha256(work.path) not in known]):
            contents = [work.path.read_bytes() for work in batch]
            rows = [_as_json(work, content) for work, content in zip(batch, contents)]
            body = {"mandate": mandate, "dataset": dataset, "works": rows}
            answer = self._transport.post(PATH, body, is_repeatable=False)
            for work, made in zip(batch, answer["results"]):
                line = {**made, "dataset": dataset, "path": str(work.path)}
                if registered is not None:
                    with open(registered, "a", encoding="utf-8") as file:
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")
                yield line
            done += len(batch)
            if on_progress:
                on_progress(Progress("works", done, len(works)))


def works_of(source: str | os.PathLike[str], *, modality: str | None = None) -> list[NewWork]:
    """Find the works of a folder, each file one, or of a file of JSON lines with path, title, modality, published_on.

    Paths in a file of lines are relative to it. Raises InvalidInput with the line.
    """
    root = Path(source)
    if root.is_dir():
        files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not files:
            raise InvalidInput(f"there is no file in {root}", field="source")
        return [NewWork(path, path.stem, modality or modality_of(path)) for path in files]
    found = []
    with root.open(encoding="utf-8") as lines:
        for number, text in enumerate(lines, start=1):
            if text.strip():
                found.append(_work_of_line(root.parent, text, number, modality))
    if not found:
        raise InvalidInput(f"{root} has no line", field="source")
    return found


def modality_of(path: Path) -> str:
    """Tell the modality by the end of a file's name. Raises InvalidInput for an unknown one."""
    suffix = path.suffix.lower()
    for modality, suffixes in MODALITIES.items():
        if suffix in suffixes:
            return modality
    raise InvalidInput(f"{path}: the name tells no modality; give --modality or a file of JSON lines", field="modality")


def _work_of_line(folder: Path, text: str, number: int, modality: str | None) -> NewWork:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"it is no JSON: {error}", line=number) from None
    if not isinstance(row, dict) or not isinstance(row.get("path"), str):
        raise InvalidInput('an object with a path is needed, such as {"path": "poem.txt"}', line=number)
    strangers = sorted(set(row) - {"path", "title", "modality", "published_on"})
    if strangers:
        raise InvalidInput("nobody reads it", field=strangers[0], line=number)
    path = folder / row["path"]
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}", field="path", line=number)
    published = row.get("published_on")
    if published is not None:
        try:
            date.fromisoformat(published)
        except (TypeError, ValueError):
            raise InvalidInput(f"{published!r} is no date, as 1869-12-06", field="published_on", line=number) from None
    return NewWork(path, row.get("title") or path.stem, row.get("modality") or modality or modality_of(path), published)


def _batches(works: Sequence[NewWork]) -> Iterator[list[NewWork]]:
    batch: list[NewWork] = []
    size = 0
    for work in works:
        own = work.path.stat().st_size
        if batch and (len(batch) >= REGISTER_WORKS_MAX or size + own > REGISTER_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(work)
        size += own
    if batch:
        yield batch


def _as_json(work: NewWork, content: bytes) -> dict[str, Any]:
    row = {"title": work.title, "modality": work.modality, "content": base64.b64encode(content).decode()}
    return {**row, "published_on": work.published_on} if work.published_on else row


def _known(registered: str | os.PathLike[str] | None, dataset: str) -> set[str]:
    """Read the digests of the works that earlier imports registered in a dataset."""
    if registered is None or not Path(registered).exists():
        return set()
    with open(registered, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    return {row["sha256"] for row in rows if row.get("dataset") == dataset}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _id(work: str) -> str:
    try:
        return str(uuid.UUID(str(work)))
    except ValueError:
        raise InvalidInput(f"{work!r:.60} is no id of a work", field="work") from None
