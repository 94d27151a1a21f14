"""Audit an index against retrained models, or choose its configuration first. Killed, it goes on where it stopped."""

from __future__ import annotations

import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from attribution.models import AttributionIndex
from attribution.operations import choices, manifest_items
from attribution.operations.factories import UnableToLoadModel
from attribution.operations.indexes import AUDIT_GENERATIONS, UnableToAuditIndex, audit_index
from attribution.queries.indexes import audit_rows, paid_rows
from influence.index.artefacts import UnableToOpenIndex

REFUSALS = (
    UnableToAuditIndex,
    manifest_items.UnableToBuild,
    UnableToLoadModel,
    UnableToOpenIndex,
)


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("index", help="the id of an index, or the name of a model version: its index that serves")
        parser.add_argument("--coalitions", type=int, default=16, help="how many models are retrained (default 16)")
        parser.add_argument("--generations", type=int, default=AUDIT_GENERATIONS)
        parser.add_argument("--processes", type=int, default=2, help="how many at a time")
        parser.add_argument("--device", help="computes gradients: cpu, cuda or cuda:N (default: ATTRIBUTION_DEVICE)")
        parser.add_argument("--no-controls", action="store_true", help="train no model with noise and a copier in it")
        parser.add_argument(
            "--choose",
            action="store_true",
            help="first retrain as many other coalitions, on which damping and weight of the wording are chosen",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        from influence.evaluation.lds import UnableToAudit

        console = Console()
        index = _find(options["index"])
        sizes = {name: options[name] for name in ("coalitions", "generations", "processes", "device")}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=console) as bar:
                task = bar.add_task("opening", total=None)

                def progress(stage: str, done: int, total: int) -> None:
                    bar.update(task, description=stage, completed=done, total=total)

                if options["choose"]:
                    index, tried = choices.choose_index(index=index, at=timezone.now(), progress=progress, **sizes)
                index = audit_index(
                    index=index, at=timezone.now(), controls=not options["no_controls"], progress=progress, **sizes
                )
        except (*REFUSALS, UnableToAudit) as reason:
            raise CommandError(str(reason)) from None
        if options["choose"]:
            console.print(_choice(tried))
        console.print(_report(index))
        self._conclude(console, index)

    def _conclude(self, console: Console, index: AttributionIndex) -> None:
        report = index.audit or {}
        controls = report.get("controls")
        if controls:
            console.print(
                f"Planted controls: random tokens, {controls['noise_items']:.1%} of the items, would get "
                f"{controls['noise']:.1%}, and {controls['noise_split']:.1%} with an account an item; an exact copier "
                f"{controls['copier']:.1%} and {controls['copier_split']:.1%}, the copied contributor "
                f"{controls['copied']:.1%}."
            )
        if index.state == "audited":
            console.print(f"Passed: {index.weight_ppb / 1e7:.1f} % of each pool goes by attribution.")
        else:
            console.print("Failed: nothing goes by attribution; the whole pool follows the plan's base rule.")


def _find(told: str) -> AttributionIndex:
    indexes = AttributionIndex.objects.select_related("model_version")
    try:
        found = indexes.filter(public_id=uuid.UUID(told)).first()
    except ValueError:
        found = indexes.filter(model_version__name=told, serving=True).order_by("-pk").first()
    if found is None:
        names = ", ".join(sorted(indexes.filter(serving=True).values_list("model_version__name", flat=True)))
        raise CommandError(f"There is no index {told!r}. Model versions with an index that serves: {names or 'none'}.")
    return found


def _report(index: AttributionIndex) -> Table:
    report = index.audit or {}
    table = Table(title=f"{index} against {report['coalitions']} retrained models", title_justify="left")
    for title in ("queries", "predictor", "LDS", "5 % to 95 %"):
        table.add_column(title)
    for row in audit_rows(index):
        table.add_row(row.queries, row.predictor, f"{row.lds:.3f}", f"{row.low:.3f} to {row.high:.3f}")
    for paid in paid_rows(index):
        words = f"paid: {paid.rule[0].lower()}{paid.rule[1:]}"
        table.add_row(paid.queries, words, f"{paid.lds:.3f}", f"{paid.low:.3f} to {paid.high:.3f}")
    return table


def _choice(tried: dict[str, float]) -> Table:
    table = Table(title="Tried on other coalitions: specific part of own generations", title_justify="left")
    table.add_column("configuration")
    table.add_column("LDS")
    for name, found in sorted(tried.items(), key=lambda pair: -pair[1]):
        table.add_row(name, f"{found:.3f}")
    return table
