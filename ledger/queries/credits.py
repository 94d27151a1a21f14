"""Credits one by one: of an account in a month as a stream, of a contributor ever, of a month as documents.

A closed month has them in a file sorted by account (ledger/queries/credit_file.py). It gives a contributor's credits
without opening anybody else's documents. Where the file is not at hand (an open month, another machine, a damaged
file) they come from the documents themselves: the same, later.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import structlog
from django.db import connection

from ledger.models import CreditExport
from ledger.queries.balances import accounts_of
from ledger.queries.credit_file import CreditFile, Documents, UnableToReadCredits

CHUNK = 5_000
logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Credit:
    """One document's credit to one account: a line of a statement's file."""

    generation_id: str
    revision: int
    entry_id: int
    amount: int


@contextmanager
def exported(period_id: int) -> Iterator[CreditFile | None]:
    """The month's file, or None where there is none that can be trusted."""
    found = CreditExport.objects.filter(pk=period_id).first()
    with ExitStack() as stack:
        file = None
        if found is not None:
            try:
                file = stack.enter_context(CreditFile(found.path, bytes(found.digest)))
            except FileNotFoundError:
                logger.info("ledger.credit_export_is_elsewhere", period=period_id)
            except UnableToReadCredits as error:
                logger.exception("ledger.credit_export_is_damaged", period=period_id, reason=str(error))
        yield file


class AccountCredits(Collection[Credit]):
    """The credits of one account in one month, by generation and revision: read anew, in chunks, at each iteration.

    Of an open month, those up to the entry that was the last when this was made.
    """

    def __init__(self, account_id: int, period_id: int, *, last_entry: int) -> None:
        self.account_id, self.period_id, self.last_entry = account_id, period_id, last_entry
        self._count: int | None = None

    def __iter__(self) -> Iterator[Credit]:
        with exported(self.period_id) as file:
            if file is not None:
                yield from (Credit(str(row[0]), *row[1:]) for row in file.credits(self.account_id))
            else:
                yield from self._of_documents()

    def __len__(self) -> int:
        if self._count is None:
            with exported(self.period_id) as file:
                self._count = file.count(self.account_id) if file is not None else self._counted()
        return self._count

    def __contains__(self, wanted: object) -> bool:
        return any(credit == wanted for credit in self)

    @property
    def _parameters(self) -> dict[str, int]:
        return {"account": self.account_id, "period": self.period_id, "last": self.last_entry}

    def _counted(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) {_OF_ACCOUNT}", self._parameters)
            return int(cursor.fetchone()[0])

    def _of_documents(self) -> Iterator[Credit]:
        with connection.chunked_cursor() as cursor:
            cursor.execute(
                "SELECT a.generation_id, a.revision, e.id, a.amounts[array_position(a.account_ids, %(account)s)]"
                f" {_OF_ACCOUNT} ORDER BY 1, 2",
                self._parameters,
            )
            while rows := cursor.fetchmany(CHUNK):
                yield from (Credit(str(row[0]), *row[1:]) for row in rows)


# A restatement may leave an account as it was, and then has documents of it but no line on it.
_OF_ACCOUNT = """
    FROM (SELECT id, batch_id FROM ledger_entry
          WHERE period_id = %(period)s AND batch_id IS NOT NULL AND id <= %(last)s AND (
              kind NOT IN ('accrue', 'accrue_pool')
              OR id IN (SELECT entry_id FROM ledger_line WHERE account_id = %(account)s))) e
    JOIN ledger_accrual a ON a.batch_id = e.batch_id AND a.account_ids @> ARRAY[%(account)s]::bigint[]"""


def credits_ever(contributor_id: int) -> Iterator[tuple[int, int, Credit]]:
    """(period, account, credit) of every credit that a contributor ever had, the oldest month first."""
    account_ids = [account.pk for account in accounts_of(contributor_id, ("contributor_accrued",))]
    for period_id, last_entry in _months(account_ids):
        for account_id in account_ids:
            for credit in AccountCredits(account_id, period_id, last_entry=last_entry):
                yield period_id, account_id, credit


def _months(account_ids: Sequence[int]) -> list[tuple[int, int]]:
    """(period, last entry with documents) of the months in which any of the accounts may have a credit."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT period_id, max(id) FROM ledger_entry
             WHERE batch_id IS NOT NULL AND period_id IN (
               SELECT e.period_id FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
                WHERE l.account_id = ANY(%s::bigint[])
               UNION SELECT period_id FROM ledger_entry WHERE kind IN ('restate', 'void_generations'))
             GROUP BY 1 ORDER BY 1""",
            [list(account_ids)],
        )
        return [(int(period), int(last)) for period, last in cursor.fetchall()]


# --- a month's documents, as the server sends them ----------------------------------------------------------------
_HEADER_BYTES = 19
_HEAD = struct.Struct(">hi16siiiqi")
_ARRAY = struct.Struct(">iiiii")
_ELEMENT = np.dtype([("length", ">i4"), ("value", ">i8")])
_SEND_BYTES = 1 << 20


def stream_documents(period_id: int, take: Callable[[Documents], None]) -> None:
    """Hand every document of a month to `take`, about a megabyte at a time, in the order of their entries."""
    reader = _Reader(take)
    with connection.cursor() as cursor:
        cursor.copy_expert(
            "COPY (SELECT d.generation_id, d.revision, e.id, d.account_ids, d.amounts FROM ledger_entry e"
            f" JOIN ledger_accrual d ON d.batch_id = e.batch_id WHERE e.period_id = {int(period_id)})"
            " TO STDOUT (FORMAT binary)",
            reader,
        )
    reader.flush(end=True)


class _Reader:
    """The target into which psycopg2 writes a binary COPY: cuts it into rows and their arrays."""

    def __init__(self, take: Callable[[Documents], None]) -> None:
        self._take = take
        self._parts: list[bytes] = []
        self._size = 0
        self._skip = _HEADER_BYTES

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        self._size += len(data)
        if self._size >= _SEND_BYTES:
            self.flush()
        return len(data)

    def flush(self, *, end: bool = False) -> None:
        raw = b"".join(self._parts)
        at = self._skip
        ids: list[bytes] = []
        revisions: list[int] = []
        entries: list[int] = []
        lengths: list[int] = []
        accounts: list[bytes] = []
        amounts: list[bytes] = []
        while at + _HEAD.size <= len(raw):
            _, _, generation, _, revision, _, entry, size = _HEAD.unpack_from(raw, at)
            first = at + _HEAD.size
            second = first + size + 4
            if second + size > len(raw):
                break
            # Both arrays have one dimension, no null and as many elements: the table's checks say so.
            count = _ARRAY.unpack_from(raw, first)[3]
            ids.append(generation)
            revisions.append(revision)
            entries.append(entry)
            lengths.append(count)
            accounts.append(raw[first + _ARRAY.size : first + size])
            amounts.append(raw[second + _ARRAY.size : second + size])
            at = second + size
        rest = raw[at:]
        if end and len(rest) != 2:
            raise UnableToReadCredits("the server's stream of documents ended in the middle of one")
        self._parts, self._size, self._skip = [rest], len(rest), 0
        if ids:
            self._take(Documents(ids, revisions, entries, lengths, _values(accounts), _values(amounts)))


def _values(parts: list[bytes]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.frombuffer(b"".join(parts), dtype=_ELEMENT)["value"].astype(np.int64)
