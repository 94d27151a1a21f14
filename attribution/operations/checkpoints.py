"""Checkpoints in the artefact store: a directory is kept under the digest of its files, complete or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

CHECKPOINT_FILES_MAX = 10_000
CHECKPOINT_BYTES_MAX = 200 * 2**30
COPY_BYTES = 2**20
INITIAL_CHECKPOINT = "initial.safetensors"


class UnableToKeepCheckpoint(Exception):
    """The directory is missing, empty or too large, or holds a link."""

    status = 422
    problem = "unable-to-keep-checkpoint"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A kept directory: its digest, the digest of each file, and whether this call put it there."""

    digest: bytes
    files: Mapping[str, bytes]
    is_new: bool = False

    @property
    def directory(self) -> Path:
        return directory_of_digest(self.digest)

    @property
    def initial_sha256(self) -> bytes | None:
        """The digest of the checkpoint that training started from; None where it is unknown."""
        return self.files.get(INITIAL_CHECKPOINT)


def directory_of_digest(digest: bytes) -> Path:
    """Return the place of a checkpoint in the store, whether it is there or not."""
    return Path(settings.TRIBUTARY_DATA) / "models" / digest.hex()


def digest_of_directory(*, directory: Path) -> bytes:
    """sha256 over the lines that `sha256sum` would print for every file, in order of their relative paths."""
    return digest_of_files({name: _hash(path) for name, path in _files_of(directory).items()})


def digest_of_files(files: Mapping[str, bytes]) -> bytes:
    """Digest a directory of which the digest of each file is known, by relative path."""
    lines = (f"{digest.hex()}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).digest()


def keep_directory(directory: Path) -> Checkpoint:
    """Copy a directory to models/<digest>/. Raises UnableToKeepCheckpoint."""
    incoming = _incoming()
    try:
        incoming.mkdir()
        # Hashed while it is copied: the digest is that of the kept bytes, even if the original changes.
        files = {name: _hash(path, copy_to=incoming / name) for name, path in _files_of(directory).items()}
        return _place(incoming, files)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def adopt_directory(directory: Path, files: Mapping[str, bytes]) -> Checkpoint:
    """Move a directory, of which the digest of each file was just checked, to models/<digest>/."""
    (Path(settings.TRIBUTARY_DATA) / "models").mkdir(parents=True, exist_ok=True)
    kept = _place(directory, files)
    shutil.rmtree(directory, ignore_errors=True)
    return kept


def kept_checkpoint(digest: bytes) -> Checkpoint | None:
    """Read a checkpoint that lies in the store; None where there is none of this digest. Its bytes are read again.

    Raises UnableToKeepCheckpoint for a directory with other bytes than its name says.
    """
    directory = directory_of_digest(digest)
    if not directory.is_dir():
        return None
    files = {name: _hash(path) for name, path in _files_of(directory).items()}
    if digest_of_files(files) != digest:
        raise UnableToKeepCheckpoint(f"The files under models/{digest.hex()} are not those of this digest.")
    return Checkpoint(digest, files)


def discard(kept: Checkpoint) -> None:
    """Remove a checkpoint that this process has just put there and that nothing names."""
    if kept.is_new:
        shutil.rmtree(kept.directory, ignore_errors=True)


def _incoming() -> Path:
    models = Path(settings.TRIBUTARY_DATA) / "models"
    models.mkdir(parents=True, exist_ok=True)
    return models / f".incoming-{uuid.uuid4().hex}"


def _place(directory: Path, files: Mapping[str, bytes]) -> Checkpoint:
    digest = digest_of_files(files)
    target = directory_of_digest(digest)
    try:
        os.rename(directory, target)
    except OSError:
        if not target.is_dir():
            raise
        # The same bytes were kept before, or by another process just now.
        return Checkpoint(digest, files)
    return Checkpoint(digest, files, is_new=True)


def digest_of_file(path: Path) -> bytes:
    return _hash(path)


def _files_of(directory: Path) -> dict[str, Path]:
    if not directory.is_dir():
        raise UnableToKeepCheckpoint(f"There is no directory {directory}.")
    found: dict[str, Path] = {}
    size_bytes = 0
    for path in sorted(directory.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file():
            raise UnableToKeepCheckpoint(f"{path.name} is a link or no ordinary file.")
        size_bytes += path.stat().st_size
        found[path.relative_to(directory).as_posix()] = path
        if len(found) > CHECKPOINT_FILES_MAX or size_bytes > CHECKPOINT_BYTES_MAX:
            raise UnableToKeepCheckpoint(
                f"The checkpoint directory is too large: {CHECKPOINT_FILES_MAX:,} files and "
                f"{CHECKPOINT_BYTES_MAX // 2**30} GiB are allowed."
            )
    if not found:
        raise UnableToKeepCheckpoint(f"There is no file in {directory}.")
    return found


def _hash(path: Path, *, copy_to: Path | None = None) -> bytes:
    digest = hashlib.sha256()
    if copy_to is None:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").digest()
    copy_to.parent.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as source, copy_to.open("wb") as target:
        while block := source.read(COPY_BYTES):
            digest.update(block)
            target.write(block)
        target.flush()
        os.fsync(target.fileno())
    return digest.digest()
