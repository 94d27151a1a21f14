"""Run a whole installation: database and broker (embedded where none is configured), web, workers, beat, sandbox."""

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from config.engine.installation import installation
from config.engine.processes import UnableToStart


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("setup_database", verbosity=0)
        # SIGTERM, as from a service manager, ends the command as Ctrl-C does; so does SIGINT where a shell ignores it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            with installation(host=options["host"], port=options["port"], tell=self.stdout.write) as running:
                self.stdout.write(f"Tributary serves at {running.url}. Ctrl-C ends it.")
                threading.Event().wait()
        except UnableToStart as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            pass
        self.stdout.write("Stopped.")
