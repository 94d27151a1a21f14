"""Store the programme's name and legal entity, which statements, remittances, bank files and mails use."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from people.operations.programme import UnableToChangeProgramme, describe_programme


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", required=True, help="the name in mails and on papers")
        parser.add_argument("--legal-name", required=True, help="as in the company register")
        parser.add_argument("--address", required=True, help="lines of the address, with commas between them")
        parser.add_argument("--country", required=True, help="ISO 3166, such as DE")
        parser.add_argument("--tax-number", help="such as a VAT number or an EIN (the present one is kept)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            row = describe_programme(
                name=options["name"],
                legal_name=options["legal_name"],
                address="\n".join(options["address"].split(",")),
                country=options["country"],
                tax_number=options["tax_number"],
                at=timezone.now(),
            )
        except UnableToChangeProgramme as error:
            raise CommandError(str(error)) from error
        number = f", tax number {row.tax_number}" if row.tax_number else ""
        self.stdout.write(f"The payer is {row.legal_name}, {', '.join(row.address_lines)}, {row.country}{number}.")
