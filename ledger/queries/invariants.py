"""The named checks of the books, each of which must return no row. The SQL is in ledger/sql/invariants.sql.

Decides nothing but the run and the report of a check; the checks can be read, and run, without Python.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db import connection, transaction

from ledger.sql import script

ROWS_MAX = 20
CONNECTIONS_MAX = 16
# The checks that rest on the journal alone, independent of the documents. The others also read attributions and plans.
OF_THE_JOURNAL = tuple(f"I{n}" for n in (1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 14, 15, 17, 18))
_HEADING = re.compile(r"^--- (I\d+): (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Invariant:
    code: str
    sentence: str
    sql: str


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check: `rows` are at most ROWS_MAX of the offending rows, as column -> value."""

    code: str
    sentence: str
    rows: list[dict[str, Any]]
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.code} {self.sentence}"[:80]


@cache
def invariants() -> tuple[Invariant, ...]:
    """Every invariant, in order."""
    parts = _HEADING.split(script("invariants"))[1:]
    return tuple(Invariant(parts[i], parts[i + 1], parts[i + 2].strip()) for i in range(0, len(parts), 3))


def check(invariant: Invariant) -> Result:
    started = time.monotonic()
    with transaction.atomic(), connection.cursor() as cursor:
        # Sorted and summed in memory where that is possible; compiling a statement that runs once does not pay.
        cursor.execute("SET LOCAL work_mem = '128MB'; SET LOCAL jit = off")
        # Nothing is interpolated: a percent sign stands for itself.
        cursor.execute(f"SELECT * FROM ({invariant.sql}) AS offending LIMIT {ROWS_MAX}")
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return Result(invariant.code, invariant.sentence, rows, time.monotonic() - started)


def check_all(codes: Sequence[str] | None = None, *, connections: int = 1) -> list[Result]:
    """Run every invariant, or those of `codes`, in order; all is well when no result has rows.

    With several `connections`, as many checks run at once. As always, each reads the rows that are committed as it
    begins.
    """
    if unknown := set(codes or ()) - {i.code for i in invariants()}:
        raise ValueError(f"There is no invariant {', '.join(sorted(unknown))}.")
    chosen = [invariant for invariant in invariants() if codes is None or invariant.code in codes]
    if connections <= 1:
        return [check(invariant) for invariant in chosen]
    with ThreadPoolExecutor(min(connections, CONNECTIONS_MAX)) as pool:
        return list(pool.map(_check_apart, chosen))


def _check_apart(invariant: Invariant) -> Result:
    try:
        return check(invariant)
    finally:
        # Of this thread, which Django would leave open.
        connection.close()
