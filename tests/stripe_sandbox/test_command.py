"""When the sandbox starts, and when it refuses to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.databases import CommittedDatabase
from tests.sandbox_server import ROOT, StripeSandbox, running_sandbox

SAFE = {"SANDBOX": "1", "DEBUG": "0", "STRIPE_SECRET_KEY": "sk_test_1", "STRIPE_READ_KEY": "sk_test_1"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"STRIPE_SECRET_KEY": "sk_live_1"}, "A live Stripe key is configured"),
        ({"STRIPE_READ_KEY": "rk_live_1"}, "A live Stripe key is configured"),
        ({"SANDBOX": ""}, "DEBUG is off"),
        ({"STRIPE_SECRET_KEY": "", "STRIPE_READ_KEY": ""}, "begins with sk_test_"),
    ],
)
def test_the_sandbox_does_not_start_where_money_could_move(changed: dict[str, str], reason: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "sandbox", "--port", "1"],
        cwd=ROOT,
        env={**os.environ, **SAFE, **changed},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert reason in done.stderr


def test_the_sandbox_goes_on_where_it_stood_and_keeps_its_endpoints(committed_database: CommittedDatabase) -> None:
    hooks = {"webhooks": ["http://127.0.0.1:9/a"], "connect_webhooks": ["http://127.0.0.1:9/b"]}
    with running_sandbox(committed_database.url, **hooks) as sandbox:
        sandbox.top_up(500)
        now = sandbox.advance(days=30)
        _assert_endpoints(sandbox)
        sandbox.stop()
        sandbox.start()
        assert sandbox.settings()["now"] >= now
        assert sandbox.client().v1.balance.retrieve().available[0].amount == 500
        _assert_endpoints(sandbox)


def _assert_endpoints(sandbox: StripeSandbox) -> None:
    listed = sandbox.client().v1.webhook_endpoints.list().data
    assert sorted(one.url for one in listed) == ["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"]


def test_the_served_process_holds_nothing_of_the_product(committed_database: CommittedDatabase) -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import stripe_sandbox.wsgi, sys\n"
            "names = ('contributors', 'attribution', 'ledger', 'payouts.models', 'payouts.operations', 'torch')\n"
            "print([name for name in names if name in sys.modules])\n"
            "stripe_sandbox.wsgi.stopping.set()",
        ],
        cwd=ROOT,
        env={**os.environ, **SAFE, **committed_database.environment()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.stdout.strip() == "[]", told.stderr
