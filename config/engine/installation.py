"""The programs of a running installation, and their shared environment.

Without a Stripe key an installation talks to the project's own sandbox, which then runs here too. Nothing in the
product knows: the sandbox is one more address, in `local.env` beside the data, which the settings read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from config.engine import processes

LAST_URL = "site_url"


@dataclass(frozen=True)
class Running:
    """An installation that serves; for as long as `installation`'s block runs."""

    url: str


def site_url() -> str:
    """The address of this installation: SITE_URL, or the address at which it last served without that setting."""
    last: Path = settings.TRIBUTARY_DATA / LAST_URL
    if "SITE_URL" in os.environ or not last.exists():
        return str(settings.SITE_URL)
    return last.read_text().strip()


@contextlib.contextmanager
def installation(
    *, host: str, port: int, tell: Callable[[str], None], attribution_processes: int = 1
) -> Iterator[Running]:
    """Run every program of an installation for as long as the block runs. Raises UnableToStart."""
    # Works, models, mails and logs are for this user alone; the programs inherit it.
    os.umask(0o077)
    processes.claim_port(host, port)
    data: Path = settings.TRIBUTARY_DATA
    url = os.environ.get("SITE_URL", f"http://{host}:{port}")
    settings.SITE_URL = url
    data.mkdir(parents=True, exist_ok=True)
    (data / LAST_URL).write_text(url)
    environment = {
        "DATABASE_URL": settings.DATABASE_URL,
        "BROKER_URL": settings.BROKER_URL,
        "TRIBUTARY_DATA": str(data),
        "SITE_URL": url,
        # Probes and the sandbox call it by this machine's name, under any public name.
        "ALLOWED_HOSTS": ",".join(dict.fromkeys([*settings.ALLOWED_HOSTS, processes.THIS_MACHINE])),
        # Several processes share the cores: one numerical thread each.
        "OMP_NUM_THREADS": "1",
    }
    programs = [
        processes.web(host, port),
        processes.worker("attribution", "attribution", concurrency=attribution_processes),
        # A step of a build or an audit may take hours, and generations must not wait for it.
        processes.worker("builds", "builds"),
        processes.worker("money", "default,payouts", concurrency=2),
        processes.beat(),
    ]
    if os.environ.get("SANDBOX") == "1":
        port_of_sandbox = int(str(settings.STRIPE_API_BASE).rsplit(":", 1)[1])
        processes.claim_port(processes.THIS_MACHINE, port_of_sandbox, remedy=f"Change it in {data / 'local.env'}.")
        programs.insert(0, processes.sandbox(port_of_sandbox, port_of_web=port))
    logs = data / "logs"
    with processes.Supervisor(programs, logs=logs, environment=environment, tell=tell):
        yield Running(url)
