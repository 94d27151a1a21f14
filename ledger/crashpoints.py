"""Named points of a close at which a test may kill this process, and the only list of them.

`TRIBUTARY_CLOSE_CRASH_AT=name` makes the process send itself SIGKILL when it first passes that point; `name:3` the
third time. Unset, a point costs one comparison.
"""

from __future__ import annotations

import enum
import os
import signal


class ClosePoint(enum.StrEnum):
    # In the order in which a close passes them; a step of many chunks passes its points once for each.
    BEGUN = "begun"  # the period is closing, and nothing else is done
    FLOORS_CORRECTED = "floors_corrected"  # corrections of closed months, after their restatements
    FLOORS_DISTRIBUTED = "floors_distributed"
    GUARANTEE_POSTED = "close_guarantee_posted"  # the chunk's entry is written, not committed
    GUARANTEE_COMMITTED = "close_guarantee_committed"
    RECOVER_POSTED = "close_recover_posted"
    RECOVER_COMMITTED = "close_recover_committed"
    RECOUP_POSTED = "close_recoup_posted"
    RECOUP_COMMITTED = "close_recoup_committed"
    RESERVE_POSTED = "close_reserve_posted"  # the entry is written, its instalments are not
    RESERVE_COMMITTED = "close_reserve_committed"
    PAYABLE_POSTED = "close_payable_posted"
    PAYABLE_COMMITTED = "close_payable_committed"
    UNACCRUED_LISTED = "unaccrued_listed"
    CLOSED = "closed"  # the period is closed; due reserves are not released yet
    RELEASE_POSTED = "release_posted"  # the entry is written, its instalments do not say so
    RELEASE_COMMITTED = "release_committed"


def _armed() -> tuple[str, int]:
    name, _, passes = os.environ.get("TRIBUTARY_CLOSE_CRASH_AT", "").partition(":")
    if name and name not in set(ClosePoint):
        raise ValueError(f"TRIBUTARY_CLOSE_CRASH_AT={name} names no point; ledger/crashpoints.py lists them.")
    return name, int(passes or 1)


_NAME, _LEFT = _armed()


def crashpoint(point: str) -> None:
    """Die here by SIGKILL, if the environment says so."""
    global _LEFT
    if not _NAME or point != _NAME:
        return
    _LEFT -= 1
    if _LEFT == 0:
        os.kill(os.getpid(), signal.SIGKILL)
