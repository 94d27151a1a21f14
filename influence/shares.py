"""Scores to parts per billion that sum exactly: the last step, and one that a payee can repeat from stored values.

Every number is taken to the float4 that the database keeps and is an exact fraction from there on, so that the same
stored scores give the same integers anywhere. Imports neither torch nor Django.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

BILLION = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares in the order of holder_ids. With the unattributed part they sum to a billion."""

    holder_ids: tuple[int, ...]
    ppb: tuple[int, ...]
    unattributed_ppb: int


@dataclass(frozen=True, slots=True)
class GroupScore:
    """Holders that count as one: their score and its standard error, made of the members' sums and not of theirs."""

    holder_ids: tuple[int, ...]
    score: float
    standard_error: float


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
    groups: Sequence[GroupScore] = (),
) -> Shares:
    """Parts per billion in proportion to the positive scores.

    A positive score below `noise_z` standard errors keeps its part of the whole but does not earn it. That part is
    unattributed and goes to the base pool, instead of making others' shares larger. `key` (the generation's id)
    decides between equal remainders. A group is clipped once and gets the share of one holder in its place, named like
    the first of it. Its holders divide that in proportion to their own positive scores.
    Raises UnableToShare for lists of different lengths, a repeated holder, or a group with an unknown or shared one.
    """
    if not len(holder_ids) == len(scores) == len(standard_errors):
        raise UnableToShare("There must be one score and one standard error for each holder.")
    if len(set(holder_ids)) != len(holder_ids):
        raise UnableToShare("A holder appears twice.")
    exact = dict(zip(holder_ids, map(_as_stored, scores), strict=True))
    grouped = {holder_id for group in groups for holder_id in group.holder_ids}
    if len(grouped) != sum(len(group.holder_ids) for group in groups) or not exact.keys() >= grouped:
        raise UnableToShare("A group names a holder that another one names, or that has no score.")
    errors = dict(zip(holder_ids, map(_as_stored, standard_errors), strict=True))
    # Counted: holders of no group, and of each group the first in place of all.
    counted = {holder_id: exact[holder_id] for holder_id in holder_ids if holder_id not in grouped}
    for group in groups:
        counted[min(group.holder_ids)] = _as_stored(group.score)
        errors[min(group.holder_ids)] = _as_stored(group.standard_error)
    ppb, unattributed = _earned(counted, {unit: errors[unit] * Fraction(noise_z) for unit in counted}, key)
    for group in groups:
        ppb |= _divided(ppb[min(group.holder_ids)], group, exact, key)
    shares = Shares(tuple(holder_ids), tuple(ppb[holder_id] for holder_id in holder_ids), unattributed)
    assert sum(shares.ppb) + shares.unattributed_ppb == BILLION
    return shares


def _earned(scores: Mapping[int, Fraction], floors: Mapping[int, Fraction], key: str) -> tuple[dict[int, int], int]:
    """Divide between counted holders: their parts, keyed by the first holder of each, and the unattributed rest."""
    if any(floor < 0 for floor in floors.values()):
        raise UnableToShare("A standard error is negative.")
    positive = {unit: max(score, Fraction(0)) for unit, score in scores.items()}
    earned = {unit: score if score >= floors[unit] else Fraction(0) for unit, score in positive.items()}
    left = sum(positive.values(), Fraction(0)) - sum(earned.values(), Fraction(0))
    if not any(earned.values()):
        return dict.fromkeys(scores, 0), BILLION
    *ppb, unattributed = _largest_remainder(
        [*earned.values(), left], [*map(str, earned), "unattributed"], key, whole=BILLION
    )
    return dict(zip(earned, ppb, strict=True)), unattributed


def _divided(whole: int, group: GroupScore, scores: Mapping[int, Fraction], key: str) -> dict[int, int]:
    """Divide a group's share, by holder."""
    weights = [max(scores[holder_id], Fraction(0)) for holder_id in group.holder_ids]
    if not any(weights):
        # Only where the group's score is not above the rounding of theirs.
        weights = [Fraction(1)] * len(weights)
    ppb = _largest_remainder(weights, [*map(str, group.holder_ids)], key, whole=whole)
    return dict(zip(group.holder_ids, ppb, strict=True))


def recompute(
    *,
    holder_ids: Sequence[int],
    scores: Sequence[float],
    standard_errors: Sequence[float],
    noise_z: float,
    key: str,
    stored: Shares,
    groups: Sequence[GroupScore] = (),
) -> bool:
    """Tell whether the stored scores still give the stored shares, to the last part."""
    again = apportion_scores(
        holder_ids=holder_ids, scores=scores, standard_errors=standard_errors, noise_z=noise_z, key=key, groups=groups
    )
    return again == stored


def _as_stored(value: float) -> Fraction:
    if not math.isfinite(value):
        raise UnableToShare("A score is not a finite number.")
    try:
        return Fraction(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        raise UnableToShare("A score is too large to be stored.") from None


def _largest_remainder(weights: Sequence[Fraction], names: Sequence[str], key: str, *, whole: int) -> list[int]:
    total = sum(weights)
    quotas = [weight * whole / total for weight in weights]
    parts = [quota.numerator // quota.denominator for quota in quotas]
    # A weight of zero has no remainder and is last in line, so that it never receives a part.
    order = sorted(
        range(len(weights)),
        key=lambda place: (parts[place] - quotas[place], hashlib.sha256(f"{key}|{names[place]}".encode()).digest()),
    )
    for place in order[: whole - sum(parts)]:
        parts[place] += 1
    return parts
