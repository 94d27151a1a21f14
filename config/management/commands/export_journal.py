"""Write the journal for other accounting programs, in bounded memory however long it is."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger.exports.journal import FORMATS, UnableToExport, journal_text, span_of
from ledger.queries import books


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=list(FORMATS), default="beancount")
        parser.add_argument("--period", metavar="YYYY-MM", help="the entries dated in one month")
        parser.add_argument("--from", dest="first", type=_day, metavar="YYYY-MM-DD", help="the first day")
        parser.add_argument("--to", dest="last", type=_day, metavar="YYYY-MM-DD", help="the last day")
        parser.add_argument("--output", type=Path, metavar="FILE", help="write to FILE instead of standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        period = None
        if options["period"] is not None and (period := books.period_number(options["period"])) is None:
            raise CommandError(f"{options['period']!r} is no period; write it as 2026-10.")
        try:
            span = span_of(period=period, first=options["first"], last=options["last"])
            parts = journal_text(options["format"], span)
        except UnableToExport as error:
            raise CommandError(str(error)) from error
        if options["output"] is None:
            for part in parts:
                self.stdout.write(part, ending="")
            return
        # The file under the final name is whole.
        partial = options["output"].with_name(f".{options['output'].name}.partial")
        try:
            with partial.open("w", encoding="utf-8", newline="") as file:
                file.writelines(parts)
            partial.replace(options["output"])
        finally:
            partial.unlink(missing_ok=True)


def _day(text: str) -> date:
    return date.fromisoformat(text)
