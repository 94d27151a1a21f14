"""How fast the journal posts with every guarantee, beside the floors that PostgreSQL sets and beside Django's ORM.

    python -m benchmarks.journal [--quick] [--json FILE]

A line is one logical credit or debit. Every path writes the same generations, in one run, on one server, each into
tables of its own; what counts are the ratios. The floors are given their bytes ready made; our path starts from
documents in Python. The database is made for the run and dropped after it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import struct
import subprocess
import sys
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2

ACCOUNTS = 20_000
CREDITS_A_GENERATION = 64
ZIPF = 1.1
GROSS = 50_000_000
BATCHES = (1, 10, 100, 1000)


# --- a database of its own ----------------------------------------------------------------------------------------
@contextlib.contextmanager
def database() -> Iterator[str]:
    """The address of a fresh, migrated database; on the embedded engine where DATABASE_URL is unset."""
    from config import local

    with contextlib.ExitStack() as stack:
        if "DATABASE_URL" not in os.environ:
            root = Path(__file__).resolve().parent.parent / ".cache" / "bench"
            stack.enter_context(local.engine(root, valkey=False))
            os.environ["DATABASE_URL"] = local.database_url(root)
        parts = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
        name = f"bench_{uuid.uuid4().hex[:12]}"
        admin = psycopg2.connect(parts._replace(path="/postgres").geturl())
        admin.autocommit = True
        with admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            try:
                os.environ["DATABASE_URL"] = parts._replace(path=f"/{name}").geturl()
                os.environ.setdefault("DATABASE_IDLE_SECONDS_MAX", "600")
                subprocess.run([sys.executable, "manage.py", "setup_database", "-v", "0"], check=True, timeout=600)
                yield os.environ["DATABASE_URL"]
            finally:
                cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.close()


# --- the workload -------------------------------------------------------------------------------------------------
class Workload:
    """Generations whose credits fall on accounts with Zipf weights: a few authors are in all of them, most in few."""

    def __init__(self, generations: int, account_ids: Sequence[int], seed: int = 1) -> None:
        made = np.random.default_rng(seed)
        ids = np.array(account_ids, dtype=np.int64)
        weights = 1 / np.arange(1, len(ids) + 1) ** ZIPF
        cumulative = np.cumsum(weights / weights.sum())
        self.account_ids, self.amounts = [], []
        for _ in range(generations):
            drawn = np.unique(np.searchsorted(cumulative, made.random(CREDITS_A_GENERATION * 3)))
            made.shuffle(drawn)
            chosen = drawn[:CREDITS_A_GENERATION]
            cuts = np.sort(made.choice(GROSS - 1, len(chosen) - 1, replace=False)) + 1
            self.account_ids.append(ids[chosen])
            self.amounts.append(np.diff(np.concatenate([[0], cuts, [GROSS]])))
        self.generation_ids = [new_generation_id() for _ in range(generations)]

    @property
    def lines(self) -> int:
        """Credits, and one debit a generation."""
        return sum(len(row) for row in self.account_ids) + len(self.account_ids)


def new_generation_id() -> uuid.UUID:
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


_ROW = np.dtype(
    [("fields", ">i2"), ("l1", ">i4"), ("generation", "S16"), ("l2", ">i4"), ("account", ">i8"), ("l3", ">i4"),
     ("amount", ">i8"), ("l4", ">i4"), ("balance", ">i8"), ("l5", ">i4"), ("version", ">i8")]
)  # fmt: skip


def row_streams(work: Workload, source: int, batch: int) -> list[bytes]:
    """The same lines as rows of a row-per-line table, as binary COPY streams of `batch` generations each."""
    streams = []
    for start in range(0, len(work.generation_ids), batch):
        parts = []
        for i in range(start, min(start + batch, len(work.generation_ids))):
            rows = np.zeros(len(work.account_ids[i]) + 1, dtype=_ROW)
            rows["fields"], rows["l1"], rows["l2"], rows["l3"], rows["l4"], rows["l5"] = 5, 16, 8, 8, 8, 8
            rows["account"][:-1], rows["amount"][:-1] = work.account_ids[i], work.amounts[i]
            rows["account"][-1], rows["amount"][-1] = source, -GROSS
            raw = bytearray(rows.tobytes())
            # numpy strips trailing zero bytes of S16: the ids are written in place.
            for at in range(6, len(raw), _ROW.itemsize):
                raw[at : at + 16] = work.generation_ids[i].bytes
            parts.append(bytes(raw))
        header = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
        streams.append(header + b"".join(parts) + struct.pack(">h", -1))
    return streams


# --- the paths ----------------------------------------------------------------------------------------------------
def timed(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def copy_rows(address: str, work: Workload, source: int, *, indexed: bool) -> float:
    session = psycopg2.connect(address)
    table = f"bench_rows_{'indexed' if indexed else 'heap'}"
    with session, session.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {table} (generation_id uuid NOT NULL, account_id bigint NOT NULL, amount bigint NOT NULL,"
            f" balance_after bigint NOT NULL, version bigint NOT NULL"
            f"{', PRIMARY KEY (account_id, generation_id)' if indexed else ''})"
        )
    seconds = 0.0
    for stream in row_streams(work, source, 1000):
        with session, session.cursor() as cursor:
            started = time.perf_counter()
            cursor.copy_expert(f"COPY {table} FROM STDIN WITH (FORMAT binary)", io.BytesIO(stream))
            session.commit()
            seconds += time.perf_counter() - started
    session.close()
    return seconds


def post_documents(work: Workload, source: int, batch: int, name: str) -> list[float]:
    """Our path, every guarantee on: the seconds of each transaction."""
    from django.db import transaction

    from ledger import journal
    from ledger.journal import Document

    seconds = []
    for start in range(0, len(work.generation_ids), batch):
        documents = [
            Document(work.generation_ids[i], 1, 1, source, GROSS, work.account_ids[i], work.amounts[i])
            for i in range(start, min(start + batch, len(work.generation_ids)))
        ]
        started = time.perf_counter()
        with transaction.atomic(durable=True):
            journal.post_accruals(
                idem_key=f"{name}:{start}", effective=today(), earned_period=this_period(), documents=documents
            )
        seconds.append(time.perf_counter() - started)
    return seconds


def today() -> date:
    return datetime.now(UTC).date()


def this_period() -> int:
    return today().year * 100 + today().month


def bulk_create(address: str, work: Workload, source: int, batch: int) -> float:
    """Django's ORM at its best: lines by bulk_create, locked balances by bulk_update, `batch` generations each."""
    from django.db import connection, models, transaction

    class OrmBalance(models.Model):
        id = models.BigIntegerField(primary_key=True)
        posted = models.BigIntegerField()

        class Meta:
            app_label, managed, db_table = "config", False, "bench_orm_balance"

    class OrmLine(models.Model):
        generation_id = models.UUIDField()
        account_id = models.BigIntegerField()
        amount = models.BigIntegerField()

        class Meta:
            app_label, managed, db_table = "config", False, "bench_orm_line"

    session = psycopg2.connect(address)
    with session, session.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bench_orm_balance (id bigint PRIMARY KEY, posted bigint NOT NULL);"
            "INSERT INTO bench_orm_balance SELECT account_id, 0 FROM ledger_balance;"
            "CREATE TABLE bench_orm_line (id bigserial PRIMARY KEY, generation_id uuid NOT NULL,"
            " account_id bigint NOT NULL REFERENCES bench_orm_balance, amount bigint NOT NULL,"
            " UNIQUE (account_id, generation_id));"
            "GRANT ALL ON bench_orm_balance, bench_orm_line, bench_orm_line_id_seq TO tributary_app"
        )
    session.close()
    connection.close()
    started = time.perf_counter()
    for start in range(0, len(work.generation_ids), batch):
        with transaction.atomic(durable=True):
            lines, sums = [], {source: 0}
            for i in range(start, min(start + batch, len(work.generation_ids))):
                pairs = zip(work.account_ids[i].tolist(), work.amounts[i].tolist(), strict=True)
                for account, amount in [*pairs, (source, -GROSS)]:
                    lines.append(OrmLine(generation_id=work.generation_ids[i], account_id=account, amount=amount))
                    sums[account] = sums.get(account, 0) + amount
            balances = list(OrmBalance._default_manager.filter(pk__in=sums).select_for_update().order_by("pk"))
            for balance in balances:
                balance.posted += sums[balance.pk]
            OrmLine._default_manager.bulk_create(lines, batch_size=5000)
            OrmBalance._default_manager.bulk_update(balances, ["posted"], batch_size=2000)
    return time.perf_counter() - started


# --- the run ------------------------------------------------------------------------------------------------------
def open_accounts(n: int) -> tuple[int, list[int]]:
    from django.db import transaction

    from ledger import journal
    from ledger.journal import AccountKey

    with transaction.atomic():
        source = journal.open_accounts([AccountKey("service_unbilled", "USD", "service:1")])[0]
        keys = [AccountKey("contributor_accrued", "USD", f"contributor:{i}") for i in range(1, n + 1)]
        ids = []
        for start in range(0, n, 20_000):
            ids += journal.open_accounts(keys[start : start + 20_000])
    return source, ids


def stored_bytes() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relname ~ '^ledger_(line_|accrual_|entry$)' AND relkind = 'r'"
        )
        return int(cursor.fetchone()[0])


def server_settings() -> dict[str, str]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN"
            " ('server_version', 'fsync', 'synchronous_commit', 'shared_buffers', 'full_page_writes')"
        )
        return dict(cursor.fetchall())


def run(address: str, *, quick: bool) -> dict[str, Any]:
    import django

    django.setup()
    from django.utils import timezone

    from ledger import operations
    from ledger.invariants import OF_THE_JOURNAL, check_all

    operations.open_periods(at=timezone.now())
    source, accounts = open_accounts(ACCOUNTS)
    sizes = dict(zip(BATCHES, (100, 500, 2000, 6000) if quick else (1000, 5000, 20_000, 40_000), strict=True))
    rows: list[dict[str, Any]] = []

    def note(path: str, lines: int, seconds: float, **more: Any) -> None:
        rows.append({"path": path, "lines": lines, "seconds": seconds, "lines_per_second": lines / seconds, **more})
        print(f"  {path}: {lines / seconds:,.0f} lines/s", file=sys.stderr, flush=True)

    largest = Workload(sizes[1000], accounts)
    # Everything is warmed by one batch of each that is not counted.
    post_documents(Workload(1000, accounts, seed=9), source, 1000, "warm")
    note("COPY, row per line, no index", largest.lines, copy_rows(address, largest, source, indexed=False))
    floor_seconds = copy_rows(address, largest, source, indexed=True)
    note("COPY, row per line, one unique index", largest.lines, floor_seconds)
    for batch in BATCHES:
        work = largest if batch == 1000 else Workload(sizes[batch], accounts, seed=batch)
        before = stored_bytes()
        seconds = post_documents(work, source, batch, f"b{batch}")
        note(
            f"Tributary, {batch:,} generation{'s' if batch > 1 else ''} a transaction",
            work.lines, sum(seconds), batch=batch, ms_p50=statistics.median(seconds) * 1000,
            ms_p99=float(np.percentile(seconds, 99)) * 1000, bytes_per_credit=(stored_bytes() - before) / work.lines,
        )  # fmt: skip
    orm = Workload(500 if quick else 2000, accounts, seed=5)
    note("Django bulk_create + bulk_update, 100 a transaction", orm.lines, bulk_create(address, orm, source, 100))
    floor = largest.lines / floor_seconds
    for row in rows:
        row["of_indexed_copy"] = row["lines_per_second"] / floor
    results = check_all(OF_THE_JOURNAL)
    return {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), **server_settings()},
        "workload": {"accounts": ACCOUNTS, "credits_a_generation": CREDITS_A_GENERATION, "zipf": ZIPF},
        "rows": rows,
        "invariants": {result.code: result.seconds for result in results},
        "violated": [result.name for result in results if result.rows],
    }


def show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("path", "lines/s", "of indexed COPY", "p50 ms", "p99 ms", "bytes a credit")
    for row in found["rows"]:
        table.add_row(
            row["path"], f"{row['lines_per_second']:,.0f}", f"{row['of_indexed_copy']:.3f}",
            f"{row['ms_p50']:.1f}" if "ms_p50" in row else "", f"{row['ms_p99']:.1f}" if "ms_p99" in row else "",
            f"{row['bytes_per_credit']:.1f}" if row.get("batch") == 1000 else "",
        )  # fmt: skip
    console = Console()
    console.print(table)
    machine = found["machine"]
    console.print(
        f"PostgreSQL {machine['server_version']}, fsync {machine['fsync']}, {machine['cpus']} CPUs; "
        f"{ACCOUNTS:,} accounts, {CREDITS_A_GENERATION} credits a generation; "
        f"invariants violated: {', '.join(found['violated']) or 'none'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller run, for a look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    with database() as address:
        found = run(address, quick=options.quick)
        from django.db import connection

        connection.close()
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
