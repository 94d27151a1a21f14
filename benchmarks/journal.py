"""How fast the journal posts with every guarantee, beside PostgreSQL's floors and other ledgers of its kind.

    python -m benchmarks.journal [--quick] [--json FILE]

A line is one logical credit or debit. Every path writes the same generations, in one run, on one server with the same
settings, each into tables of its own; the other ledgers (requirements-bench.txt) in a database and a process of their
own, by their quickest interface. Ratios are the result. The floors are given their bytes ready made and keep no
guarantee; the others keep no running balance; ours starts from numbers in Python and keeps everything. Each database
is made for the run and dropped after it. Below the table stand the goals, met or not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.ledgers import floors, tributary
from benchmarks.ledgers.databases import ROOT, database, migrate, server
from benchmarks.ledgers.goals import judged
from benchmarks.ledgers.workload import CREDITS_A_GENERATION, ZIPF, Meter, Workload

ACCOUNTS = 20_000
PEERS = {"hordak": ("hordak", "django-hordak"), "django_ledger": ("django_ledger", "django-ledger")}
ABSENT = "pgledger is not published on PyPI, npm or Debian: it was not measured."


@dataclass(frozen=True, slots=True)
class Sizes:
    """Generations by batch of ours, of the peers, of the ORM, and how much stands in the books before they are read."""

    ours: dict[int, int]
    peers: dict[str, dict[int, int]]
    orm: int
    more_accounts: dict[int, int]
    credits_read: int


FULL = Sizes(
    ours={1: 1000, 10: 5000, 100: 20_000, 1000: 40_000},
    peers={"hordak": {1: 200, 100: 800, 1000: 1000}, "django_ledger": {1: 100, 100: 300}},
    orm=2000,
    more_accounts={200_000: 10_000, 1_000_000: 10_000},
    credits_read=10_000_000,
)
QUICK = Sizes(
    ours={1: 200, 10: 500, 100: 2000, 1000: 4000},
    peers={"hordak": {1: 30, 100: 100}, "django_ledger": {1: 20, 100: 100}},
    orm=300,
    more_accounts={200_000: 2000},
    credits_read=0,
)


# --- the run ------------------------------------------------------------------------------------------------------
class Run:
    def __init__(self, address: str, sizes: Sizes) -> None:
        self.address, self.sizes = address, sizes
        self.rows: list[dict[str, Any]] = []
        self.found: dict[str, Any] = {}

    def note(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        print(f"  {row['path']}: {row['lines_per_second']:,.0f} lines/s", file=sys.stderr, flush=True)

    def floors(self, work: Workload, accounts: Any, source: int) -> None:
        for indexed in (False, True):
            meter = floors.copy_rows(self.address, work, accounts, source, indexed=indexed)
            word, peer = ("one unique index", "copy_indexed") if indexed else ("no index", "copy_heap")
            self.note(meter.row(f"COPY, row per line, {word}", work.lines, peer=peer, batch=floors.COPY_BATCH))
        self.found["bytes_a_row"] = floors.table_bytes(self.address, "bench_rows_indexed") / work.lines

    def ours(self, work: Workload, accounts: Any, source: int, batch: int, name: str = "") -> Meter:
        meter = tributary.post_documents(work, accounts, source, batch, f"{name}{batch}:{len(accounts)}")
        plural = "s" if batch > 1 else ""
        many = "" if len(accounts) == ACCOUNTS else f", {len(accounts):,} accounts"
        path = f"Tributary, {batch:,} generation{plural} a commit{many}"
        self.note(meter.row(path, work.lines, peer="tributary", batch=batch, accounts=len(accounts)))
        return meter

    def tributary(self) -> None:
        """Everything that is measured on our own database, with the floors in tables beside ours."""
        source, accounts = tributary.open_accounts(ACCOUNTS)
        largest = Workload.drawn(self.sizes.ours[1000], ACCOUNTS)
        # Everything is warmed by a batch that is not counted.
        tributary.post_documents(Workload.drawn(1000, ACCOUNTS, 9), accounts, source, 1000, "warm")
        self.floors(largest, accounts, source)
        for batch, generations in self.sizes.ours.items():
            before = tributary.stored_bytes()
            work = largest if batch == 1000 else Workload.drawn(generations, ACCOUNTS, batch)
            meter = self.ours(work, accounts, source, batch)
            if batch == 1000:
                self.found["bytes_a_credit"] = (tributary.stored_bytes() - before) / work.credits
                self.found["apportionment"] = apportioned = tributary.apportionment(work)
                apportioned["of_posting"] = apportioned["cpu_seconds_a_share"] * work.credits / meter.cpu_seconds
        posted = 65 * (1000 + sum(self.sizes.ours.values()))
        if missing := max(0, self.sizes.credits_read - posted) // CREDITS_A_GENERATION:
            for start in range(0, missing, 20_000):
                work = Workload.drawn(min(20_000, missing - start), ACCOUNTS, 100 + start)
                tributary.post_documents(work, accounts, source, 1000, f"more{start}")
        self.read(accounts)
        for many, generations in self.sizes.more_accounts.items():
            source, opened = tributary.open_accounts(many, word=f"of{many}x")
            tributary.settle_disk()
            self.ours(Workload.drawn(generations, many, many), opened, source, 1000)
        orm = Workload.drawn(self.sizes.orm, ACCOUNTS, 5)
        for batch, part in ((1, orm.part(0, len(orm) // 10)), (100, orm)):
            meter = floors.bulk_create(self.address, part, ACCOUNTS, batch)
            path = f"Django bulk_create + bulk_update, {batch} a commit"
            self.note(meter.row(path, part.lines, peer="orm", batch=batch))

    def read(self, accounts: Any) -> None:
        tributary.settle_disk()
        from ledger.models import Entry

        self.found["reads"] = tributary.reads(ACCOUNTS, 500)
        seconds, violated = tributary.proofs()
        self.found["export"] = exported = tributary.export(accounts)
        self.found["proof_seconds"], self.found["violated"] = seconds, violated
        self.found["entries"], self.found["credits"] = Entry.objects.count(), exported["credits"]
        self.found["full_proof_seconds"] = sum(seconds[code] for code in tributary.FULL_PROOF)
        self.found["chain_credits_per_second_alone"] = exported["credits"] / sum(seconds[c] for c in tributary.CHAIN)
        self.found["chain_credits_per_second"] = exported["credits"] / tributary.chain_seconds()

    def peer(self, name: str, sizes: dict[int, int]) -> None:
        module, package = PEERS[name]
        if util.find_spec(module) is None:
            sys.exit(f"{package} is not installed: pip install -r requirements-bench.txt (`make bench` does).")
        with tempfile.TemporaryDirectory() as directory, database(self.address) as address:
            stored = Path(directory) / "workload.npz"
            Workload.drawn(sum(sizes.values()), ACCOUNTS, 7).save(stored)
            command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.ledgers.{name}", address, str(stored),
                       str(ACCOUNTS), *(f"{batch}:{generations}" for batch, generations in sizes.items())]  # fmt: skip
            environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600)
        if done.returncode:
            sys.exit(f"{package} failed:\n{done.stderr[-3000:]}")
        for row in json.loads(done.stdout):
            self.note(row)


def server_settings(address: str) -> dict[str, str]:
    session = psycopg2.connect(address)
    with session, session.cursor() as cursor:
        cursor.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN ('server_version', 'fsync', 'synchronous_commit',"
            " 'shared_buffers', 'full_page_writes', 'max_wal_size')"
        )
        found = dict(cursor.fetchall())
    session.close()
    return found


def run(address: str, *, quick: bool) -> dict[str, Any]:
    started = time.monotonic()
    with database(address) as own:
        migrate(own)
        import django

        django.setup()
        from django.db import connection
        from django.utils import timezone

        from ledger.operations import periods

        periods.open_periods(at=timezone.now())
        made = Run(own, QUICK if quick else FULL)
        settings = server_settings(own)
        made.tributary()
        connection.close()
    made.address = address
    for name, sizes in made.sizes.peers.items():
        made.peer(name, sizes)
    (floor,) = [row["lines_per_second"] for row in made.rows if row["peer"] == "copy_indexed"]
    for row in made.rows:
        row["of_indexed_copy"] = row["lines_per_second"] / floor
    found = {
        "machine": {
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            **settings,
        },
        "packages": {package: metadata.version(package) for _, package in PEERS.values()},
        "workload": {"accounts": ACCOUNTS, "credits_a_generation": CREDITS_A_GENERATION, "zipf": ZIPF},
        "seconds": time.monotonic() - started,
        "rows": made.rows,
        "absent": [ABSENT],
        **made.found,
    }
    return {**found, "goals": judged(found)}


# --- what is shown ------------------------------------------------------------------------------------------------
def show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table("path", title="Lines a second (a line is one credit or debit)")
    for name in ("lines/s", "of indexed COPY", "lines a CPU s", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for row in found["rows"]:
        table.add_row(
            row["path"],
            f"{row['lines_per_second']:,.0f}",
            f"{row['of_indexed_copy']:.3f}",
            f"{row['lines'] / row['cpu_seconds']:,.0f}" if row["cpu_seconds"] else "",
            f"{row['ms_p50']:.1f}",
            f"{row['ms_p99']:.1f}",
        )
    console.print(table)
    goals = Table("goal", "what", "target", "measured", "", title="Goals")
    for goal in found["goals"]:
        verdict = {True: "met", False: "NOT MET", None: "not measured"}[goal["met"]]
        goals.add_row(goal["goal"], goal["what"], goal["target"], goal["measured"], verdict)
    console.print(goals)
    for line in found["absent"]:
        console.print(line)
    machine = found["machine"]
    console.print(
        f"PostgreSQL {machine['server_version']}, fsync {machine['fsync']}, synchronous_commit"
        f" {machine['synchronous_commit']}, the same for all; {machine['cpus']} CPUs, load {machine['load']:.1f};"
        f" {ACCOUNTS:,} accounts, {CREDITS_A_GENERATION} credits a generation; read and proved at"
        f" {found['credits']:,} credits; {found['seconds']:.0f} s;"
        f" invariants violated: {', '.join(found['violated']) or 'none'}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller run, for a look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    with server() as address:
        found = run(address, quick=options.quick)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
