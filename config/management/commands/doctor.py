"""Check everything that an installation needs. Exit status 0: all is done; 1: a step is open; 2: a part is broken."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from config.setup.checklist import STEPS
from config.setup.steps import Checked, check

SIGNS = {"done": "ok", "to do": "to do", "broken": "BROKEN", "note": "note"}


class Command(BaseCommand):
    help = __doc__
    # It looks at broken installations.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        found = check(STEPS, timezone.now())
        broken = [one for one in found if one.finding.state == "broken"]
        status = 2 if broken else 1 if any(one.is_open for one in found) else 0
        if options["json"]:
            self.stdout.write(json.dumps({"status": status, "steps": [_row(one) for one in found]}, indent=1))
        else:
            for one in found:
                self.stdout.write(f"{SIGNS[one.finding.state]:<7} {one.step.title}: {one.finding.words}")
                if one.is_open:
                    self.stdout.write(f"        mended by {_remedy(one)}")
        if status:
            sys.exit(status)


def _remedy(one: Checked) -> str:
    return " or ".join(part for part in (one.step.page, one.step.command) if part)


def _row(one: Checked) -> dict[str, str]:
    step = one.step
    return {
        "step": step.key,
        "title": step.title,
        "state": one.finding.state,
        "words": one.finding.words,
        "page": step.page,
        "command": step.command,
    }
