"""The works of a holder that weigh most: the evidence of a receipt, for any kind of index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from influence.index.shards import Array


@dataclass(frozen=True, slots=True)
class WorkScore:
    work_id: int
    score: float


def best_works(
    work_scores: Callable[[int, Sequence[int]], tuple[Array, Array]], holder_ids: Sequence[Sequence[int]], n: int
) -> list[dict[int, list[WorkScore]]]:
    """For each row and each holder asked for there: its n works with the largest score, best first.

    `work_scores` (holder, rows) gives a holder's works (W,) and their scores (W, rows). It is called once a holder, so
    that the items of a holder are read once for all generations that ask for it.
    """
    best: list[dict[int, list[WorkScore]]] = [{} for _ in holder_ids]
    for holder in sorted({holder for asked in holder_ids for holder in asked}):
        rows = [row for row, asked in enumerate(holder_ids) if holder in asked]
        works, scores = work_scores(holder, rows)
        order = (-scores).argsort(axis=0, kind="stable")[:n]
        for column, row in enumerate(rows):
            best[row][holder] = [
                WorkScore(int(works[place]), float(scores[place, column])) for place in order[:, column]
            ]
    return best
