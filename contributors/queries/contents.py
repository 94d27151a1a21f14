"""Files that are named by the digest of their content: works, and outputs that are not text."""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.conf import settings

WORKS, OUTPUTS, THUMBNAILS = "works", "outputs", "thumbnails"


class DamagedContent(Exception):
    """A file is missing, or differs from the content that was stored."""


def path_of(folder: str, sha256: bytes) -> Path:
    digest = sha256.hex()
    return Path(settings.TRIBUTARY_DATA) / folder / digest[:2] / digest


def read(folder: str, sha256: bytes, *, called: str) -> bytes:
    """Read stored bytes; they are checked against the digest. Raises DamagedContent, which calls it by this name."""
    path = path_of(folder, sha256)
    place = path.relative_to(settings.TRIBUTARY_DATA)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedContent(f"The content of {called} is missing ({place}).") from error
    if hashlib.sha256(data).digest() != sha256:
        raise DamagedContent(f"The content of {called} does not match its digest ({place}).")
    return data
