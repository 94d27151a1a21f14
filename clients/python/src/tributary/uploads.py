"""Upload of a checkpoint's directory in parts, which goes on after an interruption."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tributary.errors import Interrupted, InvalidInput, ProblemError, Unreachable
from tributary.progress import OnProgress, Progress
from tributary.transport import Transport

PATH = "/api/v1/uploads"
READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Checkpoint:
    """The files of a directory with sizes in bytes and digests; `sha256` is the digest of the whole."""

    directory: Path
    files: Sequence[tuple[str, int, str]]

    @property
    def sha256(self) -> str:
        """The SHA-256 over the lines that `sha256sum` prints for every file, in order of their paths."""
        lines = "".join(f"{digest}  {path}\n" for path, _, digest in sorted(self.files))
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(size for _, size, _ in self.files)


def read_checkpoint(directory: str | os.PathLike[str], *, on_progress: OnProgress | None = None) -> Checkpoint:
    """Digest every file of a directory. Raises InvalidInput for links, for an empty one and for none."""
    root = Path(directory)
    if not root.is_dir():
        raise InvalidInput(f"there is no directory {root}", field="directory")
    paths = [path for path in sorted(root.rglob("*")) if path.is_symlink() or not path.is_dir()]
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise InvalidInput(f"{path} is a link or no ordinary file: copy it there", field="directory")
    if not paths:
        raise InvalidInput(f"there is no file in {root}", field="directory")
    of = sum(path.stat().st_size for path in paths)
    done = 0
    files = []
    for path in paths:
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
                size += len(block)
                if on_progress:
                    on_progress(Progress("digest", done + size, of))
        done += size
        files.append((path.relative_to(root).as_posix(), size, digest.hexdigest()))
    return Checkpoint(root, files)


class Uploads:
    """`client.uploads`: checkpoints on their way to the artefact store."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, upload: str) -> dict[str, Any]:
        """Read the state of an upload: the received bytes of each file. Raises ProblemError."""
        found: dict[str, Any] = self._transport.get(f"{PATH}/{upload}")
        return found

    def push(
        self,
        directory: str | os.PathLike[str] | Checkpoint,
        *,
        resume: str | None = None,
        on_progress: OnProgress | None = None,
        on_open: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Send a directory and return the completed upload, with its `id` and the `sha256` of the directory.

        `resume` is the id of an earlier upload of the same directory, which goes on where it stopped. `on_open` is
        called with the id as soon as there is one. Raises Interrupted with the id, ProblemError and InvalidInput.
        """
        checkpoint = (
            directory if isinstance(directory, Checkpoint) else read_checkpoint(directory, on_progress=on_progress)
        )
        upload = self._resumed(checkpoint, resume) or self._open(checkpoint)
        if on_open:
            on_open(upload["id"])
        try:
            if upload["state"] == "open":
                self._send(checkpoint, upload, on_progress)
                upload = self._transport.post(f"{PATH}/{upload['id']}/complete", None)
        except (Unreachable, OSError) as error:
            raise Interrupted(f"The upload stopped: {error}", upload=upload["id"]) from error
        if upload.get("sha256") != checkpoint.sha256:
            raise InvalidInput(
                f"the server holds the digest {upload.get('sha256')}, not {checkpoint.sha256}: the files changed",
                field="directory",
            )
        return upload

    def _open(self, checkpoint: Checkpoint) -> dict[str, Any]:
        files = [{"path": path, "size": size, "sha256": digest} for path, size, digest in checkpoint.files]
        opened: dict[str, Any] = self._transport.post(PATH, {"files": files}, is_repeatable=False)
        return opened

    def _resumed(self, checkpoint: Checkpoint, upload: str | None) -> dict[str, Any] | None:
        """Find an earlier upload that still takes parts, or is complete, and has these files."""
        if upload is None:
            return None
        try:
            found = self.get(upload)
        except ProblemError as error:
            if error.status in (404, 410):
                return None
            raise
        if found.get("state") not in ("open", "complete"):
            return None
        names = {file["path"]: file.get("size") for file in found["files"]}
        if names != {path: size for path, size, _ in checkpoint.files}:
            raise InvalidInput(f"the upload {upload} is of other files than {checkpoint.directory}", field="resume")
        return found

    def _send(self, checkpoint: Checkpoint, upload: Mapping[str, Any], on_progress: OnProgress | None) -> None:
        received = {file["path"]: int(file["received"]) for file in upload["files"]}
        part_size = int(upload["part_size"])
        done = sum(received.values())
        for path, size, _ in checkpoint.files:
            with (checkpoint.directory / path).open("rb") as file:
                offset = received.get(path, 0)
                while offset < size:
                    file.seek(offset)
                    block = file.read(part_size)
                    if not block:
                        raise InvalidInput(f"{path} became shorter while it was sent", field="directory")
                    answer = self._transport.call(
                        "PUT",
                        f"{PATH}/{upload['id']}/parts",
                        params={"path": path, "offset": offset},
                        content=block,
                        headers={"Content-Type": "application/octet-stream"},
                    ).json()
                    offset, before = int(answer.get("received", offset + len(block))), offset
                    if offset <= before:
                        raise InvalidInput(f"the server took no byte of {path} after {before}", field="directory")
                    done += offset - before
                    if on_progress:
                        on_progress(Progress("upload", done, checkpoint.size))
