"""The paid shares of an index under both rules, held against retraining: the evaluation of paid money, not of scores.

Judged at the given accounts, and at accounts cut into one an item. Shares of the pieces are then summed by account.
Knows nothing of files or Django.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence.evaluation.agreement import bootstrapped_lds, rank_correlations
from influence.index.shards import Array
from influence.paid_items import ITEMS_PAID, ITEMS_PAID_CHOICES, Counted, Leaders, PaidItems, len_of
from influence.scorers import Attributor, Scores

NOISE_Z = 2.0
LDS_TOLERANCE = 0.01
"""Values of K with an agreement this close to the best are equals: the least total variation decides."""


@dataclass(frozen=True, slots=True)
class Pay:
    """The pay of Q generations, not yet divided: of accounts as they are (Q, C) and of the same accounts cut into one
    an item (Q, C). `unearned` (Q,) divides the pool as well and is nobody's."""

    whole: Array
    cut: Array
    unearned: Array

    def shares(self) -> Array:
        return _parts(self.whole, self.unearned)

    def shares_cut(self) -> Array:
        """Shares where every account is cut."""
        return _parts(self.cut, np.zeros(len(self.cut)))

    def shares_cut_alone(self) -> Array:
        """(Q, C): the share of each account where it alone is cut."""
        total = (self.whole.sum(1) + self.unearned)[:, None]
        after = total - self.whole + self.cut
        return np.asarray(np.divide(self.cut, after, out=np.zeros_like(after), where=after > 0))

    def split_gain(self) -> float | None:
        """Mean over accounts: the share of an account that alone is cut, over its share before. None without pay."""
        gained, before = self.shares_cut_alone().mean(0), self.shares().mean(0)
        paid = before > 0
        return round(float((gained[paid] / before[paid]).mean()), 4) if paid.any() else None


def by_sums(index: Attributor, features: Any, scores: Scores) -> Pay:
    """Rule 1: the positive sums of holders, less those below the noise floor. Items have no floor of their own."""
    positive = np.clip(scores.specific, 0, None).astype(np.float64)
    earned = positive * (scores.specific >= NOISE_Z * scores.specific_se)
    cut = np.zeros_like(positive)
    columns = np.searchsorted(np.asarray(scores.holder_ids), index.counted.labels[0])
    for positions, found in index.item_scores(features):
        for row, of_row in enumerate(np.clip(found, 0, None)):
            cut[row] += np.bincount(columns[positions], weights=of_row, minlength=cut.shape[1])
    return Pay(earned, cut, positive.sum(1) - earned.sum(1))


def by_rule(rule: int, index: Attributor, features: Any, scores: Scores, *, k: int) -> Pay:
    """Pay of the rule with this number; K is read by rule 2 alone."""
    return by_items(index, features, k=k) if rule == 2 else by_sums(index, features, scores)


def by_items(index: Attributor, features: Any, *, k: int) -> Pay:
    """Rule 2: the pay of items, summed by holder."""
    leaders = Leaders(index, features, k)
    whole = _by_holder(leaders.paid(k), index.holder_ids)
    return Pay(whole, _by_cut_accounts(index, features, k), np.zeros(len(whole)))


class _CutAccounts:
    """An index as if every item had an account of its own, numbered by its row."""

    def __init__(self, index: Attributor) -> None:
        self.net_tails = index.net_tails
        self.item_scores = index.item_scores
        labels = index.counted.labels.copy()
        labels[0] = np.arange(labels.shape[1])
        self.counted = Counted(labels, np.asarray(index.counted.alive))


def _by_cut_accounts(index: Attributor, features: Any, k: int) -> Array:
    cut: Any = _CutAccounts(index)
    found = np.zeros((len_of(features), len(index.holder_ids)))
    columns = np.searchsorted(np.asarray(index.holder_ids), index.counted.labels[0])
    for row, paid in enumerate(Leaders(cut, features, k).paid(k)):
        parts = paid.pay / np.maximum(np.bincount(paid.rows, minlength=len(paid.works)), 1)
        np.add.at(found[row], columns[paid.holders], parts[paid.rows])
    return found


def _by_holder(paid: Sequence[PaidItems], holder_ids: Sequence[int]) -> Array:
    found = np.zeros((len(paid), len(holder_ids)))
    for row, of_row in enumerate(paid):
        parts = of_row.pay / np.maximum(np.bincount(of_row.rows, minlength=len(of_row.works)), 1)
        np.add.at(found[row], np.searchsorted(np.asarray(holder_ids), of_row.holders), parts[of_row.rows])
    return found


def _parts(pay: Array, unearned: Array) -> Array:
    total = (pay.sum(1) + unearned)[:, None]
    return np.asarray(np.divide(pay, total, out=np.zeros_like(pay), where=total > 0))


# --- against retraining -----------------------------------------------------------------------------------------------
def effects(present: Array, apart: Array) -> Array:
    """(Q, C): mean utility of the retrained models with an account less that without it, for coalitions (R, C) and
    utilities (R, Q); the estimate of Wang and Jia 2023 (maximum sample reuse)."""
    absent = 1 - present
    with_it = present.T @ apart / np.maximum(present.sum(0), 1)[:, None]
    without = absent.T @ apart / np.maximum(absent.sum(0), 1)[:, None]
    return np.asarray((with_it - without).T)


def total_variation(shares: Array, effect: Array) -> float:
    """Mean over generations of the part of the pool that lies elsewhere than the positive effects do; the part that
    nobody gets lies elsewhere."""
    truth = _parts(np.clip(effect, 0, None), np.zeros(len(effect)))
    nobody = np.abs(truth.sum(1) - shares.sum(1))
    return round(float((np.abs(shares - truth).sum(1) + nobody).mean() / 2), 4)


@dataclass(frozen=True, slots=True)
class Judged:
    """Queries of one kind: their features, holders' scores, utilities (R, Q) less each model's mean."""

    features: Any
    scores: Scores
    apart: Array


def report(
    index: Attributor, parts: Mapping[str, Judged], present: Array, *, seed: int, choose_on: Sequence[str]
) -> dict[str, Any]:
    """Judge the paid shares of both rules on each kind of queries.

    K of rule 2 is chosen on the first kind that there is of `choose_on`, by agreement and then by total variation.
    """
    chooser = next(name for name in choose_on if name in parts)
    tried = {
        k: _judge(by_items(index, parts[chooser].features, k=k).shares(), parts[chooser], present)
        for k in choices(index.counted.count)
    }
    k = choose_k({k: (found["lds"], found["tv"]) for k, found in tried.items()})
    found: dict[str, Any] = {
        "items": k,
        "items_counted": index.counted.count,
        "net_tails": index.net_tails is not None,
        "chosen_on": chooser,
        "tried": {str(k): judged for k, judged in tried.items()},
    }
    for name, part in parts.items():
        found[name] = {
            "rule_1": _figures(by_sums(index, part.features, part.scores), part, present, seed),
            "rule_2": _figures(by_items(index, part.features, k=k), part, present, seed),
        }
    return found


def choices(items: int) -> list[int]:
    """The values of K that an index of so many items can try: with K of all items nothing is judged."""
    return [k for k in ITEMS_PAID_CHOICES if k < items] or [ITEMS_PAID]


def choose_k(tried: Mapping[int, tuple[float, float]]) -> int:
    """Choose among K by (LDS, total variation); of equals the largest, which depends least on single items."""
    best = max(lds for lds, _ in tried.values())
    near = [k for k, (lds, _) in tried.items() if lds >= best - LDS_TOLERANCE]
    return min(near, key=lambda k: (tried[k][1], -k))


def _figures(pay: Pay, part: Judged, present: Array, seed: int) -> dict[str, Any]:
    shares = pay.shares()
    return {
        **bootstrapped_lds(present @ shares.T, part.apart, seed=seed),
        "tv": total_variation(shares, effects(present, part.apart)),
        "holders": round(float((pay.whole > 0).sum(1).mean()), 2),
        "split_gain": pay.split_gain(),
        "split": _judge(pay.shares_cut(), part, present),
    }


def _judge(shares: Array, part: Judged, present: Array) -> dict[str, float]:
    """Agreement and total variation, without bounds."""
    lds = float(rank_correlations(present @ shares.T, part.apart).mean())
    return {"lds": round(lds, 4), "tv": total_variation(shares, effects(present, part.apart))}
