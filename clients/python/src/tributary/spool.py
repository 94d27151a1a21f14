"""The buffer as files: a line that `report` has written is sent later, also when the process is killed before.

A folder holds segments, `<name>.jsonl`, one line a generation, and for each `<name>.done`: the number of bytes that the
server has answered for. A living process locks its segments; the next process takes over those of a dead one. A line
may be sent two times after a crash, which the server answers as already stored. Lines survive the end of the process;
against a loss of power they are as safe as the file system makes unsynced writes.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from tributary.errors import InvalidInput

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

SEGMENT_BYTES = 16 * 1024 * 1024
READ_BYTES = 1024 * 1024


@dataclass
class _Segment:
    path: Path
    file: int
    size: int = 0
    done: int = 0
    lines: int = 0

    @property
    def done_path(self) -> Path:
        return self.path.with_suffix(".done")


class SpoolBuffer:
    """Lines in files of a folder, at most `bytes_max` of them unsent. Processes may share the folder."""

    is_kept = True

    def __init__(self, folder: str | os.PathLike[str], bytes_max: int) -> None:
        if fcntl is None:
            raise InvalidInput("a spool needs the file locks of Linux or macOS; leave it away here", field="spool")
        self._folder = Path(folder)
        self._bytes_max = bytes_max
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidInput(f"the folder cannot be made: {error}", field="spool") from None
        self.torn = 0
        self._segments: deque[_Segment] = deque()
        self._taken: deque[int] = deque()
        for path in sorted(self._folder.glob("*.jsonl")):
            self._take_over(path)
        self._begin()

    def __len__(self) -> int:
        return sum(segment.lines for segment in self._segments)

    def put(self, line: bytes) -> bool:
        unsent = sum(segment.size - segment.done for segment in self._segments)
        if unsent + len(line) + 1 > self._bytes_max:
            return False
        if self._segments[-1].size >= SEGMENT_BYTES:
            self._begin()
        segment = self._segments[-1]
        try:
            written = os.write(segment.file, line + b"\n")
        except OSError:
            return False
        if written != len(line) + 1:
            # The disk is full. The half line is cut off, so that the next one begins on a line of its own.
            os.ftruncate(segment.file, segment.size)
            return False
        segment.size += written
        segment.lines += 1
        return True

    def take(self, items_max: int, bytes_max: int) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        self._taken.clear()
        for segment in list(self._segments):
            place = segment.done
            rest = b""
            while place + len(rest) < segment.size and len(taken) < items_max:
                rest += os.pread(segment.file, min(READ_BYTES, segment.size - place - len(rest)), place + len(rest))
                while (end := rest.find(b"\n") + 1) and len(taken) < items_max:
                    size += end
                    if taken and size > bytes_max:
                        return taken
                    taken.append(rest[: end - 1])
                    self._taken.append(end)
                    rest, place = rest[end:], place + end
            if len(taken) >= items_max:
                break
        return taken

    def settle(self, count: int) -> None:
        for _ in range(count):
            while not self._segments[0].lines:
                self._finish(self._segments.popleft())
            self._segments[0].done += self._taken.popleft()
            self._segments[0].lines -= 1
        self._note(self._segments[0])
        while len(self._segments) > 1 and not self._segments[0].lines:
            self._finish(self._segments.popleft())

    def close(self) -> None:
        while self._segments:
            segment = self._segments.popleft()
            if segment.lines:
                os.close(segment.file)
            else:
                self._finish(segment)

    def after_fork(self) -> None:
        for segment in self._segments:
            os.close(segment.file)
        self._segments = deque()
        self._taken = deque()
        self._begin()

    def _begin(self) -> None:
        path = self._folder / f"{uuid.uuid4().hex}.jsonl"
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        self._segments.append(_Segment(path, file))

    def _take_over(self, path: Path) -> None:
        """Take a segment of a process that is gone. One that a living process holds is left alone."""
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have sent and removed it between the opening and the lock.
            if not path.exists() or os.fstat(file).st_ino != path.stat().st_ino:
                raise FileNotFoundError(path)
        except OSError:
            os.close(file)
            return
        segment = _Segment(path, file, done=self._read_done(path))
        place = segment.done
        while block := os.pread(file, READ_BYTES, place):
            end = block.rfind(b"\n") + 1
            segment.lines += block.count(b"\n")
            if end:
                segment.size = place + end
            place += len(block)
        segment.size = max(segment.size, segment.done)
        if place > segment.size:
            # `report` had not returned for this half line.
            self.torn += 1
            os.ftruncate(file, segment.size)
        if segment.lines:
            self._segments.append(segment)
        else:
            self._finish(segment)

    def _read_done(self, path: Path) -> int:
        try:
            return int(path.with_suffix(".done").read_text())
        except (OSError, ValueError):
            return 0

    def _note(self, segment: _Segment) -> None:
        made = segment.done_path.with_suffix(".new")
        with contextlib.suppress(OSError):
            made.write_text(str(segment.done))
            os.replace(made, segment.done_path)

    def _finish(self, segment: _Segment) -> None:
        for path in (segment.path, segment.done_path):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        os.close(segment.file)
