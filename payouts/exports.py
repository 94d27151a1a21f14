"""Tables as CSV (RFC 4180, UTF-8), safe to open in a spreadsheet.

A cell that a spreadsheet would run as a formula gets a leading apostrophe; a plain number, also a negative one, keeps
its form, so that sums still work.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def guarded(cell: object) -> str:
    """The cell's text, with an apostrophe in front where a spreadsheet would take it for a formula."""
    text = "" if cell is None else str(cell)
    starts_a_formula = text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS[:4])
    return f"'{text}" if starts_a_formula and not _NUMBER.fullmatch(text) else text


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """The table with CRLF line ends and a header line."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([guarded(cell) for cell in row] for row in rows)
    return out.getvalue().encode()
