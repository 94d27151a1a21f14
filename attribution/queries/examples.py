"""The worked example of the share rule for the page *How it works*: four items, made by the rule itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence.index.sums import NO_CLUSTER
from influence.paid_items import Array, Counted, paid_items

ITEMS_PAID = 2
HOLDERS = ("Ada", "Ada", "Bo", "Cy")
SCORES = (9.0, 4.0, 7.0, 3.0)
FACTORS = (1.0, 1.0, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item: score, excess and pay in nats, its factor for harm, and its share in parts per billion."""

    holder: str
    score: float
    excess: float
    factor: float
    pay: float
    share: int


@dataclass(frozen=True, slots=True)
class Example:
    """The items, the largest score first; the score that an item has to exceed, and K."""

    rows: list[ItemRow]
    threshold: float
    items_paid: int


class _Index:
    """An index in memory: an account for each item, so that shares are those of items."""

    net_tails = np.array(FACTORS, dtype=np.float32)

    def __init__(self) -> None:
        places = np.arange(len(SCORES))
        self.counted = Counted(np.stack([places, places, np.full(len(SCORES), NO_CLUSTER)]), places)

    def item_scores(self, _: Any) -> Iterator[tuple[Array, Array]]:
        yield self.counted.alive, np.array([SCORES], dtype=np.float32)


def shares_by_items() -> Example:
    """Judge the four items by rule 2 and divide a pool."""
    (paid,) = paid_items(_Index(), np.zeros((1, 1)), k=ITEMS_PAID)
    made = paid.shares(key="example")
    shares = dict(zip(made.holder_ids, made.ppb, strict=True))
    places = sorted(range(len(SCORES)), key=lambda place: -SCORES[place])
    of = {int(work): row for row, work in enumerate(paid.works)}
    rows = []
    for place in places:
        excess, factor = (float(paid.excess[of[place]]), FACTORS[place]) if place in of else (0.0, FACTORS[place])
        rows.append(ItemRow(HOLDERS[place], SCORES[place], excess, factor, excess * factor, shares.get(place, 0)))
    return Example(rows, paid.threshold, ITEMS_PAID)
