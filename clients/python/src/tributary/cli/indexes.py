"""`tributary index build|watch|evaluate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tributary.cli.models import config_of
from tributary.cli.output import DONE, REFUSED, Output
from tributary.client import Tributary
from tributary.errors import InvalidInput


def build(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Queue the build of an index, and wait for it with --wait."""
    config = config_of(options.config)
    index = client.indexes.build(options.name, attributor=options.attributor, left_out=options.left_out, config=config)
    if options.wait:
        output.note(f"The index {index['id']} is being built.")
        index = client.indexes.wait(index["id"], timeout_seconds=options.timeout, on_progress=output.progress)
    output.result(index, *_lines(index))
    return DONE


def watch(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Wait until an index is built, or evaluated with --evaluated."""
    index = client.indexes.wait(
        options.index, is_evaluated=options.evaluated, timeout_seconds=options.timeout, on_progress=output.progress
    )
    output.result(index, *_lines(index))
    return _judged(index) if options.evaluated else DONE


def evaluate(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Queue the evaluation of an index, or hand over a report; wait for the result with --wait."""
    report = None if options.report is None else _report_of(options.report)
    index = client.indexes.evaluate(options.index, report=report)
    if options.wait and report is None:
        index = client.indexes.wait(
            options.index, is_evaluated=True, timeout_seconds=options.timeout, on_progress=output.progress
        )
    output.result(index, *_lines(index))
    return _judged(index)


def _judged(index: dict[str, Any]) -> int:
    """Return the exit code: an index that failed its evaluation is a refusal."""
    return REFUSED if (index.get("evaluation") or {}).get("passed") is False else DONE


def _report_of(path: str) -> dict[str, Any]:
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", field="--report") from None
    if not isinstance(report, dict):
        raise InvalidInput(f"{path} holds no object", field="--report")
    return report


def _lines(index: dict[str, Any]) -> list[str]:
    lines = [f"Index {index['id']} of {index['model_version']} is {index['state']}."]
    evaluation = index.get("evaluation")
    if evaluation:
        lines.append(
            f"Agreement with retrained models (LDS) {evaluation['lds']:.3f}, lower bound {evaluation['lower']:.3f}, "
            f"weight {evaluation['weight']:.3f}."
        )
    if index.get("reason"):
        lines.append(str(index["reason"]))
    return lines
