"""The lines of a training manifest as they come: JSON lines or Parquet, checked one by one and kept in a file.

Each line names a work and, unless it means the whole of it, a part. Nothing is looked up here. The kept file has the
form of PostgreSQL's COPY, so that ten million lines cost no object each.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from django.conf import settings

ITEMS_MAX = 10_000_000
BYTES_MAX = 8 * 2**30
LINE_BYTES_MAX = 16_384
FAULTS_MAX = 100
NUMBER_MAX = 2**31 - 1
READ_BYTES = 2**20
PARQUET_ROWS = 50_000
# Bounds of a Parquet file, checked before a value is read. Rows of a group are unpacked together.
ROW_GROUPS_MAX, ROW_GROUP_BYTES_MAX = 10_000, 2**30
THRIFT_BYTES_MAX, VALUE_BYTES_MAX = 16 * 2**20, 2_048
PHYSICAL = frozenset({"BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY", "INT32", "INT64"})
LOGICAL = frozenset({"STRING", "INT", "NONE", "UNDEFINED", "NULL", "UNKNOWN", "UUID"})
JSON_LINES = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
PARQUET_MAGIC = b"PAR1"
# The references to a work: the field of a line, and the form of its value in small letters.
REFERENCES: Mapping[str, re.Pattern[str]] = {
    "work": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII),
    "sha256": re.compile(r"[0-9a-f]{64}", re.ASCII),
    "iscc": re.compile(r"(?:iscc:)?[a-z2-7]{8,100}", re.ASCII),
    "fingerprint": re.compile(r"(?:[0-9a-f]{2}){1,1024}", re.ASCII),
}
FORMS = {
    "work": "the id of a work, as GET /api/v1/works gives it",
    "sha256": "64 hexadecimal digits",
    "iscc": "an ISCC, as ISCC:KEC...",
    "fingerprint": "hexadecimal digits, as GET /api/v1/works gives them",
}
RANGE = ("token_start", "token_end")
FIELDS = frozenset({*REFERENCES, *RANGE, "part"})
# A reference by the database's own id, for callers inside the product.
BY_ID = "id"


class UnableToReadManifest(Exception):
    """Some lines are not ones of a manifest. `members["faults"]` names each: line, field, detail."""

    status = 422
    problem = "malformed-manifest"

    def __init__(self, detail: str, faults: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(detail)
        self.members = {"faults": list(faults), "line": faults[0]["line"]} if faults else {}


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(slots=True)
class Lines:
    """Well-formed lines in a file of COPY text: line, ordinal, kind and value of the reference, range, part."""

    file: IO[bytes]
    count: int = 0
    _waiting: list[str] = field(default_factory=list)

    def add(self, line: int, ordinal: int, kind: str, value: str, start: object, end: object, part: object) -> None:
        self.count += 1
        values = "\t".join("\\N" if number is None else str(number) for number in (start, end, part))
        self._waiting.append(f"{line}\t{ordinal}\t{kind}\t{value}\t{values}\n")
        if len(self._waiting) >= 10_000:
            self.flush()

    def flush(self) -> None:
        self.file.write("".join(self._waiting).encode())
        self._waiting.clear()

    def rewound(self) -> IO[bytes]:
        self.flush()
        self.file.seek(0)
        return self.file


@contextmanager
def new_lines() -> Iterator[Lines]:
    """Open an empty file of lines, which is gone after the block."""
    with _spool() as file:
        yield Lines(file)


@contextmanager
def read_lines(stream: Readable, *, media_type: str) -> Iterator[Lines]:
    """Read and check a manifest from a stream. Raises UnableToReadManifest with up to FAULTS_MAX faults by line."""
    with _spool() as received, new_lines() as lines:
        size = _receive(stream, received)
        received.seek(0)
        if not size:
            raise UnableToReadManifest("The manifest is empty: it has one line for each training item.")
        told_parquet = media_type == PARQUET
        is_parquet = received.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
        received.seek(0)
        if told_parquet != is_parquet:
            raise UnableToReadManifest(
                f"The body was sent as {media_type} and is {'' if is_parquet else 'no '}Parquet. JSON lines are sent "
                f"as {JSON_LINES}, Parquet as {PARQUET}."
            )
        _check(_parquet_rows(received) if is_parquet else _json_rows(received), lines)
        yield lines


def _spool() -> Any:
    directory = Path(settings.TRIBUTARY_DATA) / "incoming"
    directory.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=directory)


def _receive(stream: Readable, file: IO[bytes]) -> int:
    size = 0
    while block := stream.read(READ_BYTES):
        size += len(block)
        if size > BYTES_MAX:
            raise UnableToReadManifest(f"A manifest has at most {BYTES_MAX // 2**30} GiB.")
        file.write(block)
    return size


def _json_rows(file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """Give each line that is not blank with its number from 1; a line that is no JSON is given as its reason."""
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            yield number, f"A line has at most {LINE_BYTES_MAX} bytes."
            while line and not line.endswith(b"\n"):
                line = file.readline(READ_BYTES)
            continue
        if line.isspace():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            yield number, 'It is no JSON object such as {"work": "...", "token_start": 0, "token_end": 512}.'


def _parquet_rows(file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """Give each row with its number from 1, without its null fields."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(file)
        texts = _checked_columns(metadata)
        # A value that stands once in the file stays once in memory, however many rows repeat it.
        opened = pyarrow.parquet.ParquetFile(
            file, read_dictionary=texts, thrift_string_size_limit=THRIFT_BYTES_MAX, thrift_container_size_limit=10**6
        )
        number = 0
        for batch in opened.iter_batches(batch_size=PARQUET_ROWS):
            _check_lengths(batch)
            for row in batch.to_pylist():
                number += 1
                yield number, {name: _plain(value) for name, value in row.items() if value is not None}
    # A damaged file also gives text that is no UTF-8, and numbers out of range.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise UnableToReadManifest(f"It is no readable Parquet file: {str(error)[:300]}") from error


def _checked_columns(metadata: Any) -> list[str]:
    """Return the columns of text and bytes. Raises UnableToReadManifest for a file of another form, or a bomb."""
    schema = metadata.schema
    columns = [schema.column(place) for place in range(len(schema))]
    if strangers := {column.path for column in columns} - FIELDS:
        raise UnableToReadManifest(_only_these(strangers))
    for column in columns:
        kind = str(column.logical_type.type)
        if column.physical_type not in PHYSICAL or kind not in LOGICAL or column.max_repetition_level:
            raise UnableToReadManifest(
                f"The column {column.path} holds {column.physical_type} ({kind}): a line has texts, bytes and integers."
            )
    if metadata.num_rows > ITEMS_MAX:
        raise UnableToReadManifest(f"A manifest has at most {ITEMS_MAX:,} items, not {metadata.num_rows:,}.")
    if metadata.num_row_groups > ROW_GROUPS_MAX:
        raise UnableToReadManifest(
            f"A file has at most {ROW_GROUPS_MAX:,} row groups, not {metadata.num_row_groups:,}."
        )
    for place in range(metadata.num_row_groups):
        size = metadata.row_group(place).total_byte_size
        if size > ROW_GROUP_BYTES_MAX:
            raise UnableToReadManifest(
                f"Row group {place} has {size:,} bytes unpacked; it has at most {ROW_GROUP_BYTES_MAX:,}. Write smaller "
                "ones."
            )
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _check_lengths(batch: Any) -> None:
    import pyarrow
    import pyarrow.compute

    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        values = column.dictionary if isinstance(column, pyarrow.DictionaryArray) else column
        if pyarrow.types.is_string(values.type) or pyarrow.types.is_binary(values.type):
            longest = pyarrow.compute.max(pyarrow.compute.binary_length(values)).as_py() or 0
            if longest > VALUE_BYTES_MAX:
                raise UnableToReadManifest(
                    f"{name} has a value of {longest:,} bytes; {VALUE_BYTES_MAX:,} are the most."
                )


def _plain(value: Any) -> Any:
    """Write the bytes of a digest as hexadecimal digits."""
    return value.hex() if isinstance(value, bytes) else value


def _only_these(strangers: Iterable[str]) -> str:
    return f"Nobody reads {', '.join(sorted(strangers))}: a line takes only {', '.join(sorted(FIELDS))}."


def _check(rows: Iterable[tuple[int, Any]], lines: Lines) -> None:
    faults: list[dict[str, Any]] = []
    for number, row in rows:
        if lines.count >= ITEMS_MAX:
            raise UnableToReadManifest(f"A manifest has at most {ITEMS_MAX:,} items.")
        try:
            _check_row(number, row, lines)
        except _Fault as fault:
            faults.append({"line": number, "field": fault.field, "detail": str(fault)})
            if len(faults) >= FAULTS_MAX:
                break
    if faults:
        first = faults[0]
        more = "" if len(faults) == 1 else f" ({len(faults)} lines{' or more' * (len(faults) >= FAULTS_MAX)} in all)"
        raise UnableToReadManifest(f"Line {first['line']}: {first['detail']}{more}", faults)
    if not lines.count:
        raise UnableToReadManifest("The manifest has no items: it has one line for each training item.")


class _Fault(Exception):
    def __init__(self, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.field = field


def _check_row(number: int, row: Any, lines: Lines) -> None:
    if type(row) is not dict:
        raise _Fault(row if isinstance(row, str) else "It is no JSON object.")
    if not row.keys() <= FIELDS:
        raise _Fault(_only_these(row.keys() - FIELDS))
    named = [kind for kind in REFERENCES if row.get(kind) is not None]
    if len(named) != 1:
        raise _Fault(f"It names its work by exactly one of {', '.join(REFERENCES)}, not by {len(named)}.")
    kind = named[0]
    value = row[kind]
    known = value.lower() if type(value) is str else ""
    if not REFERENCES[kind].fullmatch(known):
        raise _Fault(f"{kind} must be {FORMS[kind]}.", kind)
    if kind == "iscc":
        known = known.removeprefix("iscc:").upper()
    start, end, part = row.get("token_start"), row.get("token_end"), row.get("part")
    if start is not None or end is not None:
        if part is not None:
            raise _Fault("It has a range of tokens or a part, not both.", "part")
        if not (_is_number(start) and _is_number(end)) or int(start or 0) >= int(end or 0):
            raise _Fault("token_start and token_end are whole numbers from 0, the end after the start.", "token_start")
    elif part is not None and not _is_number(part):
        raise _Fault("part is a whole number from 0.", "part")
    lines.add(number, lines.count, kind, known, start, end, part)


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= NUMBER_MAX
