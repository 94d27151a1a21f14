"""Run every invariant of the books by name; exit with 1 when one is violated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ledger.queries.invariants import Result, check_all


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--only", nargs="+", metavar="I1", help="check these invariants only")
        parser.add_argument("--connections", type=int, default=1, metavar="N", help="run N checks at once (1)")
        parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings to FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        results = check_all(options["only"], connections=options["connections"])
        width = max(len(result.sentence) for result in results)
        for result in results:
            verdict = self.style.ERROR("VIOLATED") if result.rows else self.style.SUCCESS("holds")
            self.stdout.write(f"{result.code:<4} {result.sentence:<{width}}  {result.seconds:7.2f} s  {verdict}")
            for row in result.rows:
                self.stdout.write("       " + "  ".join(f"{name}={value}" for name, value in row.items()))
        violated = [result for result in results if result.rows]
        self.stdout.write(f"{len(results)} invariants checked, {len(violated)} violated.")
        if options["json"]:
            options["json"].write_text(json.dumps([_as_json(result) for result in results], indent=1))
        if violated:
            raise SystemExit(1)


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "code": result.code,
        "invariant": result.sentence,
        "seconds": round(result.seconds, 3),
        "holds": not result.rows,
        "rows": [{name: str(value) for name, value in row.items()} for row in result.rows],
    }
