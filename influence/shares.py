"""Scores to parts per billion that sum exactly: the last step, and one that a payee can repeat from stored values.

Rule 1 shares out sums of holders (`apportion_scores`), rule 2 the pay of items (`apportion_items`). Every number of
rule 1 is taken to the float4 that the database keeps and is an exact fraction from there on. Rule 2 sums parts of a
grid. So the same stored values give the same integers anywhere. Imports neither torch nor Django.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

BILLION = 1_000_000_000
GRID = 2**30
"""Rule 2: the pay of a generation's items is divided into so many parts, so that sums over items are exact integers."""


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


# --- rule 2 ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ItemShares:
    """Paid holders, ascending, and nobody else: parts of the grid, from which the parts per billion are made."""

    holder_ids: tuple[int, ...]
    parts: tuple[int, ...]
    ppb: tuple[int, ...]
    unattributed_ppb: int
    """0, or a billion where no item is paid."""


def apportion_items(*, pay: Any, rows: Any, holders: Any, key: str) -> ItemShares:
    """Sum the pay (n,) of items by holder and divide a billion in proportion, by the largest remainder.

    `rows` and `holders` (m,) name each item's holders; they get equal parts of it. A holder's part is the exact sum of
    its items' parts: accounts cut or joined change no sum. Raises UnableToShare for pay that is negative or not finite.
    """
    pay = np.asarray(pay, dtype=np.float64)
    total = float(pay.sum())
    if not math.isfinite(total) or (pay < 0).any():
        raise UnableToShare("The pay of an item is no finite number from 0 on.")
    if not total:
        return ItemShares((), (), (), BILLION)
    times = np.bincount(rows, minlength=len(pay))
    each = np.rint(pay / total * GRID).astype(np.int64) // np.maximum(times, 1)
    names, places = np.unique(np.asarray(holders, dtype=np.int64), return_inverse=True)
    parts = np.zeros(len(names), dtype=np.int64)
    np.add.at(parts, places, each[rows])
    names, parts = names[parts > 0], parts[parts > 0]
    ids = tuple(names.tolist())
    return ItemShares(ids, tuple(parts.tolist()), tuple(apportion_parts(parts, ids, key).tolist()), 0)


def apportion_parts(parts: Any, holder_ids: Sequence[int], key: str) -> Any:
    """Divide a billion in proportion to parts (n,) of the grid: (n,) int64. influence/verify.py does the same again."""
    parts = np.asarray(parts, dtype=np.int64)
    whole = int(parts.sum())
    # Products stay below 2**62: a part is at most the grid and a few roundings.
    ppb, remainders = np.divmod(parts * BILLION, whole)
    digests = [hashlib.sha256(f"{key}|{holder}".encode()).digest() for holder in holder_ids]
    order = sorted(range(len(parts)), key=lambda place: (-int(remainders[place]), digests[place]))
    ppb[order[: BILLION - int(ppb.sum())]] += 1
    return ppb
