"""Tools of the fault tests: workers to kill, a programme with real commits, and the check that all agrees."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection

from ledger.money import from_minor
from ledger.queries import invariants
from payouts.models import Payout, PayoutRun
from payouts.queries import balances
from payouts.rails.stripe import calls
from tests.coverage import unmeasured
from tests.sandbox_server import StripeSandbox

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Workers:
    """The process of tests/faults/payout_worker.py; the tests kill its children."""

    process: subprocess.Popen[str]

    def _ask(self, command: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def fork(self, act: str, *, crash_at: str = "", **options: Any) -> int:
        return int(self._ask({"act": act, "crash_at": crash_at, "options": options}))

    def wait(self, pid: int, seconds: float = 60) -> int | None:
        """How the child ended, a negative number for the signal that killed it; None while it runs."""
        found = self._ask({"wait": pid, "seconds": seconds})
        return None if found is None else int(found)

    def run(self, act: str, *, crash_at: str = "", wait_seconds: float = 120, **options: Any) -> int:
        ended = self.wait(self.fork(act, crash_at=crash_at, **options), wait_seconds)
        assert ended is not None, f"{act} did not end within {wait_seconds} s"
        return ended

    def kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.wait(pid, 10)


@contextlib.contextmanager
def workers(sandbox: StripeSandbox, database_url: str) -> Iterator[Workers]:
    environment = {
        **unmeasured(os.environ),
        **sandbox.environment(),
        "DATABASE_URL": database_url,
        "LOG_LEVEL": "CRITICAL",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "STRIPE_REQUESTS_PER_SECOND": "500",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.payout_worker"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Workers(process)
    finally:
        # Its children with it: a stopped one would outlive the test.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def forget_keys(seconds: float) -> None:
    """Make the sandbox forget answers older than this, as Stripe may after a day."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM stripe_sandbox_storedanswer WHERE created < now() - make_interval(secs => %s)", [seconds]
        )


def paid_by_stripe(sandbox: StripeSandbox, run: PayoutRun) -> dict[str, tuple[int, int]]:
    """transfer_group -> (transfers, minor units) for the payouts of a run, as the sandbox's own rows count them."""
    groups = sandbox.audit()["by_group"]
    ours = {payout.transfer_group for payout in run.payouts.all()}
    return {group: (row["count"], row["amount"]) for group, row in groups.items() if group in ours}


def disagreements(sandbox: StripeSandbox, run: PayoutRun) -> list[str]:
    """Where Stripe, our rows and the ledger differ once nothing is under way: nowhere, when all is well."""
    found = []
    paid = paid_by_stripe(sandbox, run)
    for payout in run.payouts.order_by("pk"):
        count, amount = paid.get(payout.transfer_group, (0, 0))
        if count > 1:
            found.append(f"{payout.transfer_group} was paid {count} times")
        if payout.state in Payout.LIVE:
            found.append(f"{payout.transfer_group} is still {payout.state}")
        if (payout.state in Payout.PAID) != (count > 0) or (count == 1 and amount != payout.amount_minor):
            found.append(f"{payout.transfer_group} is {payout.state}, and Stripe paid {amount}")
    currency = run.currency
    if (ours := balances.ledger_stripe_balance(currency)) != (
        stripe := from_minor(calls.balance().total(currency), currency)
    ):
        found.append(f"the ledger has {ours} at Stripe, Stripe {stripe}")
    if balances.ledger_in_transit(currency) != balances.live_in_transit(currency):
        found.append("the transit account is not what open attempts reserve")
    # Every invariant that `manage.py check_books` runs, not those of the journal alone.
    for result in invariants.check_all():
        found += [f"{result.name}: {row}" for row in result.rows]
    return found
