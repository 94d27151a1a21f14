"""This ledger on the benchmark's generations: posting with every guarantee on, reads, proofs, export, apportionment."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ledgers.workload import GROSS, Meter, Workload, new_generation_id

# The invariants that read every byte: each document's digest, the chain above, and each line against its documents.
FULL_PROOF = ("I5", "I7", "I8")
CHAIN = ("I7", "I8")


def today() -> date:
    return datetime.now(UTC).date()


def this_period() -> int:
    return today().year * 100 + today().month


def backend() -> int:
    from django.db import connection

    connection.ensure_connection()
    return int(connection.connection.info.backend_pid)


def open_accounts(n: int, word: str = "contributor") -> tuple[int, np.ndarray]:
    """(the source, the accounts by place); `word` keeps two sets of accounts apart."""
    from django.db import transaction

    from ledger import journal
    from ledger.journal import AccountKey

    source = journal.open_accounts([AccountKey("service_unbilled", "USD", f"service:{word}")])[0]
    ids: list[int] = []
    for start in range(1, n + 1, 20_000):
        keys = [
            AccountKey("contributor_accrued", "USD", f"contributor:{word}{i}")
            for i in range(start, min(start + 20_000, n + 1))
        ]
        with transaction.atomic():
            ids += journal.open_accounts(keys)
    return source, np.array(ids, dtype=np.int64)


def post_documents(work: Workload, accounts: np.ndarray, source: int, batch: int, name: str) -> Meter:
    """`batch` generations a transaction, from plain numbers to the committed entry."""
    from ledger import journal
    from ledger.documents import Document

    meter = Meter(backend())
    for start in range(0, len(work), batch):
        part = work.part(start, start + batch)
        ids = [new_generation_id() for _ in range(len(part))]
        with meter.transaction():
            documents = [
                Document(generation, 1, 1, source, GROSS, accounts[places], amounts)
                for generation, places, amounts in zip(ids, part.places, part.amounts, strict=True)
            ]
            journal.post_accruals(
                idem_key=f"{name}:{start}", effective=today(), earned_period=this_period(), documents=documents
            )
    return meter


def stored_bytes() -> int:
    """Measure entries, lines and documents on disk with their indexes, in bytes."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relname ~ '^ledger_(line_|accrual_|entry$)' AND relkind = 'r'"
        )
        return int(cursor.fetchone()[0])


def settle_disk() -> None:
    """VACUUM ANALYZE, as autovacuum would have done in a running system."""
    from django.db import connection

    from config.engine.roles import acting_as

    connection.close()
    with acting_as("") as session, session.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
    connection.close()


# --- reads --------------------------------------------------------------------------------------------------------
def repeated(step: Callable[[int], Any], times: int) -> list[float]:
    found = []
    for n in range(times):
        started = time.perf_counter()
        step(n)
        found.append((time.perf_counter() - started) * 1000)
    return found


def reads(accounts: int, times: int) -> dict[str, float]:
    """Milliseconds of balances and trial balances at moments drawn from the whole history."""
    from ledger import journal
    from ledger.journal import AccountKey
    from ledger.models import Entry
    from ledger.queries import books

    made = np.random.default_rng(3)
    last = Entry.objects.order_by("-id").values_list("id", flat=True)[0]
    at, of = made.integers(1, last + 1, times), made.integers(1, accounts + 1, times)
    keys = [AccountKey("contributor_accrued", "USD", f"contributor:contributor{i}") for i in of]
    balances = repeated(lambda n: journal.balance(keys[n], int(at[n])), times)
    trial = repeated(lambda n: books.trial_balance(int(at[n])), 7)
    return {
        "balance_ms_p50": float(np.median(balances)),
        "balance_ms_p99": float(np.percentile(balances, 99)),
        "trial_balance_ms_p50": float(np.median(trial)),
        "trial_balance_ms_max": max(trial),
    }


def proofs(codes: Sequence[str] | None = None) -> tuple[dict[str, float], list[str]]:
    """Seconds of each invariant of the journal, and those that are violated."""
    from ledger.queries.invariants import OF_THE_JOURNAL, check_all

    results = check_all(codes or OF_THE_JOURNAL)
    return {result.code: result.seconds for result in results}, [result.name for result in results if result.rows]


def chain_seconds() -> float:
    """The checks of the chain side by side, each on a connection of its own, as `check_books --connections 2` does."""
    from ledger.queries.invariants import check_all

    started = time.perf_counter()
    assert not [result.name for result in check_all(CHAIN, connections=len(CHAIN)) if result.rows]
    return time.perf_counter() - started


# --- the export at the close --------------------------------------------------------------------------------------
def export(accounts: np.ndarray) -> dict[str, Any]:
    """The month's credits sorted by account into a file, and then every credit of the rarest contributors from it."""
    from ledger.queries.credit_file import CreditFile, Writer
    from ledger.queries.credits import stream_documents

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "credits.bin"
        cpu, started = time.process_time(), time.perf_counter()
        with Writer(path, documents_expected=10_000_000) as writer:
            stream_documents(this_period(), writer.add)
            written = writer.finish()
        seconds = time.perf_counter() - started
        rarest = min((i for i in accounts.tolist()), key=lambda i: (_count(path, written.digest, i), i))
        rare = repeated(lambda _: _credits(path, written.digest, rarest), 9)
    return {
        "credits": written.credits,
        "seconds": seconds,
        "client_cpu_seconds": time.process_time() - cpu,
        "credits_per_second": written.credits / seconds,
        "bytes_a_credit": written.bytes / max(1, written.credits),
        "rare_contributor_ms_p50": float(np.median(rare)),
        "digest": written.digest.hex(),
        "layout": CreditFile.__module__,
    }


def _count(path: Path, digest: bytes, account: int) -> int:
    from ledger.queries.credit_file import CreditFile

    with CreditFile(path, digest) as file:
        return file.count(account)


def _credits(path: Path, digest: bytes, account: int) -> int:
    from ledger.queries.credit_file import CreditFile

    with CreditFile(path, digest) as file:
        return sum(1 for _ in file.credits(account))


# --- apportionment ------------------------------------------------------------------------------------------------
def apportionment(work: Workload) -> dict[str, Any]:
    """Exactness, processor time and fairness of ties, on the shares that the workload's amounts stand for."""
    from ledger.money import PPB, apportion_rows

    made = np.random.default_rng(4)
    width = 64
    rows = min(len(work), 4000)
    shares = np.zeros((rows, width), dtype=np.int64)
    for i in range(rows):
        cuts = np.sort(made.choice(PPB - 1, width - 1, replace=False)) + 1
        shares[i] = np.diff(np.concatenate([[0], cuts, [PPB]]))
    totals = made.integers(1, 10**12, rows)
    subjects = [new_generation_id().bytes for _ in range(rows)]
    started = time.process_time()
    parts = apportion_rows(totals, shares, subjects, range(width))
    cpu = time.process_time() - started
    exact = sum(
        sum(row) == total and all(abs(part * PPB - total * share) < PPB for part, share in zip(row, of, strict=True))
        for row, of, total in zip(parts.tolist(), shares.tolist(), totals.tolist(), strict=True)
    )
    return {
        "rows": rows,
        "exact": exact,
        "cpu_seconds_a_share": cpu / (rows * width),
        **_ties(),
    }


def _ties(trials: int = 30_000, heads: int = 5) -> dict[str, Any]:
    """Divide one unit too few in equal shares, many times. Count the receivers and test the counts against chance."""
    from scipy.stats import chisquare

    from ledger.money import PPB, apportion_rows

    shares = np.full((trials, heads), PPB // heads, dtype=np.int64)
    subjects = [new_generation_id().bytes for _ in range(trials)]
    parts = apportion_rows(np.full(trials, heads + 1, dtype=np.int64), shares, subjects, range(101, 101 + heads))
    winners = Counter(np.argmax(parts, axis=1).tolist())
    counts = [winners[i] for i in range(heads)]
    return {"ties": trials, "ties_won": counts, "tie_bias_p": float(chisquare(counts).pvalue)}
