"""Tables of payouts as CSV and XLSX, both safe to open in a spreadsheet, and as JSON Lines."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime

from contributors.queries.details import details_of
from ledger.money import asset, format_amount, from_minor
from payouts.models import Payout, PayoutAttempt, PayoutRun
from payouts.operations import bank_reports
from payouts.queries.arrivals import arrival_of
from payouts.queries.balances import Dormant
from payouts.queries.year_totals import YearTotal
from people.presentation import csv
from people.queries.programme import legal_entity_line

Table = tuple[list[str], list[list[object]]]


# The amount at the payee's bank; "not known" where nobody stated it, empty before the transfer.
ARRIVAL = ("arrived_currency", "arrived_amount", "exchange_rate", "arrival_source")


def history(payouts: Iterable[Payout]) -> bytes:
    """A contributor's own payouts."""
    header = ["payout", "run_cut_off", "currency", "gross", "tax_withheld", "paid", "taken_back", "state",
              "transferred_at", "expected_at_bank", "arrived_at", *ARRIVAL, "payer"]  # fmt: skip
    payer = legal_entity_line()
    return csv.table(
        header,
        (
            [
                p.public_id,
                _at(p.run.cut_off),
                p.currency,
                _money(p.gross_minor, p.currency),
                _money(p.tax_minor, p.currency),
                _money(p.amount_minor, p.currency),
                _money(p.reversed_minor, p.currency),
                p.state,
                _at(p.transferred_at),
                p.bank_payout.arrives_on if p.bank_payout else "",
                _at(p.settled_at),
                *_arrival(p),
                payer,
            ]
            for p in payouts
        ),
    )


def run_payouts(run: PayoutRun) -> bytes:
    """Every payout of a run, with the transfer that carried it."""
    return csv.table(*payouts_table(run))


def payouts_table(run: PayoutRun) -> Table:
    header = ["payout", "contributor", "legal_name", "display_name", "country", "currency", "gross", "tax_withheld",
              "amount", "destination", "state", "reason", "transfer", "transferred_at", "row_sha256",
              *ARRIVAL, "payer"]  # fmt: skip
    payer = legal_entity_line()
    payouts = run.payouts.select_related("contributor", "bank_payout").prefetch_related("attempts").order_by("pk")
    # A run names its payees as they were when it was approved; a draft names them as they are.
    named = details_of((p.contributor for p in payouts), run.approved_at)
    return (
        header,
        [
            [
                p.public_id, p.contributor.public_id, named[p.contributor_id].legal_name,
                named[p.contributor_id].display_name, named[p.contributor_id].country, p.currency,
                _money(p.gross_minor, p.currency), _money(p.tax_minor, p.currency),
                _money(p.amount_minor, p.currency), p.destination, p.state, p.reason,
                next((a.provider_transfer_id for a in p.attempts.all() if a.provider_transfer_id), ""),
                _at(p.transferred_at), bytes(p.row_sha256).hex(), *_arrival(p), payer,
            ]
            for p in payouts
        ],
    )  # fmt: skip


def run_left_out(run: PayoutRun) -> bytes:
    """List the contributors with money that the run does not pay, and why."""
    return csv.table(*left_out_table(run))


def left_out_table(run: PayoutRun) -> Table:
    header = ["contributor", "display_name", "currency", "amount", "reason", "hold", "words", "remedy"]
    return (
        header,
        [
            [
                row.contributor.public_id,
                row.contributor.display_name,
                row.currency,
                format_amount(row.amount, row.currency),
                row.reason,
                row.hold_reason,
                row.words,
                row.remedy,
            ]
            for row in run.left_out.select_related("contributor").order_by("pk")
        ],
    )


def run_attempts(run: PayoutRun) -> bytes:
    """Every try at the gateway, also those that failed."""
    return csv.table(*attempts_table(run))


def attempts_table(run: PayoutRun) -> Table:
    header = ["payout", "number", "kind", "state", "idempotency_key", "amount", "currency", "first_sent_at", "sends",
              "http_status", "error_code", "error_message", "reserve_entry", "transfer", "reversal",
              "balance_transaction", "request_sha256", "finished_at"]  # fmt: skip
    attempts = PayoutAttempt.objects.filter(payout__run=run).select_related("payout").order_by("payout_id", "number")
    return (
        header,
        [
            [
                a.payout.public_id, a.number, a.kind, a.state, a.idempotency_key,
                _money(a.amount_minor, a.payout.currency), a.payout.currency, _at(a.first_sent_at), a.sends,
                a.http_status, a.error_code, a.error_message, a.reserve_entry, a.provider_transfer_id,
                a.provider_reversal_id, a.balance_transaction, bytes(a.request_sha256).hex(), _at(a.finished_at),
            ]
            for a in attempts
        ],
    )  # fmt: skip


def bank_lines_to_fill(run: PayoutRun) -> bytes:
    """The orders of a run that the bank has not reported on, as the table that its confirmations are read from."""
    waiting = PayoutAttempt.objects.filter(
        payout__run=run, bank_file__isnull=False, state=PayoutAttempt.State.SENT
    ).select_related("payout__contributor")
    header = [*bank_reports.COLUMNS, "payee"]
    return csv.table(
        header,
        (
            [
                a.payout.public_id.hex,
                _money(a.amount_minor, a.payout.currency),
                a.payout.currency,
                "",
                "",
                "",
                "",
                a.payout.contributor.legal_name,
            ]
            for a in waiting.order_by("pk")
        ),
    )


# --- other forms of the same tables -------------------------------------------------------------------------------
AMOUNTS = {"gross", "tax_withheld", "amount", "paid", "taken_back"}


def run_workbook(run: PayoutRun) -> bytes:
    """A run as one XLSX file: payouts, skipped contributors, attempts. Amounts are numbers with the currency's
    decimals.

    Text with any first character is written as text, never as a formula. The same rows give the same bytes.
    """
    import xlsxwriter

    out = io.BytesIO()
    book = xlsxwriter.Workbook(
        out, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    )
    book.set_properties({"title": str(run), "created": run.created_at.astimezone(UTC).replace(tzinfo=None)})
    head = book.add_format({"bold": True, "bottom": 1})
    exponent = asset(run.currency).exponent
    money = book.add_format({"num_format": "#,##0" + ("." + "0" * exponent if exponent else "")})
    exact = book.add_format({"num_format": "#,##0." + "0" * asset(run.currency).scale})
    for name, (header, rows) in (
        ("Payouts", payouts_table(run)),
        ("Skipped", left_out_table(run)),
        ("Attempts", attempts_table(run)),
    ):
        sheet = book.add_worksheet(name)
        sheet.freeze_panes(1, 0)
        for column, title in enumerate(header):
            sheet.write_string(0, column, title, head)
            sheet.set_column(column, column, 16 if title in AMOUNTS else 24)
        for number, row in enumerate(rows, start=1):
            for column, cell in enumerate(row):
                if cell is None or cell == "":
                    continue
                if header[column] in AMOUNTS:
                    # An amount owed to the last billionth has more decimals than a cell keeps exactly, so it is written
                    # as text.
                    text = str(cell)
                    if len(text.lstrip("-").replace(".", "")) > DIGITS_MAX:
                        sheet.write_string(number, column, text)
                    else:
                        sheet.write_number(number, column, float(text), exact if name == "Skipped" else money)
                elif isinstance(cell, int):
                    sheet.write_number(number, column, cell)
                else:
                    sheet.write_string(number, column, str(cell))
    book.close()
    return out.getvalue()


# A number in a spreadsheet keeps fifteen significant digits.
DIGITS_MAX = 15


def run_json_lines(run: PayoutRun) -> bytes:
    """A run as JSON Lines, one object a row with its `table`; amounts are decimal strings."""
    lines = []
    for name, (header, rows) in (
        ("payout", payouts_table(run)),
        ("left_out", left_out_table(run)),
        ("attempt", attempts_table(run)),
    ):
        for row in rows:
            kept = {
                title: cell if cell is None or isinstance(cell, int) else str(cell)
                for title, cell in zip(header, row, strict=True)
            }
            lines.append(json.dumps({"table": name, **kept}, ensure_ascii=False) + "\n")
    return "".join(lines).encode()


def dormant(rows: Iterable[Dormant]) -> bytes:
    """List contributors that are owed money and were not heard of, for the report on unclaimed property."""
    header = ["contributor", "legal_name", "country", "currency", "amount", "last_contact"]
    return csv.table(
        header,
        (
            [
                row.contributor.public_id,
                row.contributor.legal_name,
                row.contributor.country,
                row.currency,
                format_amount(row.amount, row.currency),
                _at(row.last_contact),
            ]
            for row in rows
        ),
    )


def year_totals(year: int, rows: Iterable[YearTotal]) -> bytes:
    """List the totals of a year by payee, currency and tax form. Amounts are exact."""
    header = ["year", "contributor", "legal_name", "country", "tax_form", "tax_country", "tax_number_end", "currency",
              "gross", "withheld", "paid", "moved_by_hand", "tax_by_hand", "payer"]  # fmt: skip
    payer = legal_entity_line()
    return csv.table(
        header,
        (
            [
                year,
                row.contributor.public_id if row.contributor else "",
                row.legal_name,
                row.country,
                row.form_name,
                row.tax_country,
                row.number_last4,
                row.currency,
                *(
                    format_amount(units, row.currency)
                    for units in (row.gross, row.withheld, row.paid, row.by_hand, row.tax_by_hand)
                ),
                payer,
            ]
            for row in rows
        ),
    )


def _money(minor: int, currency: str) -> str:
    return format_amount(from_minor(minor, currency), currency, decimals=asset(currency).exponent)


def _arrival(payout: Payout) -> list[object]:
    here = arrival_of(payout)
    return ["", "", "", ""] if here is None else [here.currency, here.number, here.rate, here.source]


def _at(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else ""
