"""Run a whole installation: database and broker (embedded where none is configured), web, workers, beat, sandbox."""

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from config.engine.installation import installation
from config.engine.processes import UnableToStart
from config.live_keys import UnableToUseLiveKey, refuse_live_key_on_trial
from people.operations.invitations import invite_first_administrator
from people.queries.mail import destination
from people.queries.programme import has_administrator


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("setup_database", verbosity=0)
        try:
            refuse_live_key_on_trial()
        except UnableToUseLiveKey as error:
            raise CommandError(str(error)) from error
        # SIGTERM, as from a service manager, ends the command as Ctrl-C does; so does SIGINT where a shell ignores it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            with installation(host=options["host"], port=options["port"], tell=self.stdout.write) as running:
                self.stdout.write(f"Tributary serves at {running.url}. Ctrl-C ends it.")
                self._tell_first_steps(running.url)
                threading.Event().wait()
        except UnableToStart as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            pass
        self.stdout.write("Stopped.")

    def _tell_first_steps(self, url: str) -> None:
        """Print the place of mails, and on an empty installation the address that makes the first administrator."""
        self.stdout.write(f"Mails go to {destination().words}.")
        self.stdout.flush()
        if has_administrator():
            return
        path = invite_first_administrator(at=timezone.now())
        self.stdout.write(
            f"Nobody administers this installation yet. Open this address once, within 24 hours:\n\n  {url}{path}\n"
        )
        self.stdout.flush()
