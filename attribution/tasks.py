"""Attribution in the background. The `received` row is the queue: a message only says that it is worth looking."""

from __future__ import annotations

import os
import time

import structlog
from celery import shared_task
from django.utils import timezone

from attribution import operations

BATCH = 64
# Well inside the task's own limit: what is left is the next message's or the next sweep's.
SECONDS_MAX = 120.0
HINT_EXPIRES_SECONDS = 60

log = structlog.get_logger(__name__)


@shared_task
def attribute_received() -> int:
    """The hint that a report was stored."""
    return _attribute_until_none_is_left()


@shared_task
def sweep_received() -> int:
    """Find what a lost message left behind."""
    return _attribute_until_none_is_left()


def _attribute_until_none_is_left() -> int:
    # Several workers share the cores; libgomp and OpenBLAS read this when torch is first loaded, below.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    done = 0
    while time.monotonic() - started < SECONDS_MAX:
        settled = operations.attribute_batch(limit=BATCH, at=timezone.now())
        if not settled:
            break
        done += settled
    if done:
        log.info("generations attributed", count=done, seconds=round(time.monotonic() - started, 3))
    return done
