"""A worker of gunicorn that receives each request whole before a thread of it is busy.

gunicorn's own workers read head and body in the thread that answers, without a limit of time: ten half-open connections
occupy every thread for good. Here the loop of waitress receives requests and sends answers; a thread gets only a whole
request. gunicorn goes on to watch, restart and replace the processes.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.workers.base import Worker
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import create_server

LOOP_SECONDS = 1.0
HEAD_SECONDS_MAX = 15.0
# A body may take half a minute, and longer as long as it comes at this rate on average.
BODY_SECONDS_MAX = 30.0
BODY_BYTES_PER_SECOND_MIN = 4096
IDLE_SECONDS_MAX = 60
# A waiting connection costs a file descriptor and some kilobytes.
CONNECTIONS_MAX = 800
# A manifest of a model has up to 8 GiB of lines, and is checked as it is read.
BODY_BYTES_MAX = 8 * 2**30 + 2**20
# Bodies wait on disk before anybody has proved a key: below this rest the largest ones are given up.
DISK_BYTES_MIN = 2**30
POLITE_SECONDS, BUSY_MAX, FRESH_SECONDS = 0.001, 5, 0.05
LARGE_BYTES = 16 * 2**20
HEAD_BYTES_MAX = 64 * 1024


class TimedParser(HTTPRequestParser):  # type: ignore[misc]
    """Knows when its request began to arrive."""

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.begun = time.monotonic()

    def is_late(self) -> bool:
        """Whether the head or the body took longer than it may."""
        limit = HEAD_SECONDS_MAX
        if self.headers_finished:
            limit += BODY_SECONDS_MAX + self.body_bytes_received / BODY_BYTES_PER_SECOND_MIN
        return time.monotonic() - self.begun > limit


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection of a client."""

    parser_class = TimedParser


def _accept_politely(accept: Callable[[], None], channels: dict[int, Any]) -> None:
    """Let an idle process take a new connection: both wake for it, and a busy one waits a moment longer."""
    fresh = time.time() - FRESH_SECONDS
    busy = sum(
        isinstance(one, Channel) and bool(one.requests or one.creation_time > fresh) for one in channels.values()
    )
    time.sleep(min(busy, BUSY_MAX) * POLITE_SECONDS)
    accept()


class BufferedWorker(Worker):  # type: ignore[misc]
    """Receives and sends in one loop, and answers in `--threads` threads."""

    def run(self) -> None:
        """Serve until gunicorn asks for the end, or `--max-requests` are answered."""
        # The loop waits no longer for its turn than a thread needs for a small page.
        sys.setswitchinterval(0.0005)
        channels: dict[int, Any] = {}
        server = create_server(
            self._counted(self.wsgi),
            map=channels,
            sockets=[one.sock for one in self.sockets],
            threads=self.cfg.threads,
            ident=None,
            connection_limit=CONNECTIONS_MAX,
            channel_timeout=IDLE_SECONDS_MAX,
            cleanup_interval=5,
            max_request_header_size=HEAD_BYTES_MAX,
            max_request_body_size=BODY_BYTES_MAX,
            # Django reads them, as TRUSTED_PROXIES and BEHIND_PROXY say.
            clear_untrusted_proxy_headers=False,
            asyncore_use_poll=True,
            # The thread that answers also sends: a turn of the loop for each answer costs a third of the throughput.
            send_bytes=1,
        )
        listening = [one for one in channels.values() if hasattr(one, "accept_connections")]
        for one in listening:
            one.channel_class = Channel
            one.handle_accept = functools.partial(_accept_politely, one.handle_accept, channels)
        while self.alive and self.ppid == os.getppid():
            self._turn(channels)
        self._finish(channels, listening, server.task_dispatcher)

    def _counted(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            self.nr += 1
            if self.nr >= self.max_requests:
                self.alive = False
            return application(environ, start_response)

        return counted

    def _turn(self, channels: dict[int, Any]) -> None:
        self.notify()
        wasyncore.loop(timeout=LOOP_SECONDS, use_poll=True, map=channels, count=1)
        arriving = [one for one in channels.values() if isinstance(one, Channel) and one.request is not None]
        for one in arriving:
            # Another thread may take the request out of the channel.
            if (request := one.request) is not None and request.is_late():
                one.will_close = True
        large = [one for one in arriving if (request := one.request) and request.body_bytes_received > LARGE_BYTES]
        if large and shutil.disk_usage(tempfile.gettempdir()).free < DISK_BYTES_MIN:
            max(large, key=lambda one: one.request.body_bytes_received if one.request else 0).will_close = True

    def _finish(self, channels: dict[int, Any], listening: list[Any], dispatcher: Any) -> None:
        """Take no new connection; answer the whole requests within `--graceful-timeout`."""
        for one in listening:
            one.accepting = False
            one.del_channel(channels)
        deadline = time.monotonic() + float(self.cfg.graceful_timeout)
        while time.monotonic() < deadline and any(
            one.requests or one.total_outbufs_len for one in channels.values() if isinstance(one, Channel)
        ):
            self._turn(channels)
        dispatcher.shutdown(timeout=1)
