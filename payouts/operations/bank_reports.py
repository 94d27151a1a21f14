"""The bank's report as CSV: one line for each order, read into values or refused with the line and the error."""

from __future__ import annotations

import csv
import io
from datetime import date

from ledger.money import UnableToParseAmount
from ledger.typed_amounts import minor_of_typed
from payouts.operations.bank_lines import Reported

COLUMNS = {
    "end_to_end_id": "the payout's id, as it stood in the file",
    "amount": "with a decimal point, as it was ordered",
    "currency": "three letters",
    "outcome": "executed, rejected or returned",
    "booked_on": "the bank's date, year-month-day",
    "reference": "the bank's own reference of this line",
    "reason": "what the bank says of a rejection or return; otherwise empty",
}
BYTES_MAX = 4 * 1024 * 1024


class UnableToReadReport(Exception):
    """The file is no such table."""

    status = 422
    problem = "bank-report-unreadable"


def lines_of(content: bytes) -> list[Reported]:
    """Read a CSV report into lines.

    Raises UnableToReadReport for more than 4 MiB, and for text other than UTF-8 or with a NUL character. Raises it also
    for missing columns, broken CSV, and a table without an outcome.
    """
    if len(content) > BYTES_MAX:
        raise UnableToReadReport("The file is larger than 4 MiB; split it.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnableToReadReport("The file is not UTF-8 text. Save the table as CSV (UTF-8).") from error
    if "\x00" in text:
        raise UnableToReadReport("The file has a NUL character, which no table of text has. Save it as CSV (UTF-8).")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in text.partition("\n")[0] else ",")
    try:
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or [])]
        if missing:
            raise UnableToReadReport(f"The first line lacks these columns: {', '.join(missing)[:200]}.")
        found = [_line(number, row) for number, row in enumerate(rows, start=2) if any(row.values())]
    except csv.Error as error:
        raise UnableToReadReport(f"The file is no CSV table: {error}.") from error
    if not found:
        raise UnableToReadReport("The file has no line with an outcome.")
    return found


def _line(number: int, row: dict[str, str | None]) -> Reported:
    given = {name: (row.get(name) or "").strip().removeprefix("'") for name in COLUMNS}
    currency = given["currency"].upper()
    try:
        amount_minor = minor_of_typed(given["amount"], currency)
    except UnableToParseAmount as error:
        raise UnableToReadReport(
            f"Line {number}: the amount “{currency} {given['amount']}” is none: {error}"
        ) from error
    try:
        booked_on = date.fromisoformat(given["booked_on"])
    except ValueError as error:
        raise UnableToReadReport(f"Line {number}: “{given['booked_on']}” is no date such as 2026-11-20.") from error
    if given["outcome"] not in ("executed", "rejected", "returned"):
        raise UnableToReadReport(
            f"Line {number}: the outcome is executed, rejected or returned, not “{given['outcome']}”."
        )
    return Reported(
        kind=given["outcome"],
        end_to_end_id=given["end_to_end_id"],
        reference=given["reference"][:64],
        amount_minor=amount_minor,
        currency=currency,
        booked_on=booked_on,
        reason=given["reason"],
    )
