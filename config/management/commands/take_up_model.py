"""Take up a model version that was set aside: `manage.py take_up_model SERVICE/NAME --by admin@example.org`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from attribution.models import ModelVersion
from attribution.operations import faults
from people.models import User


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "model_version", metavar="SERVICE/NAME", help="as the service's page in the console names it"
        )
        parser.add_argument("--by", metavar="EMAIL", required=True, help="the administrator that the audit log names")

    def handle(self, *args: Any, **options: Any) -> None:
        service, _, name = options["model_version"].rpartition("/")
        version = ModelVersion.objects.filter(service__name=service, name=name).first()
        if version is None:
            raise CommandError(f"There is no model version {options['model_version']!r}: write SERVICE/NAME.")
        by = User.objects.filter(email=options["by"], is_active=True).first()
        if by is None or not by.has_role("admin"):
            raise CommandError(f"{options['by']} is no active administrator.")
        try:
            faults.take_up(model_version=version, at=timezone.now(), by=by)
        except faults.UnableToTakeUp as reason:
            raise CommandError(str(reason)) from reason
        self.stdout.write(f"{version.name} is taken up again.")
