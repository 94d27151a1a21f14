"""Tables as spreadsheets save them: text in several encodings, marks and dates of a locale, or a workbook.

Without the clerk's choice, a date or an amount with two readings is refused with its line.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from ledger.money import UnableToParseAmount
from ledger.typed_amounts import minor_of_typed
from payouts.rails.bank.answers import UnableToReadReport

DAY_FIRST, MONTH_FIRST = "day", "month"
COMMA, POINT = "comma", "point"
UNPACKED_MAX = 64 * 1024 * 1024
ROWS_MAX = 50_000


@dataclass(frozen=True)
class Choices:
    """The clerk's reading of dates such as 03/04/2026 and of amounts such as 1.250; "" refuses both."""

    days: str = ""
    decimals: str = ""


@dataclass(frozen=True)
class Row:
    """A row with its number in the file and its cells by lower-case column."""

    number: int
    cells: dict[str, str]


def rows_of_text(content: bytes) -> list[Row]:
    """Return the rows of a CSV. Raises UnableToReadReport for bytes that are no text, and for a broken table."""
    text = _decoded(content)
    if "\x00" in text:
        raise UnableToReadReport("The file has a NUL character, which no table of text has. Save it as CSV (UTF-8).")
    first, _, rest = text.partition("\n")
    start, delimiter = 1, ""
    if named := re.fullmatch(r"\"?sep=(.)\"?", first.strip("\r"), re.IGNORECASE):
        start, delimiter, text = 2, named.group(1), rest
        first = rest.partition("\n")[0]
    delimiter = delimiter or max(";,\t", key=first.count)
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise UnableToReadReport(f"The file is no CSV table: {error}.") from error
    return _rows(table, start)


def _decoded(content: bytes) -> str:
    encodings = ["utf-16"] if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UnableToReadReport("The file is no text in UTF-8, UTF-16 or Windows-1252. Save the table as CSV (UTF-8).")


def rows_of_workbook(content: bytes) -> list[Row]:
    """Return the rows of a workbook's first sheet (.xlsx). Raises UnableToReadReport for a damaged or huge one."""
    import openpyxl

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if sum(each.file_size for each in packed.infolist()) > UNPACKED_MAX:
                raise UnableToReadReport("The workbook is larger than 64 MiB when unpacked; split it.")
        sheet = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True).worksheets[0]
        table = []
        for row in sheet.iter_rows(values_only=True):
            table.append([_cell(value) for value in row])
            if len(table) > ROWS_MAX:
                raise UnableToReadReport(f"The sheet has more than {ROWS_MAX:,} rows; split it.")
    except UnableToReadReport:
        raise
    except Exception as error:  # The library raises as many errors as there are ways to damage a file.
        raise UnableToReadReport(f"The workbook is damaged ({type(error).__name__}). Save the table as CSV.") from error
    return _rows(table, 1)


def _cell(value: Any) -> str:
    """Return the cell as text with one reading: a number has no mark of thousands, a date is year-month-day."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # A sum of a formula may end in the noise of binary fractions; a spreadsheet keeps and shows fifteen digits.
        text = f"{Decimal(f'{value:.15g}'):f}"
        whole, _, fraction = text.partition(".")
        return whole if not fraction.strip("0") else f"{text}0" if len(fraction) == 3 else text
    return str(value)


def _rows(table: list[list[str]], start: int) -> list[Row]:
    if not table:
        return []
    header = [name.strip().lower().removeprefix("\ufeff") for name in table[0]]
    return [
        Row(number, dict(zip(header, (cell.strip().strip("\u00a0") for cell in cells), strict=False)))
        for number, cells in enumerate(table[1:], start=start + 1)
        if any(cell.strip() for cell in cells)
    ] or [Row(start, dict.fromkeys(header, ""))]


def minor_of(text: str, currency: str, choices: Choices) -> int:
    """Return whole minor units of an amount. Raises UnableToParseAmount, also for one that the choice contradicts."""
    if not choices.decimals:
        return minor_of_typed(text, currency)
    decimal, thousands = (",", ".") if choices.decimals == COMMA else (".", ",")
    groups = rf"[{thousands}'\u2019 \u00a0\u202f]"
    pattern = rf"\d+(?:{re.escape(decimal)}\d+)?|\d{{1,3}}(?:{groups}\d{{3}})+(?:{re.escape(decimal)}\d+)?"
    if not text.isascii() and not re.fullmatch(r"[\x00-\x7f\u2019\u00a0\u202f]*", text):
        raise UnableToParseAmount(f"“{text}” has other digits than 0 to 9.")
    if not re.fullmatch(pattern, text):
        raise UnableToParseAmount(
            f"“{text}” does not fit a decimal {choices.decimals}. Choose the other, or correct it."
        )
    plain = re.sub(groups, "", text).replace(decimal, ".")
    # A fourth decimal leaves one reading.
    return minor_of_typed(f"{plain}0" if len(plain.partition(".")[2]) == 3 else plain, currency)


def day_of(text: str, choices: Choices) -> date:
    """Return the date of a cell. Raises UnableToReadReport for none, and for two readings without a choice."""
    if found := re.fullmatch(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ][\d:.]+)?", text, re.ASCII):
        year, month, day = map(int, found.groups())
        return _date(year, month, day, text)
    found = re.fullmatch(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?: [\d:.]+)?", text, re.ASCII)
    if found is None:
        raise UnableToReadReport(f"“{text}” is no date such as 2026-11-20.")
    first, mark, second, year = int(found[1]), found[2], int(found[3]), int(found[4])
    # Points stand in dates of countries that write the day first, in all of them.
    if mark == "." or choices.days == DAY_FIRST:
        return _date(year, second, first, text)
    if choices.days == MONTH_FIRST:
        return _date(year, first, second, text)
    if first == second or first > 12:
        return _date(year, second, first, text)
    if second > 12:
        return _date(year, first, second, text)
    raise UnableToReadReport(
        f"“{text}” has two readings: {year}-{second:02}-{first:02} and {year}-{first:02}-{second:02}. Choose below "
        "if the day or the month comes first."
    )


def _date(year: int, month: int, day: int, text: str) -> date:
    try:
        return date(year, month, day)
    except ValueError as error:
        raise UnableToReadReport(f"“{text}” is no date in this order; it is such as 2026-11-20.") from error
