"""`tributary login` and `tributary services`."""

from __future__ import annotations

import argparse
import getpass
import sys

from tributary.cli.output import DONE, REFUSED, Output
from tributary.errors import InvalidInput, ProblemError, Unreachable
from tributary.logins import Login, read_logins, store_login
from tributary.transport import Transport

PROBE = "/api/v1/model-versions"


def login(options: argparse.Namespace, output: Output) -> int:
    """Prove a key at the installation and store it. The key is never printed."""
    if options.key_stdin:
        key = sys.stdin.readline().strip()
    elif sys.stdin.isatty():
        key = getpass.getpass("Service key (it is not shown): ").strip()
    else:
        raise InvalidInput("there is no terminal to ask for the key; pass --key-stdin and write it to the input")
    given = Login(options.url.rstrip("/"), key)
    state = _state(given)
    if state != "accepted":
        raise InvalidInput(f"nothing was stored: the key is {state} at {given.url}", field="key")
    path = store_login(options.name, given)
    output.result(
        {"name": options.name, "url": given.url, "key_prefix": given.prefix, "file": str(path)},
        f"Stored as {options.name}: {given.url} with the key {given.prefix}_...",
        f"It stands in {path}, which only you can read.",
    )
    return DONE


def services(options: argparse.Namespace, output: Output) -> int:
    """List the stored services, and for each whether the installation accepts its key."""
    found = []
    for name, stored in sorted(read_logins().items()):
        try:
            state = _state(stored)
        except (Unreachable, ProblemError) as error:
            state = f"not reachable: {error}"
        found.append({"name": name, "url": stored.url, "key_prefix": stored.prefix, "state": state})
    lines = [f"{row['name']:<16} {row['url']:<40} {row['key_prefix']:<18} {row['state']}" for row in found]
    output.result({"services": found}, *(lines or ["No service is stored. Run `tributary login URL`."]))
    return DONE if all(row["state"] == "accepted" for row in found) else REFUSED


def _state(login: Login) -> str:
    """Ask the installation about a key: accepted, unknown, revoked, expired or suspended. Raises Unreachable."""
    transport = Transport(login.url, login.key, timeout_seconds=20, attempts_max=2)
    try:
        transport.get(PROBE, limit=1)
    except ProblemError as error:
        if error.status == 401:
            return f"refused: {error.detail}"
        # A key without the scope of this list is still a key of a service.
        if error.status != 403:
            raise
    finally:
        transport.close()
    return "accepted"
