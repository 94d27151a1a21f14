"""A directory of files under one manifest: either all of it is there and unchanged, or it cannot be opened.

Decides how such a directory appears (written beside, renamed once complete), how it is replaced piece by piece (new
files under new names, then the manifest in one step) and how it is checked. Knows nothing of what the files mean.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
Manifest = dict[str, Any]


class UnableToBuildIndex(Exception):
    """The index cannot be built here or now: it exists, another build runs, or the model cannot be traced."""

    status = 409
    problem = "unable-to-build-index"


class UnableToOpenIndex(Exception):
    """The directory is not the index it should be: corrupt, partial or foreign; the message says which."""

    status = 409
    problem = "unable-to-open-index"


@contextmanager
def appearing(directory: Path) -> Iterator[Path]:
    """A directory to write to that takes the name `directory` when the block ends well, and vanishes otherwise.

    What a killed process left behind is removed by the next one. Two cannot write the same directory at once.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = directory.with_name(f".{directory.name}.draft")
    with _locked(directory.with_name(f".{directory.name}.lock")):
        if directory.exists():
            raise UnableToBuildIndex(f"{directory.name} exists already.")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        try:
            yield draft
            os.replace(draft, directory)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def changing(directory: Path) -> Iterator[None]:
    """Only one process changes an index at a time."""
    with _locked(directory.with_name(f".{directory.name}.lock")):
        yield


def write_manifest(directory: Path, manifest: Manifest, files: Iterable[str]) -> Manifest:
    """Name and hash the files, replace the manifest in one step, then drop what it no longer names."""
    named = set(files)
    known = manifest.get("files", {})
    entries = {name: known.get(name) or _entry(directory / name) for name in sorted(named)}
    complete = {**manifest, "files": entries}
    draft = directory / f".{MANIFEST}"
    with draft.open("w", encoding="utf-8") as written:
        json.dump(complete, written, indent=1, sort_keys=True)
        written.flush()
        os.fsync(written.fileno())
    os.replace(draft, directory / MANIFEST)
    for path in directory.iterdir():
        # A directory inside is an index of its own, with a manifest of its own.
        if path.is_file() and path.name not in named and path.name != MANIFEST:
            path.unlink()
    return complete


def read_format(directory: Path) -> str:
    """Which format the manifest names; nothing else of it is checked here."""
    try:
        return str(json.loads((directory / MANIFEST).read_bytes())["format"])
    except (FileNotFoundError, NotADirectoryError):
        raise UnableToOpenIndex(f"Partial: {directory.name} has no {MANIFEST}.") from None
    except (ValueError, KeyError, TypeError):
        raise UnableToOpenIndex(f"Corrupt: the manifest of {directory.name} cannot be read.") from None


def read_manifest(directory: Path, *, form: str, sha256: str | None = None) -> tuple[Manifest, str]:
    """The manifest and its sha256, after every file was found to be what the manifest says."""
    try:
        raw = (directory / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UnableToOpenIndex(f"Partial: {directory.name} has no {MANIFEST}.") from None
    found = hashlib.sha256(raw).hexdigest()
    if sha256 is not None and found != sha256:
        raise UnableToOpenIndex(f"Foreign: the manifest of {directory.name} is not the one on record.")
    try:
        manifest = json.loads(raw)
        entries = dict(manifest["files"])
        written_form = manifest["format"]
    except (ValueError, KeyError, TypeError):
        raise UnableToOpenIndex(f"Corrupt: the manifest of {directory.name} cannot be read.") from None
    if written_form != form:
        raise UnableToOpenIndex(f"Foreign: {directory.name} has format {written_form!r}, not {form!r}.")
    for name, entry in entries.items():
        path = directory / name
        if Path(name).name != name or not path.is_file():
            raise UnableToOpenIndex(f"Partial: {name} is missing.")
        if _entry(path) != entry:
            raise UnableToOpenIndex(f"Corrupt: {name} is not what was written.")
    return manifest, found


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnableToBuildIndex("Another process is writing this index.") from None
        # The lock's file stays: removing it would let a third process lock a name that no longer exists.
        yield
