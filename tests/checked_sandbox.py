"""The sandbox as every test runs it: each answer is compared with Stripe's specification before it leaves.

Every caller, in any process and language, is served through here. An answer that Stripe could not have given is written
to the file that SANDBOX_VIOLATIONS names. `running_sandbox` then fails the test at its end. Requests need no such
wrapper: the sandbox itself refuses a request that violates Stripe's request schema.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.stripe_specification import violations

Environment = dict[str, Any]
Served = Callable[[Environment, Callable[..., Any]], Iterable[bytes]]


def checked(served: Served, told: Path) -> Served:
    """`served`, with a line in `told` for every violation. Answers that a fault cut off have no body and are passed."""

    def application(environ: Environment, start_response: Callable[..., Any]) -> Iterable[bytes]:
        status = 0

        def start(line: str, headers: Any, exc_info: Any = None) -> Any:
            nonlocal status
            status = int(line.split(" ", 1)[0])
            return start_response(line, headers, exc_info) if exc_info else start_response(line, headers)

        answered = served(environ, start)
        path = str(environ["PATH_INFO"])
        if not path.startswith("/v1/"):
            return answered
        body = b"".join(answered)
        if close := getattr(answered, "close", None):
            close()
        if body and (wrong := violations(environ["REQUEST_METHOD"], path, status, body)):
            with told.open("a") as file:
                file.write(f"{environ['REQUEST_METHOD']} {path} {status}: {wrong}\n")
        return [body]

    return application


def _application() -> Served:
    from stripe_sandbox.wsgi import application

    return checked(application, Path(os.environ["SANDBOX_VIOLATIONS"]))


if "SANDBOX_VIOLATIONS" in os.environ:
    application = _application()
