"""Verify a statement's CSV offline. Needs no database and no settings; `python -m ledger.proof FILE` does the same.

The programme publishes the roots of all sealed months, and their chain, at /roots/ and /roots.json, without a login.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ledger import proof


class Command(BaseCommand):
    help = "Add up a statement and prove it. Exit status 0: proved; 1: wrong, with the reason; 2: not sealed yet."
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the statement's CSV")
        parser.add_argument("--root", default="", help="the period's root, as published at /roots/ and /roots.json")

    def handle(self, *args: Any, **options: Any) -> None:
        status = proof.main([options["file"], *(["--root", options["root"]] if options["root"] else [])])
        if status:
            sys.exit(status)
