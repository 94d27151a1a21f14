"""Rate limits and counts of requests, kept in the memory of the one process that serves the sandbox.

A token bucket for each key, one for reading and one for writing, on the real clock: limits are about real time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass

from stripe_sandbox import configuration, refusals

_lock = threading.Lock()
_counts: Counter[str] = Counter()
_last_second: deque[float] = deque()


@dataclass
class Bucket:
    tokens: float
    filled_at: float

    def take(self, per_second: int, moment: float) -> bool:
        self.tokens = min(per_second, self.tokens + (moment - self.filled_at) * per_second)
        self.filled_at = moment
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


_buckets: dict[tuple[str, bool], Bucket] = {}


def admit(key: str, *, writes: bool) -> None:
    """Count a request in. Raises UnableToServe (429) where the key has used up its second."""
    settings, moment = configuration.current(), time.monotonic()
    per_second = settings.writes_per_second if writes else settings.reads_per_second
    with _lock:
        _counts["writes" if writes else "reads"] += 1
        if writes:
            _last_second.append(moment)
            while _last_second[0] <= moment - 1:
                _last_second.popleft()
            _counts["writes_in_the_busiest_second"] = max(_counts["writes_in_the_busiest_second"], len(_last_second))
        if not per_second:
            return
        bucket = _buckets.setdefault((key, writes), Bucket(per_second, moment))
        if bucket.take(per_second, moment):
            return
        _counts["rate_limited"] += 1
    raise refusals.rate_limited()


def count(what: str) -> None:
    with _lock:
        _counts[what] += 1


def counts() -> dict[str, int]:
    with _lock:
        return dict(_counts)
