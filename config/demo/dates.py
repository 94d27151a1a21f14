"""The demo's dates: everything takes place around the last calendar month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Calendar:
    """The demo's dates. Everything takes place around the last calendar month.

    A generation may be reported up to 35 days late, so that of a long month only the last days can be reported now.
    """

    now: datetime

    @property
    def month_start(self) -> datetime:
        return (self.month_end - timedelta(days=1)).replace(day=1)

    @property
    def month_end(self) -> datetime:
        return self.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    @property
    def reported_since(self) -> datetime:
        return max(self.month_start, self.now - timedelta(days=34))

    @property
    def registered_at(self) -> datetime:
        return self.month_start - timedelta(days=60)

    @property
    def trained_at(self) -> datetime:
        return self.month_start - timedelta(days=10)
