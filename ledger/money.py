"""Money as integers: assets and their scales, decimal strings, minor units, exact apportionment.

Decides how many units make one of a currency and which part gets the last unit when an amount does not divide. Pure: it
knows no database and no other module.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

PPB = 1_000_000_000
UNITS_MAX = 2**63 - 1
_DECIMAL = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,19})?")

Int64s = npt.NDArray[np.int64]


class UnableToParseAmount(Exception):
    """A decimal string that is no amount of its asset; the message names the fault."""

    status = 422
    problem = "amount-invalid"


class UnableToApportion(Exception):
    """Weights over which nothing can be divided; the message names the fault."""

    status = 422
    problem = "weights-invalid"


@dataclass(frozen=True, slots=True)
class Asset:
    """A currency: `scale` decimals are kept in the ledger, `exponent` decimals can be paid."""

    id: int
    code: str
    scale: int
    exponent: int

    @property
    def one(self) -> int:
        """Units in one of the currency."""
        return int(10**self.scale)

    @property
    def minor(self) -> int:
        """Units in the smallest amount that a bank can pay (a cent, a yen, a fils)."""
        return int(10 ** (self.scale - self.exponent))


# The database's table of assets holds the same rows; a test compares them.
ASSETS: dict[str, Asset] = {
    code: Asset(number, code, scale, exponent)
    for number, (code, scale, exponent) in enumerate(
        [
            ("USD", 9, 2), ("EUR", 9, 2), ("JPY", 7, 0), ("GBP", 9, 2), ("CHF", 9, 2), ("CAD", 9, 2), ("AUD", 9, 2),
            ("SEK", 9, 2), ("NOK", 9, 2), ("DKK", 9, 2), ("PLN", 9, 2), ("HUF", 9, 2), ("TWD", 9, 2), ("KRW", 7, 0),
            ("KWD", 9, 3), ("BHD", 9, 3),
        ],
        start=1,
    )
}  # fmt: skip


def asset(code: str) -> Asset:
    """The asset of an ISO 4217 code. Raises UnableToParseAmount for one that the ledger does not keep."""
    try:
        return ASSETS[code]
    except KeyError:
        raise UnableToParseAmount(f"The ledger keeps no currency {code!r}.") from None


def parse_amount(text: str, code: str) -> int:
    """Units of a decimal string such as "0.05".

    Raises UnableToParseAmount for text that is no plain decimal, has more decimals than the asset or is beyond its
    range.
    """
    kept = asset(code)
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise UnableToParseAmount(f"{text!r} is no decimal amount, such as 12.50.")
    decimals = len(text.partition(".")[2])
    if decimals > kept.scale:
        raise UnableToParseAmount(f"{text} has {decimals} decimals; {code} is kept with {kept.scale}.")
    units = int(Decimal(text).scaleb(kept.scale))
    if abs(units) > UNITS_MAX:
        raise UnableToParseAmount(f"{code} {text} is larger than the ledger can hold.")
    return units


def format_amount(units: int, code: str, *, decimals: int | None = None) -> str:
    """The decimal string of `units`, exact, with all decimals of the asset.

    `decimals` shows fewer where the rest are zero. It never rounds: other digits stay.
    """
    kept = asset(code)
    whole, fraction = divmod(abs(units), kept.one)
    digits = f"{fraction:0{kept.scale}d}"
    if decimals is not None:
        digits = digits[:decimals] + digits[decimals:].rstrip("0")
    sign = "-" if units < 0 else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def whole_minor(units: int, code: str) -> int:
    """The part of `units` that can be paid: rounded down to whole minor units. The rest stays owed."""
    return units - units % asset(code).minor


def to_minor(units: int, code: str) -> int:
    """Minor units (cents, yen) of a whole amount. Raises UnableToParseAmount where a fraction would be lost."""
    count, rest = divmod(units, asset(code).minor)
    if rest:
        raise UnableToParseAmount(f"{code} {format_amount(units, code)} is not payable: it has parts of a minor unit.")
    return count


def from_minor(count: int, code: str) -> int:
    return count * asset(code).minor


def from_billionths(billionths: int, code: str) -> int:
    """Convert a reported amount from billionths of the currency to units of the asset; less than a unit is cut."""
    return billionths * asset(code).one // 1_000_000_000


def part(units: int, ppb: int) -> int:
    """floor(units x ppb / 10^9)."""
    return units * ppb // PPB


def tie_key(subject: bytes, number: int) -> bytes:
    """The order of equal remainders: a digest that nobody chooses, different for every generation, the same on every
    run.
    """
    return hashlib.sha256(subject + number.to_bytes(8, "big")).digest()


def apportion(total: int, weights: Sequence[int], keys: Sequence[bytes]) -> list[int]:
    """Divide `total` units by `weights`, exactly, by largest remainder (Hamilton).

    Each part is within one unit of its quota; the parts sum to `total`; equal remainders are ordered by `keys`
    (see tie_key). Weights are integers of any size that need not sum to 10^9.

    Raises UnableToApportion where weights are negative, all zero, or not one for each key.
    """
    if len(weights) != len(keys):
        raise UnableToApportion(f"{len(weights)} weights, but {len(keys)} keys.")
    whole = sum(weights)
    if total < 0 or whole <= 0 or min(weights) < 0:
        raise UnableToApportion("Only an amount of zero or more can be divided, by weights of which one is positive.")
    pairs = [divmod(total * weight, whole) for weight in weights]
    parts = [quotient for quotient, _ in pairs]
    left = total - sum(parts)
    if left:
        order = sorted(range(len(pairs)), key=lambda i: (-pairs[i][1], keys[i]))
        for index in order[:left]:
            parts[index] += 1
    assert sum(parts) == total
    return parts


def apportion_rows(totals: Int64s, weights: Int64s, subjects: Sequence[bytes], numbers: Sequence[int]) -> Int64s:
    """`apportion` for many totals at once: row i divides totals[i] by weights[i], which must sum to 10^9.

    totals: (n,), weights: (n, m), both int64 and not negative; the tie key of cell (i, j) is
    tie_key(subjects[i], numbers[j]). Returns (n, m). Exact for every total below 2^63: a total is cut at 10^9, so
    that no product leaves 64 bits. Raises UnableToApportion for other shapes, and for weights that do not sum.
    """
    if weights.shape != (len(totals), len(numbers)) or len(subjects) != len(totals):
        raise UnableToApportion(f"{weights.shape} weights for {len(totals)} totals and {len(numbers)} parts.")
    if not len(totals):
        return np.zeros(weights.shape, dtype=np.int64)
    if (totals < 0).any() or (weights < 0).any() or (weights.sum(axis=1) != PPB).any():
        raise UnableToApportion("Shares must be parts of a billion, none negative, that sum to 1,000,000,000.")
    billions, rest = np.divmod(totals, PPB)
    fine = rest[:, None] * weights
    quotient = fine // PPB
    remainder = fine - quotient * PPB
    parts = billions[:, None] * weights + quotient
    left = totals - parts.sum(axis=1)
    order = np.argsort(-remainder, axis=1, kind="stable")
    ranked = np.take_along_axis(remainder, order, axis=1)
    rows = np.flatnonzero(left > 0)
    last = left[rows]
    # A tie matters only where the last unit given and the first one refused have equal remainders.
    inside = last < weights.shape[1]
    tied = np.zeros(len(rows), dtype=bool)
    tied[inside] = ranked[rows[inside], last[inside] - 1] == ranked[rows[inside], last[inside]]
    clear = np.zeros(len(totals), dtype=np.int64)
    clear[rows[~tied]] = last[~tied]
    given = np.arange(weights.shape[1])[None, :] < clear[:, None]
    bonus = np.zeros(weights.shape, dtype=np.int64)
    np.put_along_axis(bonus, order, given.astype(np.int64), axis=1)
    parts += bonus
    for row in rows[tied]:
        _break_tie(parts[row], remainder[row], int(left[row]), subjects[row], numbers)
    return parts


def _break_tie(parts: Any, remainder: Any, left: int, subject: bytes, numbers: Sequence[int]) -> None:
    boundary = np.sort(remainder)[::-1][left - 1]
    above = np.flatnonzero(remainder > boundary)
    equal = sorted(np.flatnonzero(remainder == boundary), key=lambda j: tie_key(subject, numbers[int(j)]))
    parts[above] += 1
    parts[equal[: left - len(above)]] += 1
