"""The first day: three pages of docs/start, each run from its first step to its last, and the acts by hand in them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.first_day import installation, material
from tests.first_day.browser import Browser, UnableToGoOn
from tests.first_day.documents import Shell, read_steps

DOCS = installation.ROOT / "docs" / "start"
PASSWORD = "the first day of many years"
WAIT_SECONDS_MAX = 120
Acts = dict[str, "Callable[[Day], None]"]
NOT_TAKEN_OVER = (
    "TRIBUTARY_", "DATABASE_", "BROKER_", "CACHE_", "STRIPE_", "SANDBOX", "SITE_URL", "EMAIL_URL", "LOG_LEVEL",
    "DJANGO_", "MAKE", "MFLAGS", "ARGS", "PYTHONDONTWRITEBYTECODE",
)  # fmt: skip
"""A customer's terminal has none of the settings under which tests and other installations run."""
THE_PAGES_ADDRESS = "http://127.0.0.1:8000"
"""The address of an installation, as the pages write it."""


@dataclass
class Calendar:
    """The dates of the day. A month can be closed when it is over, so the programme begins with the last one.

    A generation is reported up to 35 days late, and a consent is dated back to the day on which it was given on paper.
    """

    now: datetime

    @property
    def month_end(self) -> datetime:
        return self.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    @property
    def month_start(self) -> datetime:
        return (self.month_end - timedelta(days=1)).replace(day=1)

    @property
    def month(self) -> str:
        return f"{self.month_start:%Y-%m}"

    @property
    def training_started_at(self) -> str:
        return _rfc3339(self.month_start + timedelta(days=1))

    @property
    def trained_at(self) -> str:
        return _rfc3339(self.month_start + timedelta(days=2))

    @property
    def occurred_at(self) -> str:
        return _rfc3339(self.month_end - timedelta(hours=1))


def _rfc3339(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class Day:
    """One run: its folder, its people, and the seconds of each stage."""

    folder: Path
    is_quick: bool
    tell: Callable[[str], None]
    stack: contextlib.ExitStack
    calendar: Calendar = field(default_factory=lambda: Calendar(datetime.now(UTC)))
    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    browsers: dict[str, Browser] = field(default_factory=dict)
    output: str = ""
    """Of the last block."""

    def __post_init__(self) -> None:
        self.sizes = material.QUICK if self.is_quick else material.FULL
        self.people = material.people(self.sizes)
        self.at_work = self.folder / "operator"
        self.team = self.folder / "team"
        self.data = self.folder / "data"
        self.port = installation.free_port()
        installation.prepare_folder(self.at_work)
        self.team.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(NOT_TAKEN_OVER)},
            "TRIBUTARY_DATA": str(self.data),
            "TRIBUTARY_CONFIG": str(self.folder / "logins"),
            "ARGS": f"--port {self.port}",
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{installation.ROOT}:{installation.ROOT}/clients/python/src",
        }
        self.kept: dict[str, str] = {
            "TRAINING_STARTED_AT": self.calendar.training_started_at,
            "TRAINED_AT": self.calendar.trained_at,
        }
        self.url = ""

    # --- pages ------------------------------------------------------------------------------------------------------
    def follow(self, name: str, folder: Path, acts: Acts, *, part: int = 0) -> None:
        """Run a page of docs/start, or a part of it. Raises UnableToGoOn, with page and line, for a step that fails."""
        page = DOCS / f"{name}.md"
        shell = Shell(folder, self.environment, self.kept, self._command)
        for step in read_steps(page):
            if step.part != part:
                continue
            stage = f"{name}: {step.heading}"
            with self.stage(stage):
                if step.hand:
                    if step.hand not in acts:
                        raise UnableToGoOn(f"{page.name}, line {step.line}: nobody knows the act {step.hand}.")
                    try:
                        acts[step.hand](self)
                    except UnableToGoOn as error:
                        raise UnableToGoOn(f"{page.name}, line {step.line}, {step.hand}: {error}") from error
                else:
                    self.output = shell.run(page, step)

    def _command(self, code: str) -> str | None:
        """Start the installation in the background; every other block is the shell's."""
        if code.strip() != "make up":
            return None
        running = self.stack.enter_context(installation.running(self.at_work, self.environment, "make up"))
        self.url = running.url
        self.kept |= {"FIRST_ADDRESS": running.first_address, THE_PAGES_ADDRESS: running.url}
        return running.log.read_text()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage. Stages of one name add up."""
        begun = time.monotonic()
        before = sum(self.seconds.values())
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - before
            taken = time.monotonic() - begun - inner
            self.seconds[name] = self.seconds.get(name, 0.0) + taken
            self.tell(f"{time.monotonic() - self.started:7.1f} s  {name} ({taken:.1f} s)")

    # --- people -----------------------------------------------------------------------------------------------------
    def browser(self, email: str) -> Browser:
        return self.browsers[email]

    def new_browser(self, email: str) -> Browser:
        browser = Browser(self.url, email=email, password=PASSWORD)
        self.stack.callback(browser.close)
        self.browsers[email] = browser
        return browser

    def mail_to(self, email: str, containing: str) -> str:
        """Read the newest mail to a person in `var/mail`, as the operator's page says. Raises UnableToGoOn."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < deadline:
            for path in sorted((self.data / "mail").glob("*"), key=lambda path: path.stat().st_mtime, reverse=True):
                # A file has the mails of one connection.
                for mail in path.read_text(errors="replace").split("-" * 79):
                    if f"To: {email}\n" in mail and containing in mail:
                        return mail
            time.sleep(0.2)
        raise UnableToGoOn(f"No mail to {email} contains “{containing}”.")

    def wait(self, done: Callable[[], bool], what: str, *, seconds_max: float = WAIT_SECONDS_MAX) -> None:
        """Look again until something has happened. Raises UnableToGoOn after some time."""
        deadline = time.monotonic() + seconds_max
        while not done():
            if time.monotonic() > deadline:
                raise UnableToGoOn(f"After {seconds_max:g} s: {what}.")
            time.sleep(0.5)

    def program(self, *arguments: str) -> None:
        """Run a program of the model team's own. Raises UnableToGoOn with its errors."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.team,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        if done.returncode:
            raise UnableToGoOn(f"{arguments}: {done.stdout[-1500:]}{done.stderr[-3000:]}")
        self.tell(done.stdout.rstrip())

    def result(self) -> dict[str, Any]:
        """Return the figures of the day, with the seconds of each section of the pages."""
        seconds = {name: round(taken, 1) for name, taken in self.seconds.items()}
        return {
            "contributors": len(self.people),
            "works": sum(len(person.files) for person in self.people),
            **self.figures,
            "seconds": {**seconds, "total": round(time.monotonic() - self.started, 1)},
        }
