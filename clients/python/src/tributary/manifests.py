"""Training manifests: checked against consent in a dry run, and stored."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tributary.manifest_lines import BLOCK_BYTES, JSON_LINES, Source, blocks, encoded, media_type_of, read_items
from tributary.model_versions import path_of
from tributary.progress import OnProgress, Progress
from tributary.transport import Transport

# A manifest of ten million items is looked up before the answer comes.
SECONDS_MAX = 1800.0


class Manifests:
    """`client.manifests`. A manifest is a path of JSON lines or Parquet, or an iterable of items."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def check(self, name: str, manifest: Source, *, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Check without storing: `would_be_accepted`, and in `refused` every work without consent, with its lines.

        Raises InvalidInput with line and field before anything is sent, and ProblemError.
        """
        return self._put(name, manifest, on_progress, dry_run="true")

    def push(self, name: str, manifest: Source, *, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Store the manifest of a version. Raises ProblemError; its members name every refused work."""
        return self._put(name, manifest, on_progress)

    def _put(self, name: str, manifest: Source, on_progress: OnProgress | None, **params: str) -> dict[str, Any]:
        if isinstance(manifest, (str, os.PathLike)):
            path = Path(manifest)
            media_type = media_type_of(path)
            if media_type == JSON_LINES:
                for _ in read_items(path):
                    """Check every line before the first is sent."""
            return self._send(name, path, media_type, on_progress, params)
        # The items of an iterable may be read one time only, and an attempt may be repeated.
        with tempfile.TemporaryDirectory(prefix="tributary-") as folder:
            path = Path(folder) / "manifest.jsonl"
            with path.open("wb") as file:
                file.writelines(encoded(item, line) for line, item in enumerate(manifest, start=1))
            return self._send(name, path, media_type_of(path), on_progress, params)

    def _send(
        self, name: str, path: Path, media_type: str, on_progress: OnProgress | None, params: dict[str, str]
    ) -> dict[str, Any]:
        size = path.stat().st_size

        def content() -> Iterator[bytes]:
            done = 0
            with path.open("rb") as file:
                for block in blocks(file):
                    yield block
                    done += len(block)
                    if on_progress:
                        on_progress(Progress("manifest", done, size))

        # A short manifest is sent with its length, which every proxy understands.
        body = path.read_bytes() if size <= BLOCK_BYTES else content
        headers = {"Content-Type": media_type}
        answer = self._transport.call(
            "PUT",
            path_of(name, "manifest"),
            params=params,
            content=body,
            headers=headers,
            timeout_seconds=SECONDS_MAX,
        )
        stored: dict[str, Any] = answer.json()
        return stored
