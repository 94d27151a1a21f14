"""Build an attribution index of a model version: `manage.py build_index orator/orator-1 --attributor hybrid`.

Several processes share the build when torchrun starts them, with `--device cuda` each on a GPU of its own:
`torchrun --nproc-per-node 4 manage.py build_index orator/orator-1 --device cuda`. With `--queue` the workers do it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from attribution.models import ModelVersion
from attribution.operations import builds, factories, indexes, manifest_items
from influence.index.config import READ_BY


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "model_version", metavar="SERVICE/NAME", help="as the service's page in the console names it"
        )
        parser.add_argument("--attributor", choices=sorted(READ_BY), default="midpoint", help="the scorer")
        parser.add_argument(
            "--set",
            dest="fields",
            nargs="+",
            metavar="FIELD=VALUE",
            default=[],
            action="extend",
            help="other fields of the configuration, as damping=0.1 nodes=3 lexical_weight=0.3 noise_z=2",
        )
        parser.add_argument(
            "--device", help="computes gradients: cpu, cuda or cuda:N (default: ATTRIBUTION_DEVICE, as for workers)"
        )
        parser.add_argument("--queue", action="store_true", help="let the workers build it, and return at once")

    def handle(self, *args: Any, **options: Any) -> None:
        config = {"attributor": options["attributor"], **dict(map(_setting, options["fields"]))}
        version = _version(options["model_version"])
        if options["queue"] and options["device"]:
            raise CommandError("Workers compute on the device that their ATTRIBUTION_DEVICE names; leave out --device.")
        try:
            if options["queue"]:
                index = builds.queue_build(model_version=version, config=config, at=timezone.now())
                self.stdout.write(f"Index {index.public_id} of {version.name} is queued: its page shows how far it is.")
                return
            from influence.index.ranks import joined

            with joined() as ranks:
                index = indexes.build_index(
                    model_version=version,
                    config=config,
                    at=timezone.now(),
                    progress=self._show,
                    ranks=ranks,
                    device=options["device"],
                )
                if ranks.rank:
                    return
        except (manifest_items.UnableToBuild, factories.UnableToLoadModel) as reason:
            raise CommandError(str(reason)) from reason
        except Exception as error:
            # A refusal by the index itself; its class cannot be named without loading torch.
            if getattr(error, "problem", "") not in {"unable-to-build-index", "unable-to-open-index"}:
                raise
            raise CommandError(str(error)) from error
        serving = "serves" if index.serving else "does not serve before it has passed an audit"
        self.stdout.write(f"{index.method_words}: index {index.public_id} of {version.name} is built and {serving}.")

    def _show(self, stage: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"\r{stage:<24} {done:>9} of {total:<9}", ending="\n" if done >= total else "")


def _version(text: str) -> ModelVersion:
    service, _, name = text.partition("/")
    version = ModelVersion.objects.filter(service__name=service, name=name).first()
    if version is None:
        known = [f"{version.service.name}/{version.name}" for version in ModelVersion.objects.select_related("service")]
        raise CommandError(f"There is no model version {text}; there is {', '.join(sorted(known)) or 'none'}.")
    return version


def _setting(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"{text!r} is not FIELD=VALUE.")
    try:
        return field, json.loads(value)
    except ValueError:
        return field, value
