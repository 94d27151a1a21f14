"""The bank's report as the clerk has it: a table, a statement, a notification or a status, read into values.

The format is told by the content, not by the file's name.
"""

from __future__ import annotations

from django.conf import settings

from ledger.money import UnableToParseAmount
from payouts.rails.bank import iso_answers, mt940_answers, tables
from payouts.rails.bank.answers import BYTES_MAX, Report, Reported, UnableToReadReport
from payouts.rails.bank.tables import Choices, Row

COLUMNS = {
    "end_to_end_id": "the payout's id, as it stood in the file",
    "amount": "as it was ordered, with a decimal point or comma",
    "currency": "three letters",
    "outcome": "executed, rejected or returned",
    "booked_on": "the bank's date, best as year-month-day",
    "reference": "the bank's own reference of this line; a batch may share it",
    "reason": "the bank's reason for a rejection or return; otherwise empty",
}
NO_CHOICES = Choices()


def report_of(content: bytes, choices: Choices = NO_CHOICES) -> Report:
    """Read a report of any format. Raises UnableToReadReport for a file that is none, with the place and the remedy."""
    if len(content) > BYTES_MAX:
        raise UnableToReadReport("The file is larger than 4 MiB; split it.")
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        raise UnableToReadReport("The file is empty.")
    if head.startswith(b"<") or content[:4] in (b"<\x00?\x00", b"\xff\xfe<\x00", b"\xfe\xff\x00<"):
        return iso_answers.read(content.lstrip(b" \t\r\n"), _accounts())
    if head.startswith((b":20:", b"{1:")) or b"\n:20:" in head:
        return mt940_answers.read(_text_of(content), _accounts())
    return Report(lines_of(content, choices))


def lines_of(content: bytes, choices: Choices = NO_CHOICES) -> list[Reported]:
    """Read a table, as CSV or as a workbook, into lines.

    Raises UnableToReadReport for more than 4 MiB, for bytes that are no text, and with a NUL character. Raises it also
    for missing columns, broken CSV, a table without an outcome, and a date or an amount with two readings.
    """
    if len(content) > BYTES_MAX:
        raise UnableToReadReport("The file is larger than 4 MiB; split it.")
    rows = tables.rows_of_workbook(content) if content[:4] == b"PK\x03\x04" else tables.rows_of_text(content)
    missing = [name for name in COLUMNS if not rows or name not in rows[0].cells]
    if missing:
        raise UnableToReadReport(f"The first line lacks these columns: {', '.join(missing)[:200]}.")
    found = [_line(row, choices) for row in rows if any(row.cells.values())]
    if not found:
        raise UnableToReadReport("The file has no line with an outcome.")
    return found


def _line(row: Row, choices: Choices) -> Reported:
    given = {name: row.cells.get(name, "").removeprefix("'") for name in COLUMNS}
    currency, outcome = given["currency"].upper(), given["outcome"].lower()
    try:
        amount_minor = tables.minor_of(given["amount"], currency, choices)
        booked_on = tables.day_of(given["booked_on"], choices)
    except UnableToParseAmount as error:
        raise UnableToReadReport(
            f"Line {row.number}: the amount “{currency} {given['amount']}” is none: {error}"
        ) from error
    except UnableToReadReport as error:
        raise UnableToReadReport(f"Line {row.number}: {error}") from error
    if outcome not in ("executed", "rejected", "returned"):
        raise UnableToReadReport(
            f"Line {row.number}: the outcome is executed, rejected or returned, not “{given['outcome']}”."
        )
    return Reported(
        kind=outcome,
        end_to_end_id=given["end_to_end_id"],
        reference=given["reference"][:64],
        amount_minor=amount_minor,
        currency=currency,
        booked_on=booked_on,
        reason=given["reason"],
    )


def _accounts() -> frozenset[str]:
    """Return the IBANs of the programme."""
    named = (value.partition("/")[0] for value in settings.PROGRAMME_ACCOUNTS.values())
    return frozenset("".join(iban.split()).upper() for iban in named if iban)


def _text_of(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")
