"""Storing content under its digest, once, and the small pictures that pages show of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from contributors.formats import UnreadableContent, thumbnail_of
from contributors.queries.contents import THUMBNAILS, DamagedContent, path_of, read

SIDE = 320
"""Of a thumbnail, in pixels."""


def store(folder: str, sha256: bytes, content: bytes) -> None:
    """Write the content once, whole or not at all, even when two processes write the same at once."""
    path = path_of(folder, sha256)
    if path.exists() and path.stat().st_size == len(content):
        return
    _write(path, content)


class UnableToDraw(Exception):
    """There is no picture to draw: the file is gone, damaged, or none that can be shown."""

    status = 404
    problem = "no-thumbnail"


def thumbnail(folder: str, sha256: bytes) -> bytes:
    """Return a WebP of a stored picture, drawn anew from its pixels and kept. Raises UnableToDraw."""
    kept = path_of(f"{THUMBNAILS}/{folder}", sha256)
    with contextlib.suppress(FileNotFoundError):
        return kept.read_bytes()
    try:
        drawn = thumbnail_of(read(folder, sha256, called="the picture"), side=SIDE)
    except (DamagedContent, UnreadableContent) as error:
        raise UnableToDraw(str(error)) from error
    _write(kept, drawn)
    return drawn


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with draft.open("xb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
