"""Present behaviour of the sandbox: its clock and its settings, read from one row and kept in memory.

One process serves the sandbox, and every change passes through it, so the copy in memory is never older than the row.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from django.db.models import F
from django.utils import timezone

from stripe_sandbox.models import PLATFORM, Account, Configuration

_lock = threading.Lock()
_current: Configuration | None = None
_platform: Account | None = None

SETTABLE = (
    "latency_ms",
    "reads_per_second",
    "writes_per_second",
    "topup_seconds",
    "webhook_duplicates_ppm",
    "webhook_shuffle_ms",
    "webhook_retry_ms",
    "webhook_paused",
)


def prepare() -> None:
    """The rows without which nothing can be served: the configuration and the platform's own account."""
    Configuration.objects.get_or_create(id=1)
    Account.objects.get_or_create(
        reference=PLATFORM,
        defaults={
            "is_platform": True,
            "kind": "standard",
            "country": "US",
            "default_currency": "usd",
            "details_submitted": True,
            "payouts_enabled": True,
            "created": timezone.now().replace(microsecond=0),
            "payout_schedule": {"interval": "manual"},
            "bank": {"id": "ba_1sandboxplatform", "last4": "6789", "status": "new"},
        },
    )


def reload() -> Configuration:
    global _current, _platform
    with _lock:
        _current = Configuration.objects.get(id=1)
        _platform = Account.objects.get(is_platform=True)
        return _current


def current() -> Configuration:
    return _current or reload()


def platform() -> Account:
    """The platform's own account, as it was when the configuration was last read."""
    if _platform is None:
        reload()
    assert _platform is not None
    return _platform


def change(values: dict[str, int | bool]) -> Configuration:
    """Set some of SETTABLE. Raises ValueError for a setting that does not exist."""
    if unknown := set(values) - set(SETTABLE):
        raise ValueError(f"unknown settings {sorted(unknown)}; there are {', '.join(SETTABLE)}")
    if values:
        Configuration.objects.filter(id=1).update(**values)
    return reload()


def now() -> datetime:
    """The sandbox's own time in whole seconds, as Stripe counts it: the real one, moved forward."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=current().clock_offset_seconds)


def move_clock(*, to: datetime) -> None:
    """Move the clock forward to `to`; a clock that is already past it stays."""
    seconds = (to - now()) // timedelta(seconds=1)
    if seconds > 0:
        Configuration.objects.filter(id=1).update(clock_offset_seconds=F("clock_offset_seconds") + seconds)
        reload()
