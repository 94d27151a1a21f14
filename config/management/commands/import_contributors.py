"""Register contributors from a CSV and mail each an address to claim its account. Sent twice it does nothing more."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from config.engine.installation import site_url
from contributors.operations import imports
from people.operations.mail import send_due_invitations


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help=f"UTF-8, with the columns {', '.join(imports.COLUMNS)}")
        parser.add_argument("--check", action="store_true", help="only check; register nobody")

    def handle(self, *args: Any, **options: Any) -> None:
        settings.SITE_URL = site_url()
        try:
            with options["file"].open("rb") as file:
                text = imports.text_of(file.read(imports.BYTES_MAX + 1))
            if options["check"]:
                found = imports.preview(text)
                for row in found.wrong:
                    self.stderr.write(f"line {row.line}: {row.error}")
                self.stdout.write(
                    f"{len(found.new)} are new, {len(found.known)} are known, {len(found.wrong)} lines are wrong."
                )
                if found.wrong:
                    raise CommandError("Nothing was imported.")
                return
            done = imports.import_contributors(text=text, at=timezone.now())
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}.") from error
        except imports.UnableToImport as error:
            raise CommandError(str(error)) from error
        sent = send_due_invitations(at=timezone.now(), limit=imports.ROWS_MAX)
        self.stdout.write(
            f"{len(done.new)} contributors are registered, {len(done.known)} were known. {sent} mails were handed over."
        )
