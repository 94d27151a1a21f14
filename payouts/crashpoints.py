"""Named points at which a test may kill this process, and the only list of them.

`TRIBUTARY_CRASH_AT=name` makes the process send itself SIGKILL when it first passes that point; `name:3` the third
time. Unset, a point costs one comparison. The fault tests walk through every name, so that the effect of a worker's
death there is known. The list is the measure of their coverage.
"""

from __future__ import annotations

import enum
import os
import signal
import threading


class CrashPoint(enum.StrEnum):
    # Execution, in the order in which a payout passes them.
    CLAIM_WRITTEN = "claim_written"  # the attempt and its reserve entry are written, not committed
    CLAIM_COMMITTED = "claim_committed"  # intent is committed, nothing is on the wire
    LIMITER_PASSED = "limiter_passed"  # the next thing would be the socket
    REQUEST_SENT = "request_sent"  # the whole request is written, the answer is not read
    ANSWER_READ = "answer_read"  # Stripe's answer is in memory only
    RESULT_WRITTEN = "result_written"  # the attempt says how it ended; its entry is not posted
    RESULT_POSTED = "result_posted"  # the entry is posted, not committed
    RESULT_COMMITTED = "result_committed"  # everything is stored, the queue's message is not acknowledged
    # Recovery.
    SWEEP_BEGUN = "sweep_begun"
    LOOK_UP_SENT = "look_up_sent"
    LOOK_UP_ANSWERED = "look_up_answered"
    VOID_WRITTEN = "void_written"  # an attempt is proven dead, not committed
    # Around execution.
    APPROVAL_WRITTEN = "approval_written"
    START_WRITTEN = "start_written"
    WEBHOOK_STORED = "webhook_stored"  # inserted, not yet acknowledged to Stripe
    WEBHOOK_APPLYING = "webhook_applying"  # the object is fetched, nothing is written
    WEBHOOK_APPLIED = "webhook_applied"  # written, not committed
    REVERSAL_COMMITTED = "reversal_committed"
    REVERSAL_ANSWERED = "reversal_answered"
    RECONCILIATION_WRITTEN = "reconciliation_written"
    # The manual bank rail.
    BANK_FILE_WRITTEN = "bank_file_written"  # the file is written, nothing is reserved for its orders
    BANK_FILE_ORDERED = "bank_file_ordered"  # reserved and ordered, not committed
    BANK_FILE_MARKED = "bank_file_marked"  # said to be at the bank, not committed
    BANK_LINE_WRITTEN = "bank_line_written"  # a line of the bank's report is written, nothing is booked
    BANK_LINE_BOOKED = "bank_line_booked"  # booked, not committed
    BANK_LINE_COMMITTED = "bank_line_committed"  # one line is stored, the next one is not read


def _armed() -> tuple[str, int]:
    name, _, passes = os.environ.get("TRIBUTARY_CRASH_AT", "").partition(":")
    if name and name not in set(CrashPoint):
        raise ValueError(f"TRIBUTARY_CRASH_AT={name} names no crash point; payouts/crashpoints.py lists them.")
    return name, int(passes or 1)


_NAME, _LEFT = _armed()
_lock = threading.Lock()


def crashpoint(point: CrashPoint) -> None:
    """Die here by SIGKILL, if the environment says so."""
    if not _NAME or point != _NAME:
        return
    global _LEFT
    with _lock:
        _LEFT -= 1
        if _LEFT == 0:
            os.kill(os.getpid(), signal.SIGKILL)
