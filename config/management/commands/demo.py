"""The whole job on real data: contributors, a trained model, generations, royalties, payouts; then the pages."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import requests
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.urls import reverse
from django.utils import timezone
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attribution.models import Generation
from config import books
from config.demo import dates, flow, month, people, progress
from config.engine import servers
from config.engine.installation import Running, installation
from config.engine.processes import UnableToStart
from people.models import User

FIRST_PAGE_SECONDS_MAX = 30.0
SHOW_FAILURE_SECONDS = 6.0
"""Three times the interval in which the page asks again."""
LOADED = time.monotonic()


def seconds_since_start() -> float:
    """Return the age of this process, the engine's start included; where no /proc is, since this module was loaded."""
    try:
        after_the_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        # The 22nd field of the line is the start, in ticks since the machine's.
        started = int(after_the_name[19]) / os.sysconf("SC_CLK_TCK")
        return round(time.clock_gettime(time.CLOCK_BOOTTIME) - started, 2)
    except (OSError, AttributeError):
        return round(time.monotonic() - LOADED, 2)


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="exit when the job is done instead of serving")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of the run")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--generations", type=int, default=flow.GENERATIONS)
        parser.add_argument("--code", metavar="EMAIL", help="print that person's current second factor, and exit")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["code"]:
            self._print_code(options["code"])
            return
        # Ctrl-C and a service manager's SIGTERM both end the demo and all that it started.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        console = Console()
        self._begin_anew_if_interrupted(console)
        call_command("setup_database", verbosity=0)
        attributing = flow.CORES if self._is_new else 1
        try:
            with installation(
                host="127.0.0.1", port=options["port"], tell=console.print, attribution_processes=attributing
            ) as running:
                figures = self._figures(running, console, options)
                if options["json"]:
                    options["json"].write_text(json.dumps(figures, indent=2, default=str) + "\n")
                self._show(console, figures)
                if options["once"]:
                    return
                self._show_logins(console, running)
                console.print(f"Generations stored: {Generation.objects.count():,}. Ctrl-C ends everything.")
                threading.Event().wait()
        except (UnableToStart, progress.UnableToDemonstrate) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            console.print("Stopped.")

    def _begin_anew_if_interrupted(self, console: Console) -> None:
        """A demo that was cut off tells half a story; its database is thrown away, its trained model is kept."""
        if not self._started.exists() or self._done.exists():
            return
        if "DATABASE_URL" in os.environ:
            raise CommandError("A demo was interrupted in this database. Give DATABASE_URL an empty one.")
        console.print("The last demo was interrupted; it begins anew, with the model that it had trained.")
        connections.close_all()
        servers.empty_database(settings.TRIBUTARY_DATA)
        self._started.unlink()
        progress.path_of(settings.TRIBUTARY_DATA).unlink(missing_ok=True)

    @property
    def _started(self) -> Path:
        return Path(settings.TRIBUTARY_DATA / "demo" / "started")

    @property
    def _done(self) -> Path:
        return Path(settings.TRIBUTARY_DATA / "demo" / "figures.json")

    @property
    def _is_new(self) -> bool:
        return not self._done.exists()

    def _figures(self, running: Running, console: Console, options: dict[str, Any]) -> dict[str, Any]:
        """Of this run, or of the one that filled the database; in either case the books are checked now."""
        if self._is_new:
            if User.objects.exists():
                raise CommandError("The database holds other data. Set DATABASE_URL to an empty one for the demo.")
            self._started.parent.mkdir(parents=True, exist_ok=True)
            self._started.touch()
            demo = flow.Demo(running, console, dates.Calendar(timezone.now()), options["generations"])
            first_page = self._open_first_page(running, console)
            try:
                figures = demo.run(opened=lambda: self._show_logins(console, running))
            except progress.UnableToDemonstrate as error:
                if not options["once"]:
                    # A browser that shows the page asks for it again meanwhile, and finds the reason.
                    console.print(f"[red]{escape(str(error))}")
                    time.sleep(SHOW_FAILURE_SECONDS)
                raise
            figures["seconds"]["first_page"] = first_page
            self._done.write_text(json.dumps(figures, indent=2, default=str) + "\n")
            demo.stages.finish()
            return {**figures, "reused": False}
        console.print("The demo's data is there already; its books are checked again.")
        self._say_done(console)
        first_page = self._open_first_page(running, console)
        checked = books.check_books(at=timezone.now())
        stored = json.loads(self._done.read_text())
        return {
            **stored,
            **month.money_figures(),
            "seconds": {**stored["seconds"], "first_page": first_page},
            "invariants_checked": len(checked.checked),
            "invariants_violated": list(checked.violated),
            "reused": True,
        }

    def _open_first_page(self, running: Running, console: Console) -> float:
        """Ask for the demo's page as a browser does; return the seconds from the command's start to its answer.

        Raises UnableToStart where the answer is not 200.
        """
        page = f"{running.url}{reverse('demo')}"
        answer = requests.get(page, timeout=FIRST_PAGE_SECONDS_MAX)
        if answer.status_code != 200:
            raise UnableToStart(f"{page} answered {answer.status_code}; see {settings.TRIBUTARY_DATA / 'logs'}.")
        seconds = seconds_since_start()
        console.print(f"[bold]The pages answer after {seconds:.0f} s. The progress is at {page}[/bold]")
        return seconds

    def _say_done(self, console: Console) -> None:
        """The page of a demo that was made before there was such a page says that all is done."""
        path = progress.path_of(settings.TRIBUTARY_DATA)
        found = progress.read(path)
        if found is None or found.state != progress.DONE:
            progress.Stages(console, path).finish()

    def _show(self, console: Console, figures: dict[str, Any]) -> None:
        table = Table(title="What happened", show_header=False, title_justify="left")
        for name, value in figures.items():
            if not isinstance(value, dict):
                shown = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
                table.add_row(name.replace("_", " "), shown)
        table.add_row("seconds", ", ".join(f"{name} {value:g}" for name, value in figures["seconds"].items()))
        console.print(table)

    def _show_logins(self, console: Console, running: Running) -> None:
        logins = people.logins(settings.TRIBUTARY_DATA / "demo" / "logins.json")
        # Plain lines: a table would cut text that a person has to copy.
        console.print(f"[bold]Tributary serves at {running.url}[/bold]")
        for person in (*people.STAFF, *people.CONTRIBUTORS):
            console.print(f"{person.email:<38} {person.note}", soft_wrap=True, highlight=False)
        for person in people.STAFF:
            secret = logins[person.email].totp_secret
            console.print(f"Second factor of {person.email}: {secret}", soft_wrap=True, highlight=False)
        console.print(f"Everybody's password: [bold]{logins[people.STAFF[0].email].password}[/bold]")
        console.print("A current code: .venv/bin/python manage.py demo --code maker@finance.example")

    def _print_code(self, email: str) -> None:
        login = people.logins(settings.TRIBUTARY_DATA / "demo" / "logins.json").get(email.lower())
        if login is None:
            raise CommandError(f"The demo has no {email}.")
        self.stdout.write(people.current_code(login.totp_secret))
