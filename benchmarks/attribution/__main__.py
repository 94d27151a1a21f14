"""Attribution beside the best libraries, against models retrained for the purpose.

    python -m benchmarks.attribution [--quick] [--json FILE] [--only text|digits]

Ground truth (models retrained on coalitions of contributors) is kept under .cache/bench/attribution, or under
TRIBUTARY_BENCH_CACHE; a run that was cut off goes on, and a later one takes minutes. Seconds are CPU seconds of one
thread, so that another process on the machine changes them little.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.attribution import digits_run, goals, text_run

LIBRARIES = ("trak", "dattri", "kronfluence", "sklearn")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="fewer coalitions, one seed, the slow libraries left out")
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument("--only", choices=("text", "digits"))
    options.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that retrain at the same time")
    given = options.parse_args()
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"{', '.join(missing)}: not installed. `make bench-install` brings the libraries to compare with.")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    cache = Path(os.environ.get("TRIBUTARY_BENCH_CACHE", ".cache/bench")) / "attribution"
    cache.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 170)
    started = time.monotonic()
    found: dict[str, Any] = {"quick": given.quick, "machine": _machine()}
    with console.status("") as status:

        def progress(stage: str, done: int, total: int) -> None:
            status.update(f"{stage} {done} of {total}")

        # First: after the other parts the same scan took longer beside the same read.
        if given.only is None or given.only == "text":
            status.update("speed")
            found["speed"] = goals.speed()
        for name, setting in (("digits", digits_run), ("text", text_run)):
            if given.only in (None, name):
                found[name] = setting.run(cache, quick=given.quick, processes=given.processes, progress=progress)
    found["seconds"] = round(time.monotonic() - started, 1)
    if "digits" in found:
        about = found["digits"]
        console.print(
            _table(
                f"Digits: {about['coalitions']} coalitions of 10 contributors retrained with {about['seeds']} seed(s); "
                f"the noise contributor's true share is {about['noise_of_truth']:.3f}",
                about["methods"],
                goals.DIGITS_COLUMNS,
            )
        )
    if "text" in found:
        about = found["text"]
        console.print(
            _table(
                f"Text: {about['parameters']:,} parameters, {about['items']:,} items, 20 contributors; "
                f"{about['coalitions']['reported_on']} retrained coalitions that chose nothing; "
                f"held-out / own generations",
                about["methods"],
                goals.TEXT_COLUMNS,
            )
        )
    found["goals"] = goals.judge(found)
    console.print(_goals(found["goals"]))
    console.print(f"{found['seconds']:.0f} s; {found['machine']}")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))


def _table(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[goals.Column]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for column in columns:
        table.add_column(column.title, justify="right")
    for row in rows:
        name = f"[bold]{row['method']}[/bold]" if row["kind"] == "ours" else row["method"]
        table.add_row(name, *(column.cell(row) for column in columns))
    return table


def _goals(judged: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Goals", title_justify="left")
    for title in ("", "goal", "target", "measured", "met"):
        table.add_column(title)
    for row in judged:
        table.add_row(row["name"], row["goal"], row["target"], row["measured"], row["met"])
    return table


def _machine() -> str:
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{platform.machine()}, {os.cpu_count()} cores, load {load}, torch {torch.__version__}, one thread"


if __name__ == "__main__":
    main()
