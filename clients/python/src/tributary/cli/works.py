"""`tributary works pull|import`."""

from __future__ import annotations

import argparse

from tributary.cli.output import DONE, REFUSED, Output
from tributary.client import Tributary
from tributary.works import works_of


def pull(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Fetch the works with consent to a use."""
    pulled = client.works.pull(
        options.folder,
        purpose=options.purpose,
        at=options.at,
        modality=options.modality,
        on_progress=output.progress,
    )
    lines = [f"{pulled.fetched} fetched, {pulled.kept} there already, into {options.folder}."]
    lines += [f"  {row['work']} “{row['title']}”: {row['detail']}" for row in pulled.refused]
    document = {"fetched": pulled.fetched, "kept": pulled.kept, "refused": pulled.refused, "folder": options.folder}
    output.result(document, *lines)
    return REFUSED if pulled.refused else DONE


def register(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Register the files of a folder, or of a list, under a mandate."""
    works = works_of(options.source, modality=options.modality)
    kept = options.registered or f"{str(options.source).rstrip('/')}.registered.jsonl"
    made = list(
        client.works.register(
            works,
            mandate=options.mandate,
            dataset=options.dataset,
            registered=kept,
            on_progress=output.progress,
        )
    )
    lines = [f"{len(made)} registered, {len(works) - len(made)} registered before; the ids stand in {kept}."]
    output.result({"registered": made, "before": len(works) - len(made), "file": kept}, *lines)
    return DONE
