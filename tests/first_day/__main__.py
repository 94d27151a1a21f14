"""Run the first day: `python -m tests.first_day --once --json FILE`, or `make first-day`."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.first_day import contributor, finance, operator, team
from tests.first_day.browser import UnableToGoOn
from tests.first_day.day import PASSWORD, Day


def main() -> int:
    parser = argparse.ArgumentParser(prog="first-day", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="as few works and generations as go through every step")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of the run")
    parser.add_argument("--folder", type=Path, help="an empty folder that is kept; by default a temporary one")
    parser.add_argument("--once", action="store_true", help="end when the day is over instead of serving its pages")
    options = parser.parse_args()
    # A service manager's SIGTERM ends the installation too, and so does Ctrl-C where a shell ignores it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="first-day-")))
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            parser.error(f"{folder} is not empty")
        day = Day(folder, options.quick, lambda words: print(words, flush=True), stack)
        acts = {**operator.ACTS, **contributor.ACTS, **team.ACTS, **finance.ACTS}
        try:
            day.follow("operator", day.at_work, acts)
        except UnableToGoOn as error:
            print(f"The first day ends here: {error}", file=sys.stderr)
            if options.folder:
                print(f"Its folder is {folder}.", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("Stopped.")
            return 130
        figures = day.result()
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2) + "\n")
        _show(figures)
        if not options.once:
            _serve(day)
    return 0


def _show(figures: dict[str, Any]) -> None:
    """Print the figures and the seconds of each page's sections."""
    for name, value in figures.items():
        if name != "seconds":
            print(f"{name.replace('_', ' '):<32} {value}")
    for name, seconds in figures["seconds"].items():
        print(f"{seconds:8.1f} s  {name}")


def _serve(day: Day) -> None:
    """Name the people, and serve the pages until Ctrl-C."""
    print(f"Tributary serves at {day.url}. Everybody's password: {PASSWORD}")
    for email, browser in day.browsers.items():
        print(f"{email:<40} {f'second factor {browser.secret}' if browser.secret else ''}")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
