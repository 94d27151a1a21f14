"""Reports in the background: one thread sends the reports that callers put into a bounded buffer.

The caller's part is an append under a lock. It neither waits for the network nor sees an exception. A full buffer drops
the new generation; drops are counted, and logged one time. The server judges each generation alone, and its external id
makes repeating safe, so that a batch is sent until the server has answered for it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tributary.backoff import Backoff, seconds_of
from tributary.buffer import Buffer
from tributary.errors import ProblemError, TributaryError, Unreachable
from tributary.transport import Answer

log = logging.getLogger("tributary")

BATCH_ITEMS_MAX = 1_000
BATCH_BYTES = 4 * 1024 * 1024
PATH = "/api/v1/generations"
# The whole request is at fault, and another key, address or server version would mend it: the generations are kept.
KEPT_ON = frozenset({401, 403, 404, 405, 406, 415})
PARTS = (b'{"generations":[', b",", b"]}")


@dataclass(frozen=True)
class Refusal:
    """A generation that the server, or the client itself, did not take."""

    external_id: str | None
    status: int
    problem: Mapping[str, Any]
    generation: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def reason(self) -> str:
        """The problem in words."""
        return str(self.problem.get("detail") or self.problem.get("title") or "no reason was given")


@dataclass(frozen=True)
class Counts:
    """Numbers of generations since the client was made, and of requests.

    `noticed` are stored with a notice: their model version has no evaluated index, or they cannot be attributed.
    """

    buffered: int = 0
    stored: int = 0
    repeated: int = 0
    refused: int = 0
    dropped: int = 0
    noticed: int = 0
    pending: int = 0
    requests: int = 0
    retries: int = 0


class Reporter:
    """Owns the buffer and the thread that empties it."""

    def __init__(
        self,
        post: Callable[[bytes], Answer],
        buffer: Buffer,
        *,
        on_refused: Callable[[Refusal], None] | None = None,
        on_stored: Callable[[str, str], None] | None = None,
        batch_items: int = BATCH_ITEMS_MAX,
        batch_bytes: int = BATCH_BYTES,
        interval_seconds: float = 0.2,
        backoff: Backoff | None = None,
    ) -> None:
        self._post = post
        self._buffer = buffer
        self._on_refused = on_refused
        self._on_stored = on_stored
        self._batch_items = min(max(batch_items, 1), BATCH_ITEMS_MAX)
        self._batch_bytes = batch_bytes
        self._interval = interval_seconds
        self._backoff = backoff or Backoff()
        self._counts = Counts()
        self._logged: set[str] = set()
        self._is_closed = False
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._flushing = 0

    # --- the caller's side --------------------------------------------------------------------------------------------
    def add(self, line: bytes) -> bool:
        """Put an encoded generation into the buffer; False when it was dropped."""
        with self._changed:
            is_taken = not self._is_closed and self._buffer.put(line)
            waiting = len(self._buffer)
            counts = self._counts
            if is_taken:
                self._counts = replace(counts, buffered=counts.buffered + 1)
                if self._thread is None:
                    self._start()
                if waiting == 1 or waiting >= self._batch_items:
                    self._changed.notify_all()
            else:
                self._counts = replace(counts, dropped=counts.dropped + 1)
        if not is_taken:
            self._log_once("dropped", "The buffer is full or closed: generations are dropped and not reported.")
        return is_taken

    def refuse(self, refusal: Refusal) -> None:
        """Count a refusal and tell the callback. An exception of the callback is logged."""
        with self._changed:
            self._counts = replace(self._counts, refused=self._counts.refused + 1)
        slug = str(refusal.problem.get("type", "")).rsplit("/", 1)[-1]
        self._log_once(f"refused {slug}", f"A generation was refused: {refusal.reason}")
        if self._on_refused is not None:
            try:
                self._on_refused(refusal)
            except Exception:
                log.exception("on_refused failed")

    def counts(self) -> Counts:
        """Return the counts of now."""
        with self._changed:
            return replace(self._counts, pending=len(self._buffer))

    def wake(self) -> None:
        """Start the thread for lines that an earlier process left."""
        with self._changed:
            if len(self._buffer) and self._thread is None and not self._is_closed:
                self._start()

    def flush(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the server has answered for every line; False when the seconds are over before."""
        self.wake()
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not len(self._buffer), timeout_seconds)
            finally:
                self._flushing -= 1

    def close(self, timeout_seconds: float | None = 5.0) -> bool:
        """Send the rest within these seconds, then end. Lines in memory that are left are counted as dropped."""
        is_empty = self.flush(timeout_seconds)
        with self._changed:
            if self._is_closed:
                return is_empty
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0 if is_empty else 0.2)
        with self._changed:
            left = len(self._buffer)
            if left and not self._buffer.is_kept:
                self._counts = replace(self._counts, dropped=self._counts.dropped + left)
                log.warning("%s generations were not reported before the end", left)
            if thread is None or not thread.is_alive():
                self._buffer.close()
        return is_empty

    def after_fork(self) -> None:
        """Begin anew in a child process, which has neither the thread nor the right to the parent's lines."""
        self._reset()
        self._counts = Counts()
        if not self._is_closed:
            self._buffer.after_fork()

    def _log_once(self, name: str, words: str) -> None:
        if name not in self._logged and len(self._logged) < 100:
            self._logged.add(name)
            log.warning("%s (logged once; counts() has the number)", words)

    # --- the sender's side --------------------------------------------------------------------------------------------
    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="tributary-reporter", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._send_all()
        finally:
            with self._changed:
                if self._is_closed:
                    self._buffer.close()

    def _send_all(self) -> None:
        failures, most = 0, self._batch_items
        while True:
            with self._changed:
                while not len(self._buffer):
                    if self._is_closed:
                        return
                    self._changed.wait()
                if not failures:
                    self._changed.wait_for(self._is_due, self._interval)
                if self._is_closed:
                    return
            # Without the lock: this may read files, and the caller only appends behind these lines.
            batch = self._buffer.take(most, self._batch_bytes)
            wait, most = self._send(batch, failures, most)
            failures = failures + 1 if wait else 0
            if wait:
                deadline = time.monotonic() + wait
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed, max(deadline - time.monotonic(), 0.0))

    def _is_due(self) -> bool:
        return self._is_closed or self._flushing > 0 or len(self._buffer) >= self._batch_items

    def _send(self, batch: Sequence[bytes], failures: int, most: int) -> tuple[float, int]:
        """Send a batch. Returns the seconds to wait before the next attempt and the size of the next batch."""
        begin, between, end = PARTS
        try:
            answer = self._post(begin + between.join(batch) + end)
        except Unreachable as error:
            return self._later(failures, str(error)), most
        except Exception as error:
            # A fault of the network stack must not end the thread: the lines stay and are sent again.
            return self._later(failures, f"{type(error).__name__}: {error}"), most
        with self._changed:
            self._counts = replace(self._counts, requests=self._counts.requests + 1)
        if answer.status == 207:
            return self._judge(batch, answer, failures), self._batch_items
        problem = ProblemError.of(answer.status, answer.content, kind=answer.headers.get("content-type", ""))
        if answer.status in KEPT_ON or answer.status == 429 or answer.status >= 500 or answer.status < 400:
            return self._later(failures, str(problem), seconds_of(answer.headers.get("retry-after"))), most
        if len(batch) > 1:
            # The request as a whole is refused. Halves find the generation at fault, and the others get through.
            return 0.0, max(len(batch) // 2, 1)
        facts = {"type": problem.type, "title": problem.title, "detail": problem.detail, **problem.members}
        self.refuse(Refusal(_external_id(batch[0]), answer.status, facts, _decoded(batch[0])))
        self._settle(1)
        return 0.0, self._batch_items

    def _later(self, failures: int, reason: str, retry_after: float = 0.0) -> float:
        with self._changed:
            self._counts = replace(self._counts, retries=self._counts.retries + 1)
        if not self._is_closed:
            self._log_once("later", f"Reports wait and are sent again: {reason}")
        return self._backoff.seconds(failures + 1, retry_after=retry_after)

    def _judge(self, batch: Sequence[bytes], answer: Answer, failures: int) -> float:
        try:
            results = answer.json()["results"]
            statuses = [int(result["status"]) for result in results]
            if len(statuses) != len(batch):
                raise ValueError(f"{len(statuses)} results for {len(batch)} generations")
        except (TributaryError, ValueError, TypeError, KeyError) as error:
            return self._later(failures, f"the answer cannot be read: {error}")
        for line, result, status in zip(batch, results, statuses):
            if status not in (200, 201):
                name = result.get("external_id") or _external_id(line)
                self.refuse(Refusal(name, status, result.get("problem") or {}, _decoded(line)))
            else:
                self._take_stored(result)
        with self._changed:
            self._counts = replace(
                self._counts,
                stored=self._counts.stored + statuses.count(201),
                repeated=self._counts.repeated + statuses.count(200),
            )
        self._settle(len(batch))
        return 0.0

    def _take_stored(self, result: Mapping[str, Any]) -> None:
        notice = result.get("notice") or result.get("held")
        if notice:
            with self._changed:
                self._counts = replace(self._counts, noticed=self._counts.noticed + 1)
            self._log_once(f"notice {notice}", f"A generation was stored with a notice: {notice}")
        if self._on_stored is not None:
            try:
                self._on_stored(str(result.get("external_id")), str(result.get("id")))
            except Exception:
                log.exception("on_stored failed")

    def _settle(self, count: int) -> None:
        with self._changed:
            self._buffer.settle(count)
            self._changed.notify_all()


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(line)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _external_id(line: bytes) -> str | None:
    body = _decoded(line)
    name = body.get("external_id") if body else None
    return name if isinstance(name, str) else None
