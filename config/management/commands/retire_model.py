"""Retire a model version: `manage.py retire_model SERVICE/NAME [--superseded-by NAME]`.

No new generation of it is taken. Reported ones are still attributed.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from attribution.models import ModelVersion
from attribution.operations import model_versions


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model_version", metavar="SERVICE/NAME")
        parser.add_argument("--superseded-by", metavar="NAME", help="the version that runs in its place")

    def handle(self, *args: Any, **options: Any) -> None:
        service, _, name = options["model_version"].partition("/")
        version, at = _version(service, name), timezone.now()
        try:
            if successor := options["superseded_by"]:
                model_versions.supersede_model_version(
                    model_version=version, successor=_version(service, successor), at=at
                )
            else:
                model_versions.retire_model_version(model_version=version, at=at)
        except model_versions.UnableToRetireModelVersion as reason:
            raise CommandError(str(reason)) from reason
        self.stdout.write(f"{service}/{name} is retired: no new generation of it is taken.")


def _version(service: str, name: str) -> ModelVersion:
    version = ModelVersion.objects.filter(service__name=service, name=name).first()
    if version is None:
        known = [f"{row.service.name}/{row.name}" for row in ModelVersion.objects.select_related("service")]
        raise CommandError(
            f"There is no model version {service}/{name}; there is {', '.join(sorted(known)) or 'none'}."
        )
    return version
