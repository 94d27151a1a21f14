"""The bounded buffer between the caller and the sender, in memory."""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Buffer(Protocol):
    """Lines that wait to be sent. The reporter calls it under its lock, except for `take` and `settle`."""

    @property
    def is_kept(self) -> bool:
        """True where the lines outlive the process."""

    def __len__(self) -> int:
        """Count the lines that are not settled."""

    def put(self, line: bytes) -> bool:
        """Add a line; False when the buffer is full."""

    def take(self, items_max: int, bytes_max: int) -> list[bytes]:
        """Return the oldest lines that are not settled, up to so many bytes but at least one, without removing them."""

    def settle(self, count: int) -> None:
        """Remove the oldest lines: the server has answered for them."""

    def close(self) -> None:
        """Release files."""

    def after_fork(self) -> None:
        """Begin empty in a child process: the parent sends the lines of before the fork."""


class MemoryBuffer:
    """Lines in memory, at most `items_max` and `bytes_max` of them. They end with the process."""

    is_kept = False

    def __init__(self, items_max: int, bytes_max: int) -> None:
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._lines: deque[bytes] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._lines)

    def put(self, line: bytes) -> bool:
        if len(self._lines) >= self._items_max or self._bytes + len(line) > self._bytes_max:
            return False
        self._lines.append(line)
        self._bytes += len(line)
        return True

    def take(self, items_max: int, bytes_max: int) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        # One thread takes and settles; the caller only appends, which leaves the oldest lines in their places.
        for place in range(min(items_max, len(self._lines))):
            line = self._lines[place]
            size += len(line) + 1
            if taken and size > bytes_max:
                break
            taken.append(line)
        return taken

    def settle(self, count: int) -> None:
        for _ in range(count):
            self._bytes -= len(self._lines.popleft())

    def close(self) -> None:
        """Keep the lines: nothing is open."""

    def after_fork(self) -> None:
        self._lines = deque()
        self._bytes = 0
