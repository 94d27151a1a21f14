"""The bank's statement in SWIFT's MT940, read by the library mt-940."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Any

from ledger.money import UnableToParseAmount, parse_amount, to_minor
from payouts.rails.bank.answers import (
    MT_940,
    OUR_ID,
    Report,
    Reported,
    UnableToReadReport,
    Unbooked,
    is_account,
    numbered,
    reference_of,
    refuse_account,
)

# Marks of a returned transfer: the code of the statement's line, the German business code, and words of the bank.
_RETURNED = re.compile(r"/RTRN/|/RTN/|RETURN|RETOURE|RUECK|RÜCK|REJECT", re.IGNORECASE)
_RETURN_CODES = {"NRTI", "FRTI", "SRTI"}
_GERMAN_RETURN = "159"


def read(text: str, accounts: frozenset[str]) -> Report:
    """Read the statements of these accounts (IBANs).

    Raises UnableToReadReport for a broken file, another account, and lines that do not make up the closing balance.
    """
    report = Report()
    parts = [part for part in re.split(r"(?m)^(?=:20:)", text.replace("\r\n", "\n")) if part.startswith(":20:")]
    if not parts:
        raise UnableToReadReport("The file has no statement that begins with :20:.")
    parsed = [_parsed(part, number) for number, part in enumerate(parts, start=1)]
    named = [str(one.data.get("account_identification") or "") for one in parsed]
    refuse_account(named, accounts)
    for number, (one, account) in enumerate(zip(parsed, named, strict=True), start=1):
        if not is_account(account, accounts):
            words = f"It is of another account (… {account[-4:]}) and was not read."
            report.others.append(Unbooked(f"Statement {number}", words))
            continue
        for place, line in enumerate(one, start=1):
            report.add(_line(line.data, f"Statement {number}, line {place}"))
    report.lines = numbered(report.lines)
    return report


def _parsed(part: str, number: int) -> Any:
    import mt940

    try:
        statement = mt940.parse(part)
    except Exception as error:  # The library raises its own errors, and those of its patterns.
        raise UnableToReadReport(f"Statement {number} is no MT940: {error}"[:300]) from error
    opening, closing = (
        statement.data.get(f"final_{name}_balance") or statement.data.get(f"intermediate_{name}_balance")
        for name in ("opening", "closing")
    )
    if opening is None or closing is None:
        raise UnableToReadReport(
            f"Statement {number} lacks its opening or closing balance (:60F:, :62F:). The file ends too early; "
            "download it again."
        )
    moved = sum((line.data["amount"].amount for line in statement if line.data.get("amount")), Decimal(0))
    if opening.amount.amount + moved != closing.amount.amount:
        raise UnableToReadReport(
            f"The lines of statement {number} do not lead from its opening to its closing balance. Lines are missing; "
            "download the file again."
        )
    return statement


def _line(data: dict[str, Any], place: str) -> Reported | Unbooked:
    amount = data["amount"]
    shown = f"{amount.currency} {abs(amount.amount)}"
    booked_on: date = data.get("entry_date") or data["date"]
    booked_on = date(booked_on.year, booked_on.month, booked_on.day)
    told = " ".join(str(value) for key, value in data.items() if isinstance(value, str) and key != "status")
    ids = _ids(data)
    if not ids:
        return Unbooked(place, f"{shown}: no order of ours, for it names no end-to-end id of ours.")
    if len(ids) > 1:
        return Unbooked(place, f"{shown}: it names {len(ids)} orders in one sum. Read the camt.053 of the day instead.")
    [own_id] = ids
    try:
        minor = to_minor(parse_amount(str(abs(amount.amount)), amount.currency), amount.currency)
    except UnableToParseAmount as error:
        return Unbooked(place, f"The order {own_id}: {error}")
    is_back = (
        data.get("id") in _RETURN_CODES
        or data.get("transaction_code") == _GERMAN_RETURN
        or _RETURNED.search(told) is not None
        or data["status"] == "RD"
    )
    if data["status"] == "D":
        kind = "executed"
    elif data["status"] in ("C", "RD") and is_back:
        kind = "returned"
    else:
        return Unbooked(
            place, f"The order {own_id}: {shown} came in without a mark of return. Ask the bank, then use the table."
        )
    reason = str(data.get("purpose") or data.get("posting_text") or "") if kind == "returned" else ""
    return Reported(
        kind, own_id, reference_of(data.get("bank_reference"), own_id, kind, booked_on), minor,
        amount.currency, booked_on, reason[:500], MT_940,
    )  # fmt: skip


def _ids(data: dict[str, Any]) -> list[str]:
    """Return our ids in the line: those of the field for it, or those in its text, also across a break of lines."""
    named = str(data.get("end_to_end_reference") or "").strip().lower()
    if OUR_ID.fullmatch(named):
        return [named]
    text = " ".join(str(data.get(key) or "") for key in ("transaction_details", "purpose", "customer_reference"))
    whole = re.sub(r"\?2[0-9]|\?6[0-3]|[\r\n]", "", text).lower()
    return list(dict.fromkeys(OUR_ID.findall(whole)))
