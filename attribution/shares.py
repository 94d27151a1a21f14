"""Scores to parts per billion that sum exactly: the last step, and the one a payee can repeat from what is stored.

Every number is taken to the float4 that the database keeps and is an exact fraction from there on, so that the same
stored scores give the same integers anywhere. Imports neither torch nor Django.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

BILLION = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares in the order of holder_ids; together with what nobody is shown to have caused they sum to a billion."""

    holder_ids: tuple[int, ...]
    ppb: tuple[int, ...]
    unattributed_ppb: int


class UnableToShare(Exception):
    """The scores are not numbers that can be shared out."""

    status = 422
    problem = "unable-to-share"


def apportion_scores(
    *,
    holder_ids: Sequence[int],
    scores: Sequence[float],
    standard_errors: Sequence[float],
    noise_z: float,
    key: str,
) -> Shares:
    """Parts per billion in proportion to the positive scores.

    A positive score below `noise_z` standard errors keeps its part of the whole but does not earn it: that part is
    unattributed and goes to the floor pool, instead of making others' shares larger. `key` (the generation's id)
    decides between equal remainders.
    """
    if not len(holder_ids) == len(scores) == len(standard_errors):
        raise UnableToShare("There must be one score and one standard error for each holder.")
    if len(set(holder_ids)) != len(holder_ids):
        raise UnableToShare("A holder appears twice.")
    exact = [_as_stored(score) for score in scores]
    floors = [_as_stored(error) * Fraction(noise_z) for error in standard_errors]
    if any(floor < 0 for floor in floors):
        raise UnableToShare("A standard error is negative.")
    positive = [max(score, Fraction(0)) for score in exact]
    earned = [score if score >= floor else Fraction(0) for score, floor in zip(positive, floors, strict=True)]
    total = sum(positive, Fraction(0))
    if sum(earned) == 0:
        return Shares(tuple(holder_ids), (0,) * len(holder_ids), BILLION)
    ppb = _largest_remainder(
        [*earned, total - sum(earned, Fraction(0))], [*(str(holder) for holder in holder_ids), "unattributed"], key
    )
    shares = Shares(tuple(holder_ids), tuple(ppb[:-1]), ppb[-1])
    assert sum(shares.ppb) + shares.unattributed_ppb == BILLION
    return shares


def recompute(
    *,
    holder_ids: Sequence[int],
    scores: Sequence[float],
    standard_errors: Sequence[float],
    noise_z: float,
    key: str,
    stored: Shares,
) -> bool:
    """Whether the stored scores still give the stored shares, to the last part."""
    again = apportion_scores(
        holder_ids=holder_ids, scores=scores, standard_errors=standard_errors, noise_z=noise_z, key=key
    )
    return again == stored


def _as_stored(value: float) -> Fraction:
    if not math.isfinite(value):
        raise UnableToShare("A score is not a finite number.")
    try:
        return Fraction(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        raise UnableToShare("A score is too large to be stored.") from None


def _largest_remainder(weights: Sequence[Fraction], names: Sequence[str], key: str) -> list[int]:
    total = sum(weights)
    quotas = [weight * BILLION / total for weight in weights]
    parts = [quota.numerator // quota.denominator for quota in quotas]
    # A weight of zero has no remainder and is last in line, so that it never receives a part.
    order = sorted(
        range(len(weights)),
        key=lambda place: (parts[place] - quotas[place], hashlib.sha256(f"{key}|{names[place]}".encode()).digest()),
    )
    for place in order[: BILLION - sum(parts)]:
        parts[place] += 1
    return parts
