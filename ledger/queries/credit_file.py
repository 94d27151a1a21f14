"""Every credit of a month sorted by account, as one file: it makes a contributor's credits quick to list.

The documents of the journal are ordered by generation, which is how they are posted and proved. Asked for the credits
of one account, the database has to open every document of its batches; this file is sorted by account instead, and is
written once, when a month is closed. It decides the layout and the hashed bytes, and knows neither Django nor the
database: the journal stays the truth, and the file can be made again from it, with the same digest.

Layout: a magic line; blocks of at most BLOCK_CREDITS credits in the order (account, generation, revision), each two
columns (number of the document, amount) compressed by zlib; the documents (generation, revision, entry) in the order
of (generation, revision); the accounts (number, first credit, credits); a footer in JSON; its length. The digest of a
file is that of its contents before compression, so that another zlib makes the same one.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

MAGIC = b"tributary-credits-1\n"
BLOCK_CREDITS = 65_536
# The number of credits sorted in memory at once: 20 bytes each, and as much again for the sort.
BUCKET_CREDITS = 4_000_000
BUCKETS_MAX = 200
_CREDIT = np.dtype([("account", "<i8"), ("document", "<u4"), ("amount", "<i8")])
_DOCUMENT = np.dtype([("high", ">u8"), ("low", ">u8"), ("revision", "<i4"), ("entry", "<i8")])
_ACCOUNT = np.dtype([("account", "<i8"), ("first", "<i8"), ("credits", "<i8")])
_LENGTH = struct.Struct("<Q")

Int64s = npt.NDArray[np.int64]


class UnableToReadCredits(Exception):
    """The file differs from the written one: cut short, changed, or of another layout. The message says which part."""


@dataclass(frozen=True, slots=True)
class Documents:
    """Some documents, in any order. `lengths[i]` of the flat `account_ids` and `amounts` are those of document i."""

    generation_ids: list[bytes]
    revisions: list[int]
    entries: list[int]
    lengths: list[int]
    account_ids: Int64s
    amounts: Int64s


@dataclass(frozen=True, slots=True)
class Written:
    digest: bytes
    credits: int
    documents: int
    accounts: int
    bytes: int


# --- writing ------------------------------------------------------------------------------------------------------
class Writer:
    """Takes documents in any order and sorts their credits by account into a file.

    Memory: 28 bytes a document, and BUCKET_CREDITS credits or those of the busiest account, whichever is more. Use it
    as a context manager; `finish` makes the file appear, whole.
    """

    def __init__(self, path: Path, *, documents_expected: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._buckets = min(BUCKETS_MAX, 1 + documents_expected * 64 // BUCKET_CREDITS)
        self._stack = ExitStack()
        self._spills: list[IO[bytes]] = []
        self._documents: list[npt.NDArray[Any]] = []
        self._arrived = 0

    def __enter__(self) -> Writer:
        for _ in range(self._buckets):
            self._spills.append(self._stack.enter_context(tempfile.TemporaryFile(dir=self._path.parent)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, batch: Documents) -> None:
        n = len(batch.revisions)
        rows = np.zeros(n, dtype=_DOCUMENT)
        halves = np.frombuffer(b"".join(batch.generation_ids), dtype=">u8").reshape(n, 2)
        rows["high"], rows["low"] = halves[:, 0], halves[:, 1]
        rows["revision"], rows["entry"] = batch.revisions, batch.entries
        self._documents.append(rows)
        credits = np.zeros(len(batch.amounts), dtype=_CREDIT)
        credits["account"], credits["amount"] = batch.account_ids, batch.amounts
        credits["document"] = np.repeat(np.arange(self._arrived, self._arrived + n, dtype=np.uint32), batch.lengths)
        self._arrived += n
        dealt = _bucket_of(batch.account_ids, self._buckets)
        order = np.argsort(dealt, kind="stable")
        ends = np.cumsum(np.bincount(dealt, minlength=self._buckets))
        for spill, part in zip(self._spills, np.split(credits[order], ends[:-1]), strict=True):
            spill.write(part.tobytes())

    def finish(self) -> Written:
        documents = np.concatenate([np.zeros(0, dtype=_DOCUMENT), *self._documents])
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            with partial.open("wb") as out:
                written = _write_sorted(out, documents, self._spills)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)
        return written


def _bucket_of(account_ids: Int64s, buckets: int) -> Int64s:
    # The low byte of an account's number is its asset.
    return (account_ids >> 8) % buckets


def _write_sorted(out: IO[bytes], documents: npt.NDArray[Any], spills: list[IO[bytes]]) -> Written:
    order = np.lexsort((documents["revision"], documents["low"], documents["high"]))
    rank = np.empty(len(order), dtype=np.uint32)
    rank[order] = np.arange(len(order), dtype=np.uint32)
    out.write(MAGIC)
    blocks = _Blocks(out)
    accounts: list[npt.NDArray[Any]] = []
    for spill in spills:
        spill.seek(0)
        credits = np.frombuffer(spill.read(), dtype=_CREDIT)
        places = rank[credits["document"]]
        ascending = np.lexsort((places, credits["account"]))
        numbers, first, lengths = np.unique(credits["account"][ascending], return_index=True, return_counts=True)
        rows = np.zeros(len(numbers), dtype=_ACCOUNT)
        rows["account"], rows["first"], rows["credits"] = numbers, first + blocks.credits, lengths
        accounts.append(rows)
        blocks.add(places[ascending], credits["amount"][ascending])
    blocks.end()
    index = np.concatenate(accounts)
    index = index[np.argsort(index["account"])]
    footer: dict[str, Any] = {"blocks": blocks.digests, "credits": blocks.credits}
    for name, table, dtype in (("documents", documents[order], _DOCUMENT), ("accounts", index, _ACCOUNT)):
        # numpy concatenates into this machine's byte order; the file has one of its own.
        raw = table.astype(dtype).tobytes()
        footer[name] = [len(table), hashlib.sha256(raw).hexdigest()]
        out.write(raw)
    digest = _digest(footer)
    text = json.dumps({**footer, "offsets": blocks.offsets}).encode()
    out.write(text)
    out.write(_LENGTH.pack(len(text)))
    return Written(digest, blocks.credits, len(documents), len(index), out.tell())


class _Blocks:
    """Cuts the sorted credits into blocks as they come."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out = out
        self.credits = 0
        self.digests: list[str] = []
        self.offsets: list[int] = []
        self.places = np.zeros(0, dtype=np.uint32)
        self.amounts = np.zeros(0, dtype=np.int64)

    def add(self, places: npt.NDArray[np.uint32], amounts: Int64s) -> None:
        self.credits += len(places)
        self.places = np.concatenate([self.places, places])
        self.amounts = np.concatenate([self.amounts, amounts])
        whole = len(self.places) // BLOCK_CREDITS * BLOCK_CREDITS
        for start in range(0, whole, BLOCK_CREDITS):
            self._write(start, start + BLOCK_CREDITS)
        self.places, self.amounts = self.places[whole:].copy(), self.amounts[whole:].copy()

    def end(self) -> None:
        if len(self.places):
            self._write(0, len(self.places))

    def _write(self, start: int, end: int) -> None:
        raw = self.places[start:end].astype("<u4").tobytes() + _planes(self.amounts[start:end])
        self.offsets.append(self.out.tell())
        self.digests.append(hashlib.sha256(raw).hexdigest())
        self.out.write(zlib.compress(raw, 1))


def _planes(amounts: Int64s) -> bytes:
    """The lowest bytes of all amounts, then the next ones: the upper ones, nearly all zero, then take no room."""
    return amounts.astype("<i8").view(np.uint8).reshape(-1, 8).T.tobytes()


def _digest(footer: dict[str, Any]) -> bytes:
    contents = {name: footer[name] for name in ("blocks", "credits", "documents", "accounts")}
    return hashlib.sha256(MAGIC + json.dumps(contents, sort_keys=True).encode()).digest()


# --- reading ------------------------------------------------------------------------------------------------------
class CreditFile:
    """A written file, open for reading; every part of it is checked against the digest before it is used.

    Opening reads the footer and the table of accounts; a credit costs its block. Use it as a context manager. Raises
    UnableToReadCredits.
    """

    def __init__(self, path: Path, digest: bytes) -> None:
        self._file = path.open("rb")
        try:
            self._open(digest)
        except BaseException:
            self._file.close()
            raise

    def _open(self, digest: bytes) -> None:
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        if self._file.read(len(MAGIC)) != MAGIC:
            raise UnableToReadCredits("the file is of another layout")
        try:
            self._file.seek(size - _LENGTH.size)
            (length,) = _LENGTH.unpack(self._file.read(_LENGTH.size))
            self._file.seek(size - _LENGTH.size - length)
            footer = json.loads(self._file.read(length))
            agrees = _digest(footer) == digest
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise UnableToReadCredits("the end of the file is missing or was changed") from error
        if not agrees:
            raise UnableToReadCredits("the contents are not those that were written when the month was closed")
        self._footer = footer
        self._tables_end = size - _LENGTH.size - length
        self._index = np.frombuffer(self._table("accounts", _ACCOUNT), dtype=_ACCOUNT)
        self._block: tuple[int, npt.NDArray[np.uint32], Int64s] | None = None
        self._documents: npt.NDArray[Any] | None = None

    def __enter__(self) -> CreditFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _start_of(self, name: str) -> int:
        end: int = self._tables_end - self._footer["accounts"][0] * _ACCOUNT.itemsize
        return end if name == "accounts" else end - self._footer["documents"][0] * _DOCUMENT.itemsize

    def _table(self, name: str, dtype: np.dtype[Any]) -> bytes:
        count, digest = self._footer[name]
        self._file.seek(self._start_of(name))
        raw = self._file.read(count * dtype.itemsize)
        if hashlib.sha256(raw).hexdigest() != digest:
            raise UnableToReadCredits(f"its {name} were changed")
        return raw

    @property
    def accounts(self) -> Int64s:
        """The numbers of all accounts that have a credit, ascending."""
        return np.array(self._index["account"], dtype=np.int64)

    def count(self, account_id: int) -> int:
        found = self._place(account_id)
        return 0 if found is None else int(self._index["credits"][found])

    def _place(self, account_id: int) -> int | None:
        found = int(np.searchsorted(self._index["account"], account_id))
        is_there = found < len(self._index) and self._index["account"][found] == account_id
        return found if is_there else None

    def total(self, account_id: int) -> int:
        """The sum of an account's credits in units; exact at any size."""
        return sum(int(part.astype(object).sum()) for _, part in self._parts(account_id))

    def credits(self, account_id: int) -> Iterator[tuple[UUID, int, int, int]]:
        """(generation, revision, entry, amount) of each credit of an account, by generation and revision."""
        for places, amounts in self._parts(account_id):
            rows = self._documents_at(places)
            columns = (rows["high"], rows["low"], rows["revision"], rows["entry"], amounts)
            for high, low, revision, entry, amount in zip(*(column.tolist() for column in columns), strict=True):
                yield UUID(int=high << 64 | low), revision, entry, amount

    def _parts(self, account_id: int) -> Iterator[tuple[npt.NDArray[np.uint32], Int64s]]:
        place = self._place(account_id)
        if place is None:
            return
        at, left = int(self._index["first"][place]), int(self._index["credits"][place])
        while left:
            number, start = divmod(at, BLOCK_CREDITS)
            places, amounts = self._read(number)
            taken = min(left, len(places) - start)
            if taken <= 0:
                raise UnableToReadCredits(f"its block {number} is too short")
            yield places[start : start + taken], amounts[start : start + taken]
            at, left = at + taken, left - taken

    def _read(self, number: int) -> tuple[npt.NDArray[np.uint32], Int64s]:
        if self._block is not None and self._block[0] == number:
            return self._block[1], self._block[2]
        offsets = [*self._footer["offsets"], self._start_of("documents")]
        try:
            self._file.seek(offsets[number])
            raw = zlib.decompress(self._file.read(offsets[number + 1] - offsets[number]))
        except (zlib.error, IndexError, TypeError, ValueError) as error:
            raise UnableToReadCredits(f"its block {number} cannot be read") from error
        if hashlib.sha256(raw).hexdigest() != self._footer["blocks"][number]:
            raise UnableToReadCredits(f"its block {number} was changed")
        n = len(raw) // 12
        amounts = np.frombuffer(raw, dtype=np.uint8, offset=4 * n).reshape(8, n).T.copy().view("<i8").reshape(n)
        self._block = (number, np.frombuffer(raw, dtype="<u4", count=n), amounts)
        return self._block[1], self._block[2]

    def _documents_at(self, places: npt.NDArray[np.uint32]) -> npt.NDArray[Any]:
        if self._documents is None:
            # Mapped, so that only the pages of the rows asked for are read; checked once as a whole.
            self._table("documents", _DOCUMENT)
            self._documents = np.memmap(
                self._file.name,
                dtype=_DOCUMENT,
                mode="r",
                offset=self._start_of("documents"),
                shape=(self._footer["documents"][0],),
            )
        return self._documents[places]
