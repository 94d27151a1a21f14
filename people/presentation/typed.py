"""Numbers as people type them: read where there is one reading, refused where there are two.

A comma is a decimal mark in one country and a mark of thousands in the next. `1,250` and `1.250` are therefore refused,
while `1250,50`, `1.250,50`, `1,250.50`, `1 250,50` and `1'250.50` each have one reading.
"""

from __future__ import annotations

import re

EXAMPLE = "1250.50"
_SPACES = " \u00a0\u2009\u202f"
_APOSTROPHES = "'\u2019"
_TYPED = re.compile(rf"[0-9]+(?:[.,{_SPACES}{_APOSTROPHES}][0-9]+)*")
_SAME = str.maketrans({**dict.fromkeys(_SPACES, " "), **dict.fromkeys(_APOSTROPHES, "'")})


class UnableToReadNumber(Exception):
    """A text that is no number, or more than one; the message shows a right spelling."""

    status = 422
    problem = "number-invalid"


def plain_decimal(text: str, *, thousandths: bool = False) -> str:
    """Return the decimal string of a typed number: digits, a point where there are decimals, a minus sign.

    `thousandths` tells that three decimals are usual (a currency with fils): `1.250` then is one and a quarter. Pages,
    files and banks of such a currency write every amount so. `1,250` stays refused. Raises UnableToReadNumber.
    """
    given = text.strip()
    sign, digits = ("-", given[1:].strip()) if given[:1] in ("-", "\u2212") else ("", given)
    if any(each.isdigit() and not each.isascii() for each in digits):
        raise UnableToReadNumber(f"“{given}” has other digits than 0 to 9. Type it as {EXAMPLE}.")
    if not _TYPED.fullmatch(digits):
        raise UnableToReadNumber(f"“{given}” is no number, such as {EXAMPLE}.")
    parts = re.split(r"([^0-9])", digits.translate(_SAME))
    numbers, marks = parts[::2], parts[1::2]
    if not marks:
        return sign + digits
    last = marks[-1]
    if set(marks) == {last} and (len(marks) > 1 or last not in ".,"):
        return sign + _joined(numbers, given)
    if len(marks) == 1:
        _refuse_two_readings(numbers, last, given, thousandths=thousandths)
    elif last not in ".," or last in marks[:-1] or len(set(marks[:-1])) > 1:
        raise UnableToReadNumber(f"The marks in “{given}” contradict each other. Type it as {EXAMPLE}.")
    return f"{sign}{_joined(numbers[:-1], given)}.{numbers[-1]}"


def _joined(groups: list[str], given: str) -> str:
    """Join groups of thousands: all but the first have three digits. Raises UnableToReadNumber."""
    first, *others = groups
    if others and (len(first) > 3 or first.startswith("0") or any(len(group) != 3 for group in others)):
        raise UnableToReadNumber(f"The groups of digits in “{given}” are no thousands. Type it as {EXAMPLE}.")
    return "".join(groups)


def _refuse_two_readings(numbers: list[str], mark: str, given: str, *, thousandths: bool) -> None:
    whole, fraction = numbers
    if len(fraction) != 3 or len(whole) > 3 or whole.startswith("0") or (thousandths and mark == "."):
        return
    # A fourth decimal leaves one reading: 1.125 again would be refused again.
    small = f"{whole}.{fraction}0" if not fraction.endswith("0") else f"{whole}.{fraction.rstrip('0')}".rstrip(".")
    raise UnableToReadNumber(f"“{given}” has two readings. Type {whole}{fraction} or {small}.")
