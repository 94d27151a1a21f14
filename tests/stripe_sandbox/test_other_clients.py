"""Stripe's own clients in other languages drive the sandbox. They come from npm, so this runs where node is present."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from stripe_sandbox.delivery import sign
from tests.sandbox_server import ROOT, StripeSandbox

CLIENTS = {"stripe": "23.1.0", "@stripe/cli": "1.52.0"}

if shutil.which("node") and shutil.which("npm"):
    # Fetched from a registry: part of the full suite, so that the everyday one needs no network.
    pytestmark = pytest.mark.full

    @pytest.fixture(scope="module")
    def clients() -> Path:
        """A directory with both clients installed; kept, because fetching them takes a minute."""
        directory = ROOT / ".cache" / "npm"
        directory.mkdir(parents=True, exist_ok=True)
        wanted = [f"{name}@{version}" for name, version in CLIENTS.items()]
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(directory), *wanted],
            check=True,
            timeout=300,
        )
        return directory

    def test_the_client_for_node_pays_once_and_reads_what_was_paid(sandbox: StripeSandbox, clients: Path) -> None:
        script = clients / "other_client.mjs"
        shutil.copy(Path(__file__).parent / "other_client.mjs", script)
        body = json.dumps({"id": "evt_1", "object": "event", "type": "transfer.created"})
        signature = sign(body, "whsec_node", int(time.time()))
        told = subprocess.run(
            ["node", str(script), str(sandbox.port), sandbox.key, sandbox.add_account()],
            env={**os.environ, "WEBHOOK_BODY": body, "WEBHOOK_SIGNATURE": signature},
            cwd=clients,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout) == {
            "once": True,
            "reversed": 234,
            "arrived": 1_234,
            "available": 1_000,
            "refused": ["StripeInvalidRequestError", "balance_insufficient", 400],
            "event": "transfer.created",
        }

    def test_the_command_line_client_creates_and_lists(sandbox: StripeSandbox, clients: Path, tmp_path: Path) -> None:
        account = sandbox.add_account()

        def run(*words: str) -> dict[str, object]:
            told = subprocess.run(
                [str(clients / "node_modules" / ".bin" / "stripe"), *words, "--api-base", sandbox.url],
                env={
                    **os.environ,
                    "STRIPE_API_KEY": sandbox.key,
                    "STRIPE_CLI_TELEMETRY_OPTOUT": "1",
                    "HOME": str(tmp_path),
                },
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert told.returncode == 0, told.stderr
            shown: dict[str, object] = json.loads(told.stdout)
            return shown

        made = run("transfers", "create", "--amount", "55", "--currency", "usd", "--destination", account)
        assert (made["object"], made["amount"]) == ("transfer", 55)
        listed = run("get", "/v1/transfers", "-d", f"destination={account}")
        assert [one["id"] for one in listed["data"]] == [made["id"]]  # type: ignore[attr-defined]
