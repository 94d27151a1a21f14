"""The index at scale: the costs of a query, a scan, a build and a worker, beside the cost of the memory alone.

    python -m benchmarks.index [--quick] [--json FILE]

Every part runs in a process of its own, with one torch thread, and states its peak of memory. Ratios are the result:
to reading the same bytes once, to a tenth of the works, to a tenth of the items. The worker's part attributes sampled
generations of the demo's model through the product's own operation, against a PostgreSQL of its own. Below the tables
stand the goals, met or not; figures of a busy machine are worth their ratios only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.index import builds, goals, scores, worker
from benchmarks.index.measures import alone, peak_rss

PARTS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "query": scores.query,
    "scan": scores.scan,
    "changes": scores.changes,
    "build": builds.build,
    "holders": builds.holders,
    "worker": worker.worker,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of every size")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--part", nargs=2, metavar=("NAME", "SIZES"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        name, sizes = args.part
        found = PARTS[name](**json.loads(sizes))
        print(json.dumps({**found, "peak_rss_mib": round(peak_rss() / 2**20)}))
        return
    figures = {"machine": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()[0], "quick": args.quick}
    figures |= measure(args.only, 10 if args.quick else 1)
    goals.show(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(only: Sequence[str], smaller: int) -> dict[str, Any]:
    sizes: dict[str, list[dict[str, int]]] = {
        "query": [{"holders": 10_000, "items": items, "k": 512} for items in (20_000, 200_000 // min(smaller, 4))],
        "scan": [{"items": 1_000_000 // smaller, "k": 512}],
        "changes": [{"items": 20_000, "holders": 100, "k": 512}],
        "build": [{"items": items // smaller, "holders": items // smaller // 20} for items in (20_000, 200_000)],
        "holders": [{"items": 200_000 // smaller, "holders": 100_000 // smaller}],
        "worker": [{"generations": 1_024 // smaller, "authors": 8 if smaller == 1 else 3}],
    }
    return {name: [alone(name, wanted) for wanted in sizes[name]] for name in only}


if __name__ == "__main__":
    main()
