"""The times that execution obeys, in one place, so that a test can run them a thousand times faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection

Clock = Callable[[], datetime]


def database_clock() -> datetime:
    """The one clock that all workers share."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now.astimezone(UTC)


@dataclass(frozen=True)
class Pace:
    """Seconds. `send_margin` before the end of a lease nothing is written to the socket any more: a request may take
    35 s. `safe_replay` stays well under the 24 hours after which Stripe may forget a key."""

    lease: float = 60.0
    send_margin: float = 35.0
    after_lease: float = 60.0
    same_key_min: float = 1.0
    same_key_max: float = 5.0
    no_answer_quiet: float = 5.0
    server_error_quiet: float = 60.0
    second_look_up: float = 900.0
    look_up_again: float = 300.0
    safe_replay: float = 20 * 3600.0

    def scaled(self, factor: float) -> Pace:
        return Pace(**{name: value * factor for name, value in self.__dict__.items()})


LIVE = Pace()


def after(moment: datetime, seconds: float) -> datetime:
    """Return the moment `seconds` seconds after another."""
    return moment + timedelta(seconds=seconds)
