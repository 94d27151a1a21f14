"""The threads beside the requests: a small pool that talks to the database, the clock, and the sender of webhooks.

Requests wait in many threads (for latency, for a stalled answer) but work in few. The sandbox therefore holds a dozen
database connections, at any latency.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, close_old_connections

from stripe_sandbox import configuration, delivery, lifecycle

logger = logging.getLogger(__name__)

CONNECTIONS = 10
TICK_SECONDS = 0.5
CHECK_SECONDS = 1.0
Given = ParamSpec("Given")
Result = TypeVar("Result")
_checked = threading.local()
_pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="sandbox")


def in_pool(work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """Run `work` on a thread that owns a database connection, and wait for its result."""

    def job() -> Result:
        _check_connection()
        try:
            return work(*args, **kwargs)
        except DatabaseError:
            _checked.at = -CHECK_SECONDS
            raise

    return _pool.submit(job).result()


def _check_connection() -> None:
    """Replace a connection that was lost, without asking about it before every request."""
    now = time.monotonic()
    if now - getattr(_checked, "at", -CHECK_SECONDS) >= CHECK_SECONDS:
        close_old_connections()
        _checked.at = now


def _tick(stopping: threading.Event) -> None:
    while not stopping.wait(TICK_SECONDS):
        close_old_connections()
        try:
            lifecycle.catch_up()
        except Exception:
            logger.exception("the sandbox's clock stumbled")


def start() -> threading.Event:
    """Prepare the rows that everything needs, then start the clock and the sender. Set the event to end both."""
    in_pool(configuration.prepare)
    in_pool(configuration.reload)
    stopping = threading.Event()
    for name, loop in (("clock", _tick), ("webhooks", delivery.run)):
        threading.Thread(target=loop, args=(stopping,), name=f"sandbox-{name}", daemon=True).start()
    return stopping
