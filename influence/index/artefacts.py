"""A directory of files under one manifest: either all of it is there and unchanged, or it cannot be opened.

Decides how such a directory appears: it is written beside its place and renamed once complete. Decides how it changes:
new files under new names, then the manifest in one step. The manifest before is kept, so that every revision can be
opened. Decides how it is checked. Knows nothing of the contents of the files.
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
EARLIER = "manifest-{:04d}.json"
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
    """Yield a directory to write to. It takes the name `directory` when the block ends well, and vanishes otherwise.

    Leftovers of a killed process are removed by the next one. Two processes cannot write the same directory at once.
    Raises UnableToBuildIndex when the directory exists already.
    """
    draft = directory.with_name(f".{directory.name}.draft")
    with changing(directory):
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
    """Let only one process build or change an index at a time. A killed process frees the lock.

    Raises UnableToBuildIndex while another process holds it.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f".{directory.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnableToBuildIndex("Another process is writing this index.") from None
        # The lock's file stays: removing it would let a third process lock a name that no longer exists.
        yield


def write_manifest(directory: Path, manifest: Manifest, files: Iterable[str]) -> Manifest:
    """Name and hash the files and replace the manifest in one step; the one before is kept beside it."""
    known = manifest.get("files", {})
    entries = {name: known.get(name) or _entry(directory / name) for name in sorted(set(files))}
    complete = {**manifest, "files": entries}
    draft = directory / f".{MANIFEST}"
    with draft.open("w", encoding="utf-8") as written:
        json.dump(complete, written, indent=1, sort_keys=True)
        written.flush()
        os.fsync(written.fileno())
    current = directory / MANIFEST
    if current.exists():
        before = json.loads(current.read_bytes()).get("revision", 0)
        # A build that was killed at its end writes its first revision once more: there is none before it.
        if before != complete.get("revision", 0):
            earlier = directory / EARLIER.format(before)
            earlier.unlink(missing_ok=True)
            os.link(current, earlier)
    os.replace(draft, current)
    return complete


def go_back(directory: Path, *, sha256: str) -> None:
    """Make the revision of this manifest the current one again; later revisions are forgotten."""
    current = directory / MANIFEST
    raw = _raw_manifest(directory, sha256)
    if current.read_bytes() == raw:
        return
    draft = directory / f".{MANIFEST}"
    draft.write_bytes(raw)
    os.replace(draft, current)
    (directory / EARLIER.format(json.loads(raw).get("revision", 0))).unlink(missing_ok=True)


def drop_strangers(directory: Path) -> None:
    """Remove files that no manifest names: working files of a build, or leftovers of a killed change."""
    manifests = [path for path in directory.glob("manifest*.json") if not path.is_symlink()]
    named = {name for path in manifests for name in json.loads(path.read_bytes())["files"]}
    for path in directory.iterdir():
        # A directory inside is an index of its own, with a manifest of its own.
        if path.is_file() and path.name not in named and path not in manifests:
            path.unlink()


def read_format(directory: Path) -> str:
    """Return the format that the manifest names; nothing else of it is checked here."""
    try:
        return str(peek_manifest(directory)["format"])
    except KeyError:
        raise _unreadable(directory) from None


def peek_manifest(directory: Path) -> Manifest:
    """Read the manifest as it is written; no file is checked. Raises UnableToOpenIndex if missing or unreadable."""
    try:
        found = json.loads((directory / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UnableToOpenIndex(f"Partial: {directory.name} has no {MANIFEST}.") from None
    except ValueError:
        raise _unreadable(directory) from None
    if not isinstance(found, dict):
        raise _unreadable(directory)
    return found


def _unreadable(directory: Path) -> UnableToOpenIndex:
    return UnableToOpenIndex(f"Corrupt: the manifest of {directory.name} cannot be read.")


def read_manifest(directory: Path, *, form: str, sha256: str | None = None) -> tuple[Manifest, str]:
    """Read the manifest and its sha256 after a check of every file against the manifest.

    With `sha256` the manifest of that digest, the current one or an earlier revision's. Raises UnableToOpenIndex for a
    file that is missing, truncated, changed or a symbolic link.
    """
    if directory.is_symlink():
        raise UnableToOpenIndex(f"Foreign: {directory.name} is a symbolic link.")
    raw = _raw_manifest(directory, sha256)
    try:
        manifest = json.loads(raw)
        entries = {name: (str(entry["sha256"]), int(entry["bytes"])) for name, entry in manifest["files"].items()}
        written_form = str(manifest["format"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unreadable(directory) from None
    _check_form(directory, written_form, form)
    for name, (digest, size) in entries.items():
        path = directory / name
        if path.is_symlink():
            raise UnableToOpenIndex(f"Foreign: {name} is a symbolic link.")
        if Path(name).name != name or not path.is_file():
            raise UnableToOpenIndex(f"Partial: {name} is missing.")
        if path.stat().st_size != size:
            raise UnableToOpenIndex(f"Truncated: {name} has {path.stat().st_size} of {size} bytes.")
        if _entry(path)["sha256"] != digest:
            raise UnableToOpenIndex(f"Corrupt: {name} is not what was written.")
    return manifest, hashlib.sha256(raw).hexdigest()


def _raw_manifest(directory: Path, sha256: str | None) -> bytes:
    current = directory / MANIFEST
    if current.is_symlink():
        raise UnableToOpenIndex(f"Foreign: {MANIFEST} is a symbolic link.")
    try:
        raw = current.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UnableToOpenIndex(f"Partial: {directory.name} has no {MANIFEST}.") from None
    earlier = (path.read_bytes() for path in directory.glob("manifest-*.json") if not path.is_symlink())
    for candidate in (raw, *earlier):
        if sha256 in (None, hashlib.sha256(candidate).hexdigest()):
            return candidate
    raise UnableToOpenIndex(f"Foreign: the manifest of {directory.name} is not the one on record.")


def _check_form(directory: Path, written: str, form: str) -> None:
    if written == form:
        return
    name, _, version = written.partition("/")
    expected, _, known = form.partition("/")
    if name == expected and version.isdigit() and int(version) > int(known):
        raise UnableToOpenIndex(
            f"Future: {directory.name} was written by a later version of this program (format {written}; this one "
            f"reads {form})."
        )
    raise UnableToOpenIndex(f"Foreign: {directory.name} has format {written!r}, not {form!r}. Build it again.")


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}
