"""Waiting times between attempts: exponential with full jitter, never shorter than the server's Retry-After."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

RETRY_AFTER_SECONDS_MAX = 3600.0


def seconds_of(retry_after: str | None, *, now: Callable[[], float] = time.time) -> float:
    """Read a Retry-After header, in seconds or as an HTTP date; 0 where there is none or it cannot be read."""
    if not retry_after:
        return 0.0
    text = retry_after.strip()
    try:
        seconds = float(text) if text.isascii() and text.isdigit() else parsedate_to_datetime(text).timestamp() - now()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)


@dataclass(frozen=True)
class Backoff:
    """The limits of a wait, in seconds: `first` is the longest wait after one failure, `most` after many."""

    first: float = 0.5
    most: float = 60.0

    def seconds(self, failures: int, *, retry_after: float = 0.0) -> float:
        """Draw the wait, in seconds, after this many failures in a row. Many clients that failed together come back
        apart."""
        limit = min(self.first * 2.0 ** min(max(failures - 1, 0), 30), self.most)
        drawn = random.uniform(0.1, 1.0) * limit
        return retry_after + 0.1 * drawn if retry_after else drawn
