"""Checks the books and keeps the findings, for /readyz, the console and the auditor."""

from __future__ import annotations

import time
from datetime import datetime

from config.models import BooksCheck
from ledger.queries import invariants


def check_books(*, at: datetime) -> BooksCheck:
    """Run every named invariant and store which were violated."""
    started = time.monotonic()
    results = invariants.check_all()
    return BooksCheck.objects.create(
        checked_at=at,
        seconds=time.monotonic() - started,
        checked=[result.name for result in results],
        violated=[result.name for result in results if result.rows],
    )
