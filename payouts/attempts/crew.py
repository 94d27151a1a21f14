"""Many payouts at once: one book-keeper, the only one to claim and record, and runners, which wait for Stripe.

The rules are those of `execution`. Here they are only applied to several payouts at a time, because a transaction for
each claim and each answer costs more than the call to Stripe. The book-keeper holds in memory at most the answers that
`LINGER_SECONDS` let gather. A killed worker loses answers, which the look-up finds, and no money.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field

from django.db import connections

from payouts.attempts import execution
from payouts.attempts.pace import LIVE, Clock, Pace, database_clock
from payouts.attempts.recording import Claim, record_transfers
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import Payout
from payouts.rails.stripe import values

THREADS_DEFAULT = 24
# Claims and answers are taken in batches of this many at most; so many claims may wait for a runner.
BATCH_MAX = 16
LINGER_SECONDS = 0.2


@dataclass(frozen=True)
class Progress:
    """Counts of a call: the claims worked off, and the payouts that are not at their end yet."""

    handled: int
    live: int


def execute_run(
    *,
    run_id: int | None,
    threads: int = THREADS_DEFAULT,
    seconds_max: float = 600.0,
    clock: Clock = database_clock,
    pace: Pace = LIVE,
) -> Progress:
    """Work off everything that is due now, with several threads; stop when nothing is, or after `seconds_max` seconds.

    The sweep finds payouts that become due later (an answer to look up, a rate to wait for).
    """
    stop_at = time.monotonic() + seconds_max
    if threads <= 1:
        handled = 0
        while time.monotonic() < stop_at and execution.pay_next(run_id=run_id, clock=clock, pace=pace):
            handled += 1
    else:
        handled = _Crew(run_id, threads, clock, pace).work(stop_at)
    live = Payout.objects.filter(state__in=Payout.LIVE)
    return Progress(handled, (live.filter(run_id=run_id) if run_id is not None else live).count())


@dataclass(frozen=True)
class _Done:
    """A claim that left a runner's hands: with the transfer to record, or with the error that ends the work."""

    claim: Claim
    transfer: values.Transfer | None = None
    error: BaseException | None = None


@dataclass
class _Crew:
    run_id: int | None
    threads: int
    clock: Clock
    pace: Pace
    todo: queue.SimpleQueue[Claim | None] = field(default_factory=queue.SimpleQueue)
    done: queue.SimpleQueue[_Done] = field(default_factory=queue.SimpleQueue)
    out: int = 0
    handled: int = 0
    error: BaseException | None = None

    def work(self, stop_at: float) -> int:
        """Keep the books: claim while there is time and room, hand out, record the answers."""
        runners = [
            threading.Thread(target=self._run, name=f"pay-{number}", daemon=True) for number in range(self.threads)
        ]
        for runner in runners:
            runner.start()
        try:
            while True:
                may_claim = self.error is None and time.monotonic() < stop_at
                nothing_due = not may_claim or not self._hand_out()
                if not self.out:
                    if nothing_due:
                        break
                    continue
                self._record(self._gather())
        finally:
            for _ in runners:
                self.todo.put(None)
            for runner in runners:
                runner.join()
        if self.error is not None:
            raise self.error
        return self.handled

    def _hand_out(self) -> bool:
        """True when anything was due, or there is no room to ask."""
        room = self.threads + BATCH_MAX - self.out
        if room < min(BATCH_MAX, self.threads):
            return True
        due = execution.claim_due(run_id=self.run_id, clock=self.clock, pace=self.pace, limit=min(room, BATCH_MAX))
        self.handled += due.looked_at
        self.out += len(due.claims)
        for claim in due.claims:
            self.todo.put(claim)
        return due.looked_at > 0

    def _gather(self) -> list[_Done]:
        """Gather answers: wait for a first one, then a little for others, to record them together."""
        gathered: list[_Done] = []
        until = time.monotonic() + LINGER_SECONDS
        while len(gathered) < min(BATCH_MAX, self.out):
            try:
                gathered.append(self.done.get(timeout=max(until - time.monotonic(), 0.001)))
            except queue.Empty:
                break
        return gathered

    def _record(self, gathered: list[_Done]) -> None:
        self.out -= len(gathered)
        self.error = self.error or next((one.error for one in gathered if one.error is not None), None)
        results = [(one.claim.attempt_id, one.transfer) for one in gathered if one.transfer is not None]
        if results:
            record_transfers(results=results, at=self.clock())
        if gathered:
            crashpoint(CrashPoint.RESULT_COMMITTED)

    def _run(self) -> None:
        """A runner. After an error nothing more is sent; a claimed payout is found again when its lease ends."""
        try:
            while (claim := self.todo.get()) is not None:
                try:
                    transfer = None
                    if self.error is None:
                        transfer = execution.send_or_recover(claim, self.clock, self.pace)
                    self.done.put(_Done(claim, transfer))
                except BaseException as error:
                    self.done.put(_Done(claim, error=error))
        finally:
            connections.close_all()
