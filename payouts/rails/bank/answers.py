"""The bank's answers of every format as plain values: orders that it executed, rejected or returned, and the rest.

It knows nothing of models. A reader never guesses: a line without one clear meaning is listed with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date

BYTES_MAX = 4 * 1024 * 1024
TABLE, CAMT_053, CAMT_054, PAIN_002, MT_940 = "table", "camt.053", "camt.054", "pain.002", "MT940"
# The longest kept reference, and the part of the bank's own where the end-to-end id stands beside it.
REFERENCE_MAX = 64
_SHARED_MAX = 27
_NO_REFERENCE = {"", "NONREF", "NOTPROVIDED"}
OUR_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


class UnableToReadReport(Exception):
    """The file is no such report; the words name the place and the remedy."""

    status = 422
    problem = "bank-report-unreadable"


@dataclass(frozen=True)
class Reported:
    """One outcome. `amount_minor` None is the whole order: a rejection names no amount.

    Without an end-to-end id it is about every order of our file `message_id`, or of its block `block_id`.
    """

    kind: str
    end_to_end_id: str
    reference: str
    amount_minor: int | None
    currency: str
    booked_on: date
    reason: str = ""
    source: str = TABLE
    message_id: str = ""
    block_id: str = ""


@dataclass(frozen=True)
class Unbooked:
    """A line that changes nothing: its place in the file, and the reason."""

    place: str
    words: str


@dataclass
class Report:
    lines: list[Reported] = field(default_factory=list)
    others: list[Unbooked] = field(default_factory=list)

    def add(self, found: Reported | Unbooked) -> None:
        if isinstance(found, Reported):
            self.lines.append(found)
        else:
            self.others.append(found)


def reference_of(bank: str | None, end_to_end_id: str, kind: str, booked_on: date) -> str:
    """Return the reference under which an outcome counts once: the bank's own, with the end-to-end id beside it.

    A batch shares the bank's reference. A return may repeat the reference of its transfer, so that it is marked.
    """
    own = (bank or "").strip()
    if own.upper() in _NO_REFERENCE:
        own = f"NOREF {booked_on}"
    mark = "RET " if kind == "returned" else ""
    return f"{mark}{own[-_SHARED_MAX:]}/{end_to_end_id}"[:REFERENCE_MAX]


def numbered(lines: Iterable[Reported]) -> list[Reported]:
    """Tell bookings of one file apart that the bank gave no reference: the second one ends in #2."""
    seen: dict[str, int] = {}
    found = []
    for line in lines:
        seen[line.reference] = seen.get(line.reference, 0) + 1
        is_again = seen[line.reference] > 1 and "NOREF " in line.reference
        found.append(replace(line, reference=f"{line.reference}#{seen[line.reference]}") if is_again else line)
    return found


def is_ours(text: str) -> bool:
    """Tell whether the text has the form of our end-to-end ids."""
    return OUR_ID.fullmatch(text.strip().lower().replace("-", "")) is not None


def refuse_account(found: list[str], accounts: frozenset[str]) -> None:
    """Refuse a file in which no statement is of the programme's accounts. Raises UnableToReadReport."""
    if found and not any(is_account(text, accounts) for text in found):
        ours = ", ".join(f"{iban[:2]} … {iban[-4:]}" for iban in sorted(accounts)) or "none (PROGRAMME_ACCOUNTS)"
        raise UnableToReadReport(
            f"This is the statement of account … {found[0][-4:]}; bank files are paid from {ours}. "
            "Choose its statement."
        )


def is_account(text: str, accounts: frozenset[str]) -> bool:
    """Tell whether a statement's account is one of these IBANs, written as IBAN or as bank code and number."""
    plain = re.sub(r"[^0-9A-Z]", "", text.upper())
    # Some banks write the currency behind the number.
    written = {plain, re.sub(r"[A-Z]{3}$", "", plain)} - {""}
    return any(written & {iban, iban[4:]} for iban in accounts)
