"""CSV tables that spreadsheets open right and safely (RFC 4180, UTF-8).

A byte-order mark comes first, because Excel reads unmarked UTF-8 in a local code page. A text that a spreadsheet would
run as a formula gets a leading apostrophe. `defusedcsv` guards the plain cases; `guarded` also knows blanks before a
formula and full-width signs, and keeps the text behind the apostrophe as it is. Plain numbers stay numbers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice

from defusedcsv import csv

MARK = "\ufeff"
CONTENT_TYPE = "text/csv; charset=utf-8"
ROWS_A_PART = 2_000

# Spreadsheets skip leading blanks and controls, and take full-width signs for the plain ones.
_FORMULA = re.compile(r"[\t\r\n]|[\s\x00-\x1f]*[=+\-@|%＝＋－＠]")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def guarded(cell: object) -> object:
    """Return the cell, with an apostrophe in front of a formula. A NUL character is removed: no CSV may have one."""
    if cell is None or isinstance(cell, int | float | Decimal):
        return cell
    # Any other object is written as its text, which a person may have chosen, such as a payee's name.
    text = str(cell).replace("\x00", "")
    if text[:1].isalnum():
        return text
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def text_parts(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Write the table in parts of ROWS_A_PART rows, so that a long one is never held as a whole."""
    buffer = io.StringIO(newline="")
    buffer.write(MARK)
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(header)
    remaining = iter(rows)
    while batch := list(islice(remaining, ROWS_A_PART)):
        writer.writerows([cell and guarded(cell) for cell in row] for row in batch)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    if text := buffer.getvalue():
        yield text


def parts(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """Encode `text_parts`."""
    return (part.encode() for part in text_parts(header, rows))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Write the whole table."""
    return b"".join(parts(header, rows))
