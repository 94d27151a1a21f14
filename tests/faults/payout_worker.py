"""A process that forks workers to be killed: they start in milliseconds, and each is a process of its own.

Reads one JSON command a line. `{"act": ..., "crash_at": ...}` forks a child that does the act and answers with its
number; `{"wait": pid, "seconds": s}` waits for it and answers with how it ended (a negative signal number), or null.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import django

# Many times faster than life.
SECONDS = {
    "lease": 1.5,
    "send_margin": 0.7,
    "after_lease": 0.3,
    "same_key_min": 0.0,
    "same_key_max": 0.05,
    "no_answer_quiet": 0.1,
    "server_error_quiet": 0.2,
    "second_look_up": 0.5,
    "look_up_again": 0.3,
    "safe_replay": 600.0,
}


def _pace(**changes: float) -> Any:
    from payouts.attempts.pace import Pace

    return Pace(**{**SECONDS, **changes})


# --- ways of paying -----------------------------------------------------------------------------------------------
def _sending_blindly(key_of: Callable[[Any], str]) -> None:
    """UNSAFE: send every unsuccessful payout again, without a look-up at Stripe, and give no attempt up."""
    from payouts.attempts import execution
    from payouts.models import PayoutAttempt
    from payouts.rails.stripe import calls, client, errors, values

    def send(claim: Any, clock: Any, pace: Any) -> Any:
        attempt = PayoutAttempt.objects.get(pk=claim.attempt_id)
        try:
            return calls.create_transfer(
                values.TransferRequest(attempt.request),
                idempotency_key=key_of(attempt),
                deadline=client.boot_clock() + 30,
            )
        except errors.UnableToUseStripe:
            execution._release(claim, after_seconds=0.05, clock=clock)
            return None

    execution._send = execution._recover = send


def new_key_each_time() -> None:
    """A mutant: a new key for each try, as a task's retry has by default."""
    _sending_blindly(lambda attempt: uuid.uuid4().hex)


def one_key_blindly() -> None:
    """A mutant: one key for ever, long after Stripe has forgotten it."""
    _sending_blindly(lambda attempt: str(attempt.idempotency_key))


def as_designed() -> None:
    """The product's own way."""


WAYS: dict[str, Callable[[], None]] = {
    "as_designed": as_designed,
    "new_key_each_time": new_key_each_time,
    "one_key_blindly": one_key_blindly,
}


# --- acts ---------------------------------------------------------------------------------------------------------
def pay(
    run_id: int,
    threads: int = 4,
    way: str = "as_designed",
    seconds: float = 60.0,
    rate: float = 500.0,
    **pace_of: float,
) -> None:
    """Work until every payout of the run is at its end or waits for a person."""
    from django.conf import settings

    from payouts.attempts import crew
    from payouts.models import Payout, PayoutRun

    settings.STRIPE_REQUESTS_PER_SECOND = rate
    WAYS[way]()
    end, pace = time.monotonic() + seconds, _pace(**pace_of)
    while time.monotonic() < end:
        crew.execute_run(run_id=run_id, threads=threads, seconds_max=seconds, pace=pace)
        live = Payout.objects.filter(run_id=run_id, state__in=Payout.LIVE, needs_person_since__isnull=True)
        if PayoutRun.objects.get(pk=run_id).state == PayoutRun.State.PAUSED:
            live = live.exclude(state=Payout.State.APPROVED)
        if not live.exists():
            return
        time.sleep(0.05)


def sweep() -> None:
    from payouts.reconciliation import sweeping

    sweeping.sweep_stuck(at=datetime.now(UTC), threads=1, pace=_pace())


def approve(run_id: int, by: int) -> None:
    from payouts.models import PayoutRun
    from payouts.operations import approval
    from people import actor
    from people.models import User

    run = PayoutRun.objects.get(pk=run_id)
    approval.approve_run(
        run=run,
        by=User.objects.get(pk=by),
        typed_total=run.total_minor,
        content_hash=bytes(run.content_hash or b""),
        at=datetime.now(UTC),
        seen=actor.Presence(mfa_age_seconds=1),
    )


def start(run_id: int, by: int) -> None:
    from payouts.models import PayoutRun
    from payouts.operations import approval
    from people import actor
    from people.models import User

    approval.start_execution(
        run=PayoutRun.objects.get(pk=run_id),
        by=User.objects.get(pk=by),
        at=datetime.now(UTC),
        seen=actor.Presence(mfa_age_seconds=1),
    )


def receive(body: str, signature: str) -> None:
    from django.test import RequestFactory

    from payouts.api.webhooks import stripe_webhook

    request = RequestFactory().post(
        "/webhooks/stripe/", body, content_type="application/json", headers={"Stripe-Signature": signature}
    )
    assert stripe_webhook(request).status_code == 200


def apply(event_id: int) -> None:
    from payouts.reconciliation import inbox

    inbox.apply_webhook(event_id=event_id, at=datetime.now(UTC))


def reverse(payout_id: int, by: int) -> None:
    from payouts.models import Payout
    from payouts.operations import reversals
    from people import actor
    from people.models import User

    reversals.reverse_payout(
        payout=Payout.objects.get(pk=payout_id),
        amount_minor=100,
        by=User.objects.get(pk=by),
        reason="a test",
        at=datetime.now(UTC),
        seen=actor.Presence(mfa_age_seconds=1),
    )


def recover_reversals(**pace_of: float) -> None:
    from payouts.operations import reversals

    reversals.recover_reversals(pace=_pace(**pace_of))


def reconcile(run_id: int) -> None:
    from payouts.models import PayoutRun
    from payouts.reconciliation import comparison

    comparison.reconcile_run(run=PayoutRun.objects.get(pk=run_id), at=datetime.now(UTC))


def _somebody(pk: int) -> dict[str, Any]:
    from people import actor
    from people.models import User

    return {"by": User.objects.get(pk=pk), "at": datetime.now(UTC), "seen": actor.Presence(mfa_age_seconds=1)}


def export(run_id: int, by: int) -> None:
    from payouts.models import PayoutRun
    from payouts.operations import bank_files

    bank_files.export_bank_file(run=PayoutRun.objects.get(pk=run_id), **_somebody(by))


def hand_over(file_id: int, by: int) -> None:
    from payouts.models import BankFile
    from payouts.operations import bank_files

    bank_files.mark_bank_file_sent(file=BankFile.objects.get(pk=file_id), **_somebody(by))


def withdraw(file_id: int, by: int) -> None:
    from payouts.models import BankFile
    from payouts.operations import bank_files

    bank_files.withdraw_bank_file(file=BankFile.objects.get(pk=file_id), reason="never uploaded", **_somebody(by))


def report(table: str, by: int) -> None:
    """Read a bank's report as the page does: the whole table, line by line."""
    from payouts.operations import bank_lines, bank_reports

    results = bank_lines.record_bank_lines(lines=bank_reports.lines_of(table.encode()), **_somebody(by))
    assert {str(result.outcome) for result in results} <= {"recorded", "known"}, results


ACTS: dict[str, Callable[..., None]] = {
    act.__name__: act
    for act in (
        pay, sweep, approve, start, receive, apply, reverse, recover_reversals, reconcile, export, hand_over, withdraw,
        report,
    )
}  # fmt: skip


# --- the process --------------------------------------------------------------------------------------------------
def _child(command: dict[str, Any]) -> None:
    os.environ["TRIBUTARY_CRASH_AT"] = command.get("crash_at", "")
    from payouts import crashpoints

    importlib.reload(crashpoints)
    try:
        ACTS[command["act"]](**command.get("options", {}))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _wait(pid: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.005)


def main() -> None:
    os.environ["TRIBUTARY_CRASH_AT"] = ""
    django.setup()
    # Loaded before the fork, so that a child has nothing left to load.
    for module in ("payouts.api.webhooks", "payouts.tasks"):
        importlib.import_module(module)

    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            answer: Any = _wait(command["wait"], command["seconds"])
        else:
            answer = os.fork()
            if answer == 0:
                _child(command)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
