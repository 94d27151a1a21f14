"""Which programs make up a running installation, and what environment they share.

Without a Stripe key an installation talks to the project's own sandbox. Nothing in the product knows: the sandbox is
one more address, in `local.env` beside the data, which the settings read where the environment names no key.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from config import processes


@dataclass(frozen=True)
class Running:
    url: str
    supervisor: processes.Supervisor
    environment: dict[str, str]


def _local_environment(path: Path) -> dict[str, str]:
    """The sandbox's address and secrets, made once: a restart must not change a secret that is in use."""
    if not path.exists():
        lines = {
            "SANDBOX": "1",
            "STRIPE_API_BASE": f"http://127.0.0.1:{processes.free_port()}",
            "STRIPE_SECRET_KEY": f"sk_test_{secrets.token_hex(16)}",
            "STRIPE_READ_KEY": f"rk_test_{secrets.token_hex(16)}",
            "STRIPE_WEBHOOK_SECRETS": f"whsec_{secrets.token_hex(24)}",
            "STRIPE_CONNECT_WEBHOOK_SECRETS": f"whsec_{secrets.token_hex(24)}",
        }
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.writelines(f"{name}={value}\n" for name, value in lines.items())
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if line)
    return dict(pairs)  # type: ignore[arg-type]


@contextlib.contextmanager
def installation(*, host: str, port: int, tell: Callable[[str], None]) -> Iterator[Running]:
    """Run every program of an installation for as long as the block runs. Raises UnableToStart."""
    processes.claim_port(host, port)
    data: Path = settings.TRIBUTARY_DATA
    environment = {
        "DATABASE_URL": settings.DATABASE_URL,
        "BROKER_URL": settings.BROKER_URL,
        "TRIBUTARY_DATA": str(data),
        "SITE_URL": os.environ.get("SITE_URL", f"http://{host}:{port}"),
        # Several processes share the cores: one numerical thread each.
        "OMP_NUM_THREADS": "1",
    }
    programs = [
        processes.web(host, port),
        processes.worker("attribution", "attribution"),
        processes.worker("money", "default,payouts", concurrency=2),
        processes.beat(),
    ]
    if "STRIPE_SECRET_KEY" not in os.environ:
        local = _local_environment(data / "local.env")
        environment |= local
        programs.insert(0, processes.sandbox(int(local["STRIPE_API_BASE"].rsplit(":", 1)[1])))
    logs = data / "logs"
    with processes.Supervisor(programs, logs=logs, environment=environment, tell=tell) as supervisor:
        yield Running(environment["SITE_URL"], supervisor, environment)
