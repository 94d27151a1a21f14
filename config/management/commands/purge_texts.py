"""Delete the prompts and outputs of generations after the period that their service keeps them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from attribution.operations.retention import purge_texts
from attribution.queries.generations import count_texts_due


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="count them, and delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        at = timezone.now()
        if options["dry_run"]:
            self.stdout.write(f"{count_texts_due(at):,} generations have texts past their period. Nothing was deleted.")
            return
        total = 0
        while done := purge_texts(at=at):
            total += done
        self.stdout.write(f"Deleted the texts of {total:,} generations. Digests, receipts and books are unchanged.")
