"""How many reports the web takes a second, beside COPY of the same rows.

    python -m benchmarks.ingest [--quick] [--json FILE]

Two real web workers behind real sockets, real PostgreSQL (fsync on) and a real broker; batches of 1,000 generations
with a text of 500 bytes; four connections. Every answer is read and must say 201 a thousand times. Then COPY stores the
same rows in the same run, on one connection, in transactions of as many rows, into tables like that of the generations:
without an index, and with its indexes and checks (but neither foreign keys nor triggers). It gets its bytes ready made.

Besides the clock the benchmark counts processor time of the web, the database's processes and the client. On a machine
with other work, the goals are also told by that: as if two cores had nothing else to do.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import platform
import random
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
from rich.console import Console
from rich.table import Table

from benchmarks.ledgers.databases import ROOT, database, migrate
from benchmarks.ledgers.workload import cpu_of

BATCH, TEXT_BYTES, CONNECTIONS, WORKERS, CORES = 1_000, 500, 4, 2, 2
FULL, QUICK = 200_000, 40_000
WARM = 8
GOAL_RATIO, GOAL_PER_SECOND = 0.3, 5_000
PORT = 18_470
SENTENCE = "It has pleased Almighty God to bless us with the return of peace and with abundant harvests"


# --- the installation -------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def installation() -> Iterator[tuple[str, str]]:
    """Give the addresses of a fresh, migrated database and of a broker, both of the embedded engine by default."""
    from config.engine import servers

    root = ROOT / ".cache" / "bench_ingest"
    needs_postgres, needs_valkey = "DATABASE_URL" not in os.environ, "BROKER_URL" not in os.environ
    with servers.engine(root, postgres=needs_postgres, valkey=needs_valkey):
        broker = os.environ.setdefault("BROKER_URL", servers.broker_url(root))
        address = os.environ.get("DATABASE_URL", servers.database_url(root))
        with database(address) as own:
            migrate(own)
            yield own, broker


def register() -> str:
    """Register a service with a model version that takes reports; return its key."""
    import django

    django.setup()
    from attribution.models import ModelVersion
    from attribution.operations import model_services

    at = datetime.now(UTC)
    service = model_services.register_service(name="bench", at=at)
    _, key = model_services.issue_key(service=service, scopes=["generations:write"], at=at)
    # Nothing is attributed here: the manifest and the files of a model would only take time.
    ModelVersion.objects.create(
        service=service,
        name="bench-1",
        adapter="causal_lm",
        factory="demo",
        purpose="train_generative",
        checkpoint_sha256=bytes(32),
        trained_at=at,
        state=ModelVersion.State.REGISTERED,
        created_at=at,
    )
    ModelVersion.objects.update(state=ModelVersion.State.READY)
    return key


def bodies(count: int) -> list[bytes]:
    rng, words = random.Random(7), SENTENCE.split()
    moment = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()

    def generation() -> dict[str, Any]:
        text = " ".join(rng.choices(words, k=TEXT_BYTES // 3))[:TEXT_BYTES]
        assert len(text) == TEXT_BYTES, "The text has its size."
        return {
            "external_id": str(uuid.UUID(int=rng.getrandbits(128))),
            "model_version": "bench-1",
            "occurred_at": moment,
            "prompt": {"text": "Fellow citizens"},
            "output": {"text": text},
        }

    return [json.dumps({"generations": [generation() for _ in range(BATCH)]}).encode() for _ in range(count)]


# --- reports ----------------------------------------------------------------------------------------------------------
def send(key: str, batches: Sequence[bytes]) -> list[float]:
    """Send every batch over four connections; return the seconds of each request. Every report must be new."""
    waiting = list(reversed(batches))
    seconds: list[float] = []
    failed: list[bytes] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        while not failed:
            try:
                body = waiting.pop()
            except IndexError:
                break
            started = time.perf_counter()
            connection.request("POST", "/api/v1/generations", body, headers)
            answer = connection.getresponse()
            read = answer.read()
            seconds.append(time.perf_counter() - started)
            if answer.status != 207 or read.count(b'"status":201') != BATCH:
                failed.append(read[:500])
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(f"A batch was not taken whole: {failed[0]!r}")
    return seconds


def measure(key: str, count: int, pids: Sequence[int], postmaster: int) -> dict[str, Any]:
    batches = bodies(count // BATCH + WARM)
    send(key, batches[:WARM])
    before, started = _cpu(pids, postmaster), time.perf_counter()
    seconds = send(key, batches[WARM:])
    wall = time.perf_counter() - started
    cpu = {name: after - before[name] for name, after in _cpu(pids, postmaster).items()}
    ordered = sorted(seconds)
    return {
        "reports": count,
        "seconds": wall,
        "per_second": count / wall,
        "cpu_seconds": cpu,
        "per_second_of_two_idle_cores": CORES * count / sum(cpu.values()),
        "batch_ms_p50": 1000 * ordered[len(ordered) // 2],
        "batch_ms_p99": 1000 * ordered[int(len(ordered) * 0.99)],
    }


def _cpu(pids: Sequence[int], postmaster: int) -> dict[str, float]:
    return {
        "web": sum(cpu_of(pid) for root in pids for pid in _tree(root)),
        "database": sum(cpu_of(pid) for pid in _tree(postmaster)),
        "client": time.process_time(),
    }


def _tree(root: int) -> list[int]:
    """List a process and all below it; nothing for one on another machine."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found, added = {root} & set(parents), True
    while added:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        added, found = bool(more), found | more
    return sorted(found)


# --- COPY -------------------------------------------------------------------------------------------------------------
def copy(address: str, count: int) -> dict[str, dict[str, float]]:
    """Store the reported rows by COPY, into a bare table and into one with the indexes and checks of generations."""
    kinds = {"bare": "", "indexed": "INCLUDING ALL"}
    with contextlib.closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
        parts = []
        for start in range(0, count, BATCH):
            held = io.StringIO()
            rows = f"SELECT * FROM attribution_generation ORDER BY id OFFSET {start} LIMIT {BATCH}"
            cursor.copy_expert(f"COPY ({rows}) TO STDOUT", held)
            parts.append(held.getvalue())
        found = {}
        for name, including in kinds.items():
            cursor.execute(f"CREATE TABLE copied_{name} (LIKE attribution_generation {including})")
            connection.commit()
            backend = connection.info.backend_pid
            cpu, started = cpu_of(backend) + time.process_time(), time.perf_counter()
            for part in parts:
                cursor.copy_expert(f"COPY copied_{name} FROM STDIN", io.StringIO(part))
                connection.commit()
            wall = time.perf_counter() - started
            cpu = cpu_of(backend) + time.process_time() - cpu
            found[name] = {"per_second": count / wall, "cpu_seconds": cpu, "per_cpu_second": count / cpu}
    return found


# --- the run ----------------------------------------------------------------------------------------------------------
def run(count: int) -> dict[str, Any]:
    with installation() as (address, broker), tempfile.TemporaryDirectory() as logs:
        os.environ["REPORT_RATE"] = "1000000/min"
        key = register()
        from config.engine import processes

        program = processes.web("127.0.0.1", PORT, workers=WORKERS)
        environment = {"DATABASE_URL": address, "BROKER_URL": broker, "LOG_LEVEL": "ERROR"}
        supervisor = processes.Supervisor([program], logs=Path(logs), environment=environment, tell=print)
        with contextlib.closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
            postmaster = _parent(connection.info.backend_pid)
            with supervisor:
                assert program.process is not None, "The web runs."
                reports = measure(key, count, [program.process.pid], postmaster)
            cursor.execute("SELECT count(*), count(DISTINCT external_id) FROM attribution_generation")
            stored = cursor.fetchone()
            assert stored == (count + WARM * BATCH,) * 2, f"{stored} rows stand in the table."
            cursor.execute("SHOW fsync")
            (fsync,) = cursor.fetchone() or ("unknown",)
        copied = copy(address, min(count, QUICK))
    ratio = reports["per_second"] / copied["indexed"]["per_second"]
    by_cpu = reports["per_second_of_two_idle_cores"] / copied["indexed"]["per_cpu_second"]
    goals = [
        {"goal": f"reports beside COPY >= {GOAL_RATIO}", "measured": ratio, "by_cpu": by_cpu, "target": GOAL_RATIO},
        {
            "goal": f"reports a second >= {GOAL_PER_SECOND:,}",
            "measured": reports["per_second"],
            "by_cpu": reports["per_second_of_two_idle_cores"],
            "target": GOAL_PER_SECOND,
        },
    ]
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "fsync": fsync, "python": platform.python_version()}
    return {"reports": reports, "copy": copied, "goals": goals, "machine": machine}


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def show(found: dict[str, Any]) -> None:
    console, reports = Console(), found["reports"]
    table = Table("path", title=f"Rows a second, {TEXT_BYTES} bytes of text, {BATCH:,} a transaction")
    for name in ("by the clock", "by processor time"):
        table.add_column(name, justify="right")
    idle = f"{reports['per_second_of_two_idle_cores']:,.0f} on two idle cores"
    table.add_row(f"reports over HTTP, {WORKERS} web workers", f"{reports['per_second']:,.0f}", idle)
    for name, row in found["copy"].items():
        table.add_row(f"COPY, {name}", f"{row['per_second']:,.0f}", f"{row['per_cpu_second']:,.0f} a CPU second")
    console.print(table)
    cpu = ", ".join(f"{name} {1e6 * spent / reports['reports']:.0f}" for name, spent in reports["cpu_seconds"].items())
    console.print(f"Microseconds of processor time a report: {cpu}.")
    console.print(f"A batch: p50 {reports['batch_ms_p50']:.0f} ms, p99 {reports['batch_ms_p99']:.0f} ms.")
    for goal in found["goals"]:
        verdicts = ["met" if goal[name] >= goal["target"] else "NOT MET" for name in ("measured", "by_cpu")]
        console.print(
            f"{goal['goal']}: {goal['measured']:,.2f} by the clock ({verdicts[0]}); "
            f"{goal['by_cpu']:,.2f} by processor time ({verdicts[1]})."
        )
    machine = found["machine"]
    console.print(f"{machine['cpus']} CPUs, load {machine['load']:.1f}, fsync {machine['fsync']}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller run, for a look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    found = run(QUICK if options.quick else FULL)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
