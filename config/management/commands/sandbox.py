"""Serve the sandbox, a stand-in for Stripe on this machine: no key, no account, no money."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from django.utils import timezone

from stripe_sandbox import configuration, events

LIVE_KEYS = ("sk_live_", "rk_live_")
TEST_KEYS = ("sk_test_", "rk_test_")


class Command(BaseCommand):
    help = __doc__
    requires_system_checks: list[str] = []  # it serves none of the addresses that a check would look at

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=12111)
        parser.add_argument("--threads", type=int, default=64, help="requests that may wait at the same time")
        parser.add_argument("--application", default="stripe_sandbox.wsgi:application", help="what gunicorn serves")
        parser.add_argument("--webhook", action="append", default=[], metavar="URL", help="for the platform's events")
        parser.add_argument(
            "--connect-webhook", action="append", default=[], metavar="URL", help="for events of connected accounts"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._refuse_what_is_real()
        configuration.prepare()
        for connect, urls, secrets in (
            (False, options["webhook"], settings.STRIPE_WEBHOOK_SECRETS),
            (True, options["connect_webhook"], settings.STRIPE_CONNECT_WEBHOOK_SECRETS),
        ):
            for url in urls:
                events.ensure_endpoint(
                    url=url, connect=connect, secret=secrets[0] if secrets else "", at=timezone.now()
                )
        self.stdout.write(f"SANDBOX: no money moves. Serving http://127.0.0.1:{options['port']}/v1")
        self.stdout.flush()
        connections.close_all()
        os.execv(
            sys.executable,
            self._server(application=options["application"], port=options["port"], threads=options["threads"]),
        )

    def _server(self, *, application: str, port: int, threads: int) -> list[str]:
        """One process, because clock and limits live in its memory; many threads, because slow answers only wait."""
        return [
            sys.executable, "-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}",
            "--workers", "1", "--worker-class", "gthread", "--threads", str(threads), "--keep-alive", "30",
            "--graceful-timeout", "2", "--log-level", "warning", "--no-control-socket",
        ]  # fmt: skip

    def _refuse_what_is_real(self) -> None:
        keys = [settings.STRIPE_SECRET_KEY, settings.STRIPE_READ_KEY]
        if any(key.startswith(LIVE_KEYS) for key in keys):
            raise CommandError("A live Stripe key is configured; the sandbox does not start beside it.")
        if not settings.DEBUG and os.environ.get("SANDBOX") != "1":
            raise CommandError("DEBUG is off, as in production. Set SANDBOX=1 to say that a sandbox is wanted here.")
        if not any(key.startswith(TEST_KEYS) for key in keys):
            raise CommandError("Set STRIPE_SECRET_KEY to any word that begins with sk_test_; it is the sandbox's key.")
