"""Register a model version with its checkpoint and its training manifest.

`manage.py register_model SERVICE/NAME --factory transformers --adapter causal_lm --directory DIR --purpose fine_tune
--trained-at 2026-10-02T17:30:00Z --manifest M.jsonl`. The model is loaded at once. With `--dry-run` the manifest is
only checked. A version that is registered already gets its manifest by the same command with `--manifest` alone.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from attribution.models import ModelService, ModelVersion
from attribution.operations import manifests, model_versions
from attribution.operations.factories import known_adapters, known_factories
from attribution.operations.manifest_lines import JSON_LINES, PARQUET, UnableToReadManifest, read_lines
from contributors.models import Consent

NEEDED = ("factory", "adapter", "purpose", "trained_at")


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model_version", metavar="SERVICE/NAME")
        parser.add_argument("--factory", choices=sorted(known_factories()), help="loads the directory")
        parser.add_argument("--adapter", choices=sorted(known_adapters()), help="the kind of model")
        parser.add_argument("--directory", type=Path, help="the checkpoint; none for a pushed model without features")
        parser.add_argument("--purpose", choices=Consent.Scope.values, help="the use to which the works consent")
        parser.add_argument("--trained-at", type=_moment, metavar="WHEN", help="the end of the training, with offset")
        parser.add_argument("--training-started-at", type=_moment, metavar="WHEN", help="where it is known")
        parser.add_argument("--base-model", default="", help="the model that training began with")
        parser.add_argument("--licence", default="")
        parser.add_argument("--manifest", type=Path, metavar="FILE", help="JSON lines, or Parquet (*.parquet)")
        parser.add_argument("--dry-run", action="store_true", help="check the manifest and store nothing of it")

    def handle(self, *args: Any, **options: Any) -> None:
        service, name = _service(options["model_version"])
        version = ModelVersion.objects.filter(service=service, name=name).first()
        if version is None:
            version = self._register(service, name, options)
        elif any(options[field] is not None for field in NEEDED):
            raise CommandError(f"{service.name} has a model version {name} already; give --manifest alone.")
        if options["manifest"] is not None:
            self._store_manifest(version, options["manifest"], dry_run=options["dry_run"])

    def _register(self, service: ModelService, name: str, options: dict[str, Any]) -> ModelVersion:
        if lacking := [field for field in NEEDED if options[field] is None]:
            named = ", ".join(f"--{field.replace('_', '-')}" for field in lacking)
            raise CommandError(f"{service.name} has no model version {name} yet: its registration needs {named}.")
        try:
            version = model_versions.register_model_version(
                service=service,
                name=name,
                adapter=options["adapter"],
                factory=options["factory"],
                purpose=options["purpose"],
                directory=options["directory"],
                trained_at=options["trained_at"],
                training_started_at=options["training_started_at"],
                base_model=options["base_model"],
                licence=options["licence"],
                at=timezone.now(),
            )
        except model_versions.UnableToRegisterModelVersion as reason:
            raise CommandError(str(reason)) from reason
        self.stdout.write(f"{service.name}/{name} is registered: {version.directory or 'without a checkpoint yet'}.")
        return version

    def _store_manifest(self, version: ModelVersion, path: Path, *, dry_run: bool) -> None:
        media_type = PARQUET if path.suffix == ".parquet" else JSON_LINES
        try:
            with path.open("rb") as stream, read_lines(stream, media_type=media_type) as lines:
                if dry_run:
                    self._show(manifests.check_manifest(model_version=version, lines=lines))
                    return
                manifest = manifests.store_manifest(model_version=version, lines=lines, at=timezone.now())
        except OSError as error:
            raise CommandError(f"The manifest {path} cannot be read: {error.strerror}.") from error
        except (UnableToReadManifest, manifests.UnableToRegisterManifest) as reason:
            raise CommandError(str(reason)) from reason
        self.stdout.write(
            f"Manifest {bytes(manifest.sha256).hex()}: {manifest.n_items} items of {manifest.n_works} works."
        )

    def _show(self, checked: manifests.Checked) -> None:
        self.stdout.write(f"{checked.items} items of {checked.works} works.")
        if checked.would_be_accepted:
            self.stdout.write("It would be accepted.")
            return
        table = Table(title=f"{len(checked.refused)} refused", title_justify="left")
        for heading in ("work", "lines", "reason"):
            table.add_column(heading)
        for refused in checked.refused:
            more = f" and {refused.n_lines - len(refused.lines)} more" if refused.n_lines > len(refused.lines) else ""
            table.add_row(refused.work or refused.reference, f"{_listed(refused.lines)}{more}", refused.detail)
        Console(file=cast(IO[str], self.stdout), width=160).print(table)


def _service(text: str) -> tuple[ModelService, str]:
    service, slash, name = text.partition("/")
    found = ModelService.objects.filter(name=service).first()
    if found is None or not slash:
        known = ", ".join(ModelService.objects.order_by("name").values_list("name", flat=True)) or "none"
        raise CommandError(f"{text!r} must be SERVICE/NAME, with a service of these: {known}.")
    return found, name


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("It needs its offset, as 2026-10-02T17:30:00Z.")
    return found


def _listed(lines: list[int]) -> str:
    return ", ".join(map(str, lines[:10])) + (f", … {lines[-1]}" if len(lines) > 10 else "")
