"""How long a training manifest takes to be read, checked against consent and stored.

    python -m benchmarks.manifest [--quick] [--json FILE]

A million items of a hundred thousand works by a thousand contributors, as JSON lines and as Parquet, each into a model
version of its own; a dry run of the same; and a dry run in which a thousandth of the works is refused. The database is
made for the run and dropped after it. `read` is the check of each line, `store` everything in the database.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.ledgers.databases import migrated_database

GOAL_SECONDS = 60.0
GOAL_ITEMS = 1_000_000
CONTRIBUTORS, WORKS, ITEMS = 1_000, 100_000, 1_000_000
QUICK = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the sizes; the goal is not judged")
    args = parser.parse_args()
    parts = QUICK if args.quick else 1
    with tempfile.TemporaryDirectory() as data, migrated_database():
        os.environ["TRIBUTARY_DATA"], os.environ["LOG_LEVEL"] = data, "ERROR"
        figures = measure(contributors=CONTRIBUTORS // parts, works=WORKS // parts, items=ITEMS // parts)
    show(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(*, contributors: int, works: int, items: int) -> dict[str, Any]:
    import django

    django.setup()
    from attribution.operations.manifest_lines import JSON_LINES, PARQUET
    from attribution.operations.manifests import check_manifest, store_manifest

    at = datetime.now(UTC)
    names = _programme(contributors, works, at)
    as_json, as_parquet = _files(names, items)
    figures: dict[str, Any] = {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "contributors": contributors,
        "works": works,
        "items": items,
        "json_bytes": as_json.stat().st_size,
        "parquet_bytes": as_parquet.stat().st_size,
    }

    def store(version: Any, lines: Any) -> bool:
        return bool(store_manifest(model_version=version, lines=lines, at=at).n_items == items)

    def accepted(version: Any, lines: Any) -> bool:
        return check_manifest(model_version=version, lines=lines).would_be_accepted

    def refused(version: Any, lines: Any) -> bool:
        return len(check_manifest(model_version=version, lines=lines).refused) == max(works // 1_000, 1)

    figures["json"] = _timed(as_json, JSON_LINES, _version("json", at), store)
    figures["parquet"] = _timed(as_parquet, PARQUET, _version("parquet", at), store)
    figures["dry_run"] = _timed(as_json, JSON_LINES, _version("dry", at), accepted)
    _refuse(names[: max(works // 1_000, 1)], at)
    figures["dry_run_refused"] = _timed(as_json, JSON_LINES, _version("refused", at + timedelta(seconds=2)), refused)
    slowest = max(figures["json"]["seconds"], figures["parquet"]["seconds"])
    figures["goals"] = {"manifest_of_a_million_seconds": slowest <= GOAL_SECONDS} if items >= GOAL_ITEMS else {}
    return figures


def _timed(path: Path, media_type: str, version: Any, act: Callable[[Any, Any], bool]) -> dict[str, float]:
    from attribution.operations.manifest_lines import read_lines

    started = time.perf_counter()
    with path.open("rb") as stream, read_lines(stream, media_type=media_type) as lines:
        read = time.perf_counter() - started
        assert act(version, lines), path
    seconds = time.perf_counter() - started
    return {"read": round(read, 2), "store": round(seconds - read, 2), "seconds": round(seconds, 2)}


def _programme(contributors: int, works: int, at: datetime) -> list[str]:
    """Write contributors with a permission for all their works, in bulk; returns the ids of the works."""
    from django.db import transaction

    from contributors.models import PPB, Consent, Contributor, Dataset, Holder, Split, Work

    since = at - timedelta(days=90)
    people = Contributor.objects.bulk_create(
        [
            Contributor(
                kind="person", legal_name=f"Author {n}", display_name=f"Author {n}", country="US", created_at=since
            )
            for n in range(contributors)
        ],
        batch_size=5_000,
    )
    with transaction.atomic():
        holders = Holder.objects.bulk_create(
            Holder(label=str(person), created_by=person, is_default=True, created_at=since) for person in people
        )
        Split.objects.bulk_create(
            Split(holder=holder, contributor=person, ppb=PPB, effective_from=since)
            for holder, person in zip(holders, people, strict=True)
        )
    datasets = Dataset.objects.bulk_create(
        Dataset(contributor=person, name="All", licence="own", created_at=since) for person in people
    )
    Consent.objects.bulk_create(
        Consent(
            contributor=person,
            scope="train_generative",
            value="allow",
            valid_from=since,
            recorded_at=since,
            source="benchmark",
            evidence_sha256=bytes(32),
        )
        for person in people
    )
    made = Work.objects.bulk_create(
        [
            Work(
                dataset=datasets[n % contributors],
                holder=holders[n % contributors],
                title=f"Work {n}",
                modality="text",
                sha256=hashlib.sha256(str(n).encode()).digest(),
                size_bytes=1,
                created_at=since,
            )
            for n in range(works)
        ],
        batch_size=5_000,
    )
    return [str(work.public_id) for work in made]


def _files(names: list[str], items: int) -> tuple[Path, Path]:
    import pyarrow
    import pyarrow.parquet
    from django.conf import settings

    folder = Path(settings.TRIBUTARY_DATA)
    per_work = items // len(names)
    rows = {
        "work": [names[n // per_work] for n in range(items)],
        "token_start": [512 * (n % per_work) for n in range(items)],
        "token_end": [512 * (n % per_work + 1) for n in range(items)],
    }
    with (folder / "m.jsonl").open("w") as written:
        for work, start, end in zip(*rows.values(), strict=True):
            written.write(f'{{"work": "{work}", "token_start": {start}, "token_end": {end}}}\n')
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "m.parquet")
    return folder / "m.jsonl", folder / "m.parquet"


def _version(name: str, at: datetime) -> Any:
    from attribution.models import ModelService
    from attribution.operations.model_versions import register_model_version

    service, _ = ModelService.objects.get_or_create(name="benchmark", defaults={"created_at": at})
    return register_model_version(
        service=service,
        name=name,
        adapter="pushed",
        factory="pushed",
        purpose="train_generative",
        trained_at=at,
        at=at,
    )


def _refuse(names: list[str], at: datetime) -> None:
    from contributors.models import Consent, Work

    later = at + timedelta(seconds=1)
    Consent.objects.bulk_create(
        Consent(
            contributor=work.dataset.contributor,
            work=work,
            scope="train_generative",
            value="deny",
            valid_from=later,
            recorded_at=later,
            source="benchmark",
            evidence_sha256=uuid.uuid4().bytes * 2,
        )
        for work in Work.objects.filter(public_id__in=names).select_related("dataset__contributor")
    )


def show(figures: dict[str, Any]) -> None:
    print(
        f"{figures['items']:,} items of {figures['works']:,} works by {figures['contributors']:,} contributors; "
        f"{figures['cores']} cores, load {figures['load']:.1f}"
    )
    for name in ("json", "parquet", "dry_run", "dry_run_refused"):
        row = figures[name]
        print(
            f"{name:<16} read {row['read']:>7.2f} s   database {row['store']:>7.2f} s   in all {row['seconds']:>7.2f} s"
        )
    for goal, met in figures["goals"].items():
        print(f"{goal}: goal {GOAL_SECONDS:.0f} s, {'met' if met else 'NOT MET'}")
    if not figures["goals"]:
        print("The goal is judged at a million items.")


if __name__ == "__main__":
    main()
