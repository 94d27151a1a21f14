"""A sandbox server for a test: started as a user starts it, driven by the real stripe-python and by its controls."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import psycopg2
import requests
import stripe

from tests.stripe_specification import CheckedRequests

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS_MAX = 60
CONTRIBUTOR = {
    "fees": {"payer": "application"},
    "losses": {"payments": "application"},
    "stripe_dashboard": {"type": "express"},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def code_of(error: stripe.StripeError) -> str | None:
    """The code that was answered. `error.code` has it for some classes only (not for 403, 409, 429 and 5xx)."""
    return error.error.code if error.error else None


def was_replayed(shown: stripe.StripeObject) -> bool:
    """Whether an answer is the stored one of an earlier request with the same idempotency key."""
    assert shown.last_response is not None
    return shown.last_response.headers.get("Idempotent-Replayed") == "true"


@dataclass
class StripeSandbox:
    """One running sandbox: its address, its keys and secrets, and its controls for a test."""

    database_url: str
    port: int = field(default_factory=free_port)
    key: str = "sk_test_tributary_0123456789"
    read_key: str = "rk_test_tributary_0123456789"
    webhook_secret: str = "whsec_platform_0123456789"
    connect_webhook_secret: str = "whsec_connect_0123456789"
    webhooks: Sequence[str] = ()
    connect_webhooks: Sequence[str] = ()
    log: Path | None = None
    # Every answer to anybody is held against Stripe's specification, unless speed is measured.
    checked: bool = True
    process: subprocess.Popen[bytes] | None = None
    _told: Any = field(default_factory=tempfile.TemporaryDirectory)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The product's settings for this sandbox, as a user would set them."""
        return {
            "STRIPE_SECRET_KEY": self.key,
            "STRIPE_READ_KEY": self.read_key,
            "STRIPE_API_BASE": self.url,
            "STRIPE_WEBHOOK_SECRETS": self.webhook_secret,
            "STRIPE_CONNECT_WEBHOOK_SECRETS": self.connect_webhook_secret,
        }

    # --- the process ----------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start the server; it ends with the thread that calls this, also where the tests are killed."""
        command = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        command += [sys.executable, "manage.py", "sandbox", "--port", str(self.port)]
        command += [part for url in self.webhooks for part in ("--webhook", url)]
        command += [part for url in self.connect_webhooks for part in ("--connect-webhook", url)]
        environment = {**os.environ, **self.environment(), "DATABASE_URL": self.database_url, "SANDBOX": "1"}
        # A proxy reaches it under a name of its own.
        environment["ALLOWED_HOSTS"] = "127.0.0.1,localhost,.test"
        if self.checked:
            command += ["--application", "tests.checked_sandbox:application"]
            environment["SANDBOX_VIOLATIONS"] = str(self._violations)
        with (self.log or Path(os.devnull)).open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_it_answers()

    @property
    def _violations(self) -> Path:
        return Path(self._told.name) / "violations"

    def violations(self) -> list[str]:
        """List all answers so far, to any caller, that Stripe could not have given."""
        return self._violations.read_text().splitlines() if self._violations.exists() else []

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            with contextlib.suppress(requests.ConnectionError, requests.Timeout):
                if requests.get(f"{self.url}/", timeout=5).status_code == HTTPStatus.OK:
                    return
                break
            time.sleep(0.05)
        told = self.log.read_text()[-2000:] if self.log else "it kept no log"
        raise RuntimeError(f"the sandbox did not start: {told}")

    def kill(self) -> None:
        """kill -9 of every process of the server."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()

    # --- stripe-python --------------------------------------------------------------------------------------------
    def client(self, key: str | None = None, *, timeout: float = 30, checked: bool = True) -> stripe.StripeClient:
        """The real client, which does not retry by itself, so that a test sees every answer.

        Every answer is compared with Stripe's specification, unless a test is about speed.
        """
        http = CheckedRequests(timeout=timeout) if checked else stripe.RequestsClient(timeout=timeout)
        return stripe.StripeClient(
            key or self.key,
            base_addresses={"api": self.url},
            max_network_retries=0,
            http_client=http,
        )

    # --- controls -------------------------------------------------------------------------------------------------
    def control(self, method: str, path: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
        answered = requests.request(
            method,
            f"{self.url}/_sandbox/{path}",
            json=given,
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=60,
        )
        assert answered.status_code == HTTPStatus.OK, answered.text
        shown: dict[str, Any] = answered.json()
        return shown

    def advance(self, *, seconds: float = 0, hours: float = 0, days: float = 0) -> int:
        """Move the sandbox's clock forward; events that fall due on the way happen. Returns its new time."""
        moved = self.control("POST", "advance", {"seconds": round(seconds + hours * 3600 + days * 86_400)})
        return int(moved["now"])

    def advance_to_midnight(self) -> int:
        """To the next midnight (UTC), when automatic payouts leave."""
        now = int(self.settings()["now"])
        return self.advance(seconds=86_400 - now % 86_400)

    def settings(self, **values: int | bool) -> dict[str, Any]:
        """latency_ms, reads_per_second, writes_per_second (0: no limit), topup_seconds, webhook_*; none only reads."""
        return self.control("POST" if values else "GET", "settings", values or None)

    def queue_faults(self, *kinds: str, path: str = "/v1/transfers", method: str = "POST", **where: Any) -> None:
        """Each kind happens once, to the next requests that fit; see stripe_sandbox/faults.py for the kinds."""
        self.control("POST", "faults", {"queue": list(kinds), "path": path, "method": method, **where})

    def set_faults(
        self, probabilities: dict[str, float], path: str = "/v1/transfers", method: str = "POST", **where: Any
    ) -> None:
        self.control("POST", "faults", {"probabilities": probabilities, "path": path, "method": method, **where})

    def clear_faults(self) -> None:
        self.control("DELETE", "faults")

    def asks(self, account: str, *due: str, days: float, future: bool = False) -> dict[str, Any]:
        """Stripe asks for facts until a day, or from a day on."""
        given = {"outcome": "ask", "due": list(due), "days": days, "future": future}
        return self.control("POST", f"accounts/{account}", given)

    def happens(self, account: str, outcome: str) -> dict[str, Any]:
        """One of complete, needs_info, under_review, reject, reject_fraud, listed, listing_review, pause, change_bank,
        fail_bank, disconnect."""
        return self.control("POST", f"accounts/{account}", {"outcome": outcome})

    def fail_payout(self, payout: str, code: str = "account_closed") -> dict[str, Any]:
        return self.control("POST", f"payouts/{payout}/fail", {"code": code})

    def reverse_topup(self, topup: str) -> dict[str, Any]:
        return self.control("POST", f"topups/{topup}/reverse", {})

    def adjust(self, account: str, amount: int, currency: str = "usd") -> dict[str, Any]:
        return self.control("POST", "balances", {"account": account, "amount": amount, "currency": currency})

    def resend(self, event: str | None = None) -> int:
        """Owe one event (or all of them) again to the endpoints that it went to."""
        return int(self.control("POST", "resend", {"event": event} if event else {"all": True})["owed"])

    def audit(self) -> dict[str, Any]:
        return self.control("GET", "audit")

    # --- short cuts for a test's own setting ----------------------------------------------------------------------
    def add_account(self, outcome: str = "complete", **params: Any) -> str:
        """A connected account as the product creates them, onboarded with the given outcome ("" leaves it new)."""
        asked = {"country": "US", "controller": CONTRIBUTOR, "capabilities": {"transfers": {"requested": True}}}
        account = self.client().v1.accounts.create(cast(Any, {**asked, **params}))
        if outcome:
            self.happens(account.id, outcome)
        return account.id

    def copy_account(self, account: str, n: int) -> list[str]:
        """`n` more accounts like this one, straight in the sandbox's tables: opening thousands takes minutes."""
        with contextlib.closing(psycopg2.connect(self.database_url)) as database, database, database.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM stripe_sandbox_account")
            first = int(cast(Any, cursor.fetchone())[0])
            for table, column in (("stripe_sandbox_account", "reference"), ("stripe_sandbox_capability", "account_id")):
                cursor.execute(
                    "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute WHERE attrelid = %s::regclass "
                    "AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id', %s)",
                    [table, column],
                )
                columns = cast(Any, cursor.fetchone())[0]
                cursor.execute(
                    f"INSERT INTO {table} ({column}, {columns}) SELECT 'acct_copy' || g, {columns} FROM {table}, "
                    f"generate_series(%s, %s) g WHERE {column} = %s",
                    [first + 1, first + n, account],
                )
        return [f"acct_copy{number}" for number in range(first + 1, first + n + 1)]

    def top_up(self, amount: int, currency: str = "usd") -> str:
        return self.client().v1.topups.create({"amount": amount, "currency": currency}).id

    def available(self, currency: str = "usd", account: str | None = None) -> int:
        """Return the sum that the platform, or a connected account, could send on at this moment."""
        options: Any = {"stripe_account": account} if account else {}
        balance = self.client().v1.balance.retrieve(options=options)
        return sum(one.amount for one in balance.available if one.currency == currency)

    def wait_for_deliveries(self, seconds: float = 20) -> None:
        """Until every webhook that is owed was taken by its receiver."""
        deadline = time.monotonic() + seconds
        while self.audit()["deliveries_owed"]:
            assert time.monotonic() < deadline, "webhooks are still owed"
            time.sleep(0.05)


@contextlib.contextmanager
def running_sandbox(database_url: str, **options: Any) -> Iterator[StripeSandbox]:
    """A sandbox on the given database, for as long as the block runs."""
    sandbox = StripeSandbox(database_url, **options)
    try:
        sandbox.start()
        yield sandbox
        assert sandbox.violations() == [], "the sandbox answered what Stripe's specification does not allow"
    finally:
        sandbox.stop()
