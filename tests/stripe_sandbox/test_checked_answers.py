"""No answer of the sandbox, to any caller, escapes Stripe's specification: the check stands in the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.checked_sandbox import checked
from tests.sandbox_server import StripeSandbox, running_sandbox


def served(body: dict[str, Any], status: str = "200 OK") -> Callable[..., Iterable[bytes]]:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]

    return application


BALANCE = {
    "object": "balance",
    "available": [],
    "pending": [],
    "livemode": False,
    "connect_reserved": [{"amount": 0, "currency": "usd"}],
}


@pytest.mark.parametrize(
    ("body", "status", "wrong"),
    [
        (BALANCE, "200 OK", ""),
        ({**BALANCE, "status": "paid"}, "200 OK", "balance.status is unknown to Stripe"),
        ({**BALANCE, "available": 7}, "200 OK", "is not of type 'array'"),
        ({"error": "no"}, "500 Server Error", "is not of type 'object'"),
    ],
)
def test_what_stripe_could_not_have_answered_is_written_down(
    tmp_path: Path, body: dict[str, Any], status: str, wrong: str
) -> None:
    told = tmp_path / "told"
    asked = {"PATH_INFO": "/v1/balance", "REQUEST_METHOD": "GET"}
    answered = b"".join(checked(served(body, status), told)(asked, lambda *given: None))
    assert json.loads(answered) == body
    assert (told.read_text() if told.exists() else "").count(wrong or "\n") == bool(wrong)


def test_the_servers_of_the_tests_are_checked_whatever_client_asks(sandbox: StripeSandbox) -> None:
    assert sandbox.process is not None
    command = Path(f"/proc/{sandbox.process.pid}/cmdline").read_bytes().split(b"\0")
    assert b"tests.checked_sandbox:application" in command
    assert requests.get(f"{sandbox.url}/v1/balance", auth=(sandbox.key, ""), timeout=10).status_code == 200
    assert sandbox.violations() == []


def test_a_test_fails_whose_server_answered_wrongly(committed_database: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="does not allow"),
        running_sandbox(committed_database.url, log=tmp_path / "log") as server,
    ):
        server._violations.write_text("GET /v1/balance 200: wrong\n")
