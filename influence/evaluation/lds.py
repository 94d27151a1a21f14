"""Does an index predict what happens when contributors are taken away? Retrains coalitions and compares.

The measure is the linear datamodeling score over contributor coalitions (LDS, Park et al. 2023). Train on the works of
half of the holders, drawn many times. For each query, rank-correlate the utilities that result with the sums of the
present holders' scores. Average over queries. Always beside pro rata and two similarities (controls.py). How sure the
result is decides how much money goes by attribution (weight_ppb). Knows nothing of Django.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from influence.adapters import Example, LoadedModel, Retrain
from influence.evaluation import paid
from influence.evaluation.agreement import bootstrapped_lds, rank_correlations
from influence.evaluation.controls import embedding_scores, lexical_scores, plant
from influence.evaluation.retraining import Retraining, Task, UnableToRetrain, positions_of, retrain_subsets
from influence.index.shards import Array
from influence.scorers import Attributor, IndexItem, Scores
from influence.shares import BILLION

COALITIONS_MIN = 4
CHOOSING_SEED = 500_000
CHOOSING_COALITIONS_MIN = 2
"""Fewer than an audit needs: a poor choice costs agreement, which the audit then finds; it promises nothing."""
Progress = Callable[[str, int, int], None]


class UnableToAudit(Exception):
    """The audit cannot be made, or a retraining failed; the message says why."""

    status = 409
    problem = "unable-to-audit"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of those that are chosen from: its name in the report, its specific scores (Q, C) of own generations."""

    name: str
    specific: Array


def audit(
    index: Attributor,
    *,
    model: LoadedModel,
    items: Sequence[IndexItem],
    held_out: Sequence[Example],
    own_generations: Sequence[Example],
    cache: Path,
    coalitions: int = 16,
    processes: int = 2,
    seed: int = 0,
    rule: int = 2,
    weight_low: float = 0.05,
    weight_high: float = 0.50,
    controls: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Retrain coalitions of the index's holders and report, as plain JSON, how well its scores predict the outcome.

    The weight follows from the shares that `rule` pays on the model's own generations: from their lower bound.
    With `controls`, one more model is trained with a contributor of noise and a copier planted in it.
    Raises UnableToAudit without held-out examples or own generations.
    """
    started = time.monotonic()
    queries = (*held_out, *own_generations)
    if not held_out or not own_generations:
        raise UnableToAudit("There must be held-out examples and own generations to compare on.")
    chosen = choose_coalitions(index.holder_ids, count=coalitions, seed=seed)
    parts = {"held_out": slice(0, len(held_out)), "own_generations": slice(len(held_out), None)}
    task = _task_of(model.retrain, items, queries, chosen, seed)
    with _telling_why(), Retraining(task, cache, processes=processes) as running:
        # Scores need no retrained model: they are made while the workers retrain.
        beside = _baselines(index, model, items, queries, cache)
        features = {name: index.embed(queries[part]) for name, part in parts.items()}
        scored = {name: index.score(found) for name, found in features.items()}
        utilities = running.utilities(progress)
    present = presence(index.holder_ids, chosen)
    measured = {
        name: compare(
            present,
            {baseline: scores[part] for baseline, scores in beside.items()},
            scored[name],
            utilities[:, part],
            seed,
        )
        for name, part in parts.items()
    }
    judged = {
        name: paid.Judged(features[name], scored[name], apart_from_mean(utilities[:, part]))
        for name, part in parts.items()
    }
    shares = paid.report(index, judged, present, seed=seed, choose_on=("held_out", "own_generations"))
    planted = None
    if controls:
        if progress is not None:
            progress("controls", 0, 1)
        planted = plant(
            model=model,
            items=items,
            coalition=chosen[0],
            config=index.config,
            queries=own_generations,
            cache=cache,
            seed=seed,
            rule=rule,
            k=shares["items"],
        )
    own = measured["own_generations"]
    lds_low = shares["own_generations"][f"rule_{rule}"]["low"]
    weight = weight_ppb(lds_low, weight_low=weight_low, weight_high=weight_high)
    return {
        "index_sha256": index.sha256,
        "method": index.manifest["method"],
        "rule": rule,
        "coalitions": len(chosen),
        "seed": seed,
        "queries": {"held_out": len(held_out), "own_generations": len(own_generations)},
        **measured,
        "paid": shares,
        "controls": None if planted is None else planted.to_json(),
        "lds_low": lds_low,
        "weight_low": weight_low,
        "weight_high": weight_high,
        "weight_ppb": weight,
        "passed": weight > 0 and own["undivided"]["lds"] > own["pro_rata"]["lds"],
        "seconds": round(time.monotonic() - started, 1),
    }


def choose(
    candidates: Sequence[Candidate],
    *,
    model: LoadedModel,
    items: Sequence[IndexItem],
    own_generations: Sequence[Example],
    holder_ids: Sequence[int],
    cache: Path,
    coalitions: int = 16,
    processes: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """LDS of each candidate's specific part, on coalitions that the evaluation of this seed and number does not use.

    The best of several measures is partly lucky: the coalitions that choose must not be those that report.
    Raises UnableToAudit when too few coalitions are left to choose on.
    """
    reported = set(choose_coalitions(holder_ids, count=coalitions, seed=seed))
    possible = math.comb(len(holder_ids), len(holder_ids) // 2) - len(reported)
    if possible < CHOOSING_COALITIONS_MIN:
        raise UnableToAudit("The audit needs every coalition there is: none is left to choose on.")
    others = choose_coalitions(holder_ids, count=min(coalitions, possible), seed=seed + CHOOSING_SEED, besides=reported)
    utilities = retrained_utilities(
        model, items, own_generations, others, cache=cache, processes=processes, seed=seed, progress=progress
    )
    present, apart = presence(holder_ids, others), utilities - utilities.mean(1, keepdims=True)
    return {
        candidate.name: round(float(rank_correlations(present @ candidate.specific.T, apart).mean()), 4)
        for candidate in candidates
    }


def retrained_utilities(
    model: LoadedModel,
    items: Sequence[IndexItem],
    queries: Sequence[Example],
    coalitions: Sequence[tuple[int, ...]],
    *,
    cache: Path,
    processes: int,
    seed: int,
    progress: Progress | None,
) -> Array:
    """Retrain a model on each coalition's items and return its utilities of the queries, (coalitions, queries)."""
    task = _task_of(model.retrain, items, queries, coalitions, seed)
    with _telling_why():
        return retrain_subsets(task, cache, processes=processes, progress=progress)


def retrain_ahead(
    retrain: Retrain,
    items: Sequence[IndexItem],
    *,
    cache: Path,
    coalitions: int = 16,
    processes: int = 1,
    seed: int = 0,
) -> Retraining:
    """Retrain the coalitions of a later audit while the block runs, before there is an index or a query.

    That audit takes the kept models if its items, holders, seed, `coalitions` and `cache` are these; otherwise it
    retrains. Coalitions do not depend on the index, so nothing of the comparison is known in advance. Raises
    UnableToAudit for too many or too few coalitions.
    """
    holders = sorted({item.holder_id for item in items})
    chosen = choose_coalitions(holders, count=coalitions, seed=seed)
    return Retraining(_task_of(retrain, items, (), chosen, seed), cache, processes=processes)


def _task_of(
    retrain: Retrain | None,
    items: Sequence[IndexItem],
    queries: Sequence[Example],
    coalitions: Sequence[tuple[int, ...]],
    seed: int,
) -> Task:
    if retrain is None:
        raise UnableToAudit("This model cannot be retrained: its factory gives no way to.")
    owners = [item.holder_id for item in items]
    return Task(
        retrain=retrain,
        examples=tuple(item.example for item in items),
        queries=tuple(queries),
        subsets=tuple(positions_of(owners, coalition) for coalition in coalitions),
        seeds=tuple(seed * 1_000 + number for number in range(len(coalitions))),
    )


@contextlib.contextmanager
def _telling_why() -> Iterator[None]:
    try:
        yield
    except UnableToRetrain as reason:
        raise UnableToAudit(str(reason)) from reason


def weight_ppb(lds_low: float, *, weight_low: float, weight_high: float) -> int:
    """Part of the pool that follows attribution, in parts per billion: 0 at weight_low, all of it at weight_high."""
    return round(BILLION * min(max((lds_low - weight_low) / (weight_high - weight_low), 0.0), 1.0))


def choose_coalitions(
    holder_ids: Sequence[int], *, count: int, seed: int, besides: Collection[tuple[int, ...]] = ()
) -> tuple[tuple[int, ...], ...]:
    """Draw different halves of the holders, at random; a larger draw begins with the same ones.

    Raises UnableToAudit when there are not `count` different halves, or `count` is too small.
    """
    half = len(holder_ids) // 2
    possible = math.comb(len(holder_ids), half) - len(besides)
    least = CHOOSING_COALITIONS_MIN if besides else COALITIONS_MIN
    if not least <= count <= possible:
        raise UnableToAudit(
            f"{len(holder_ids)} holders have {possible} different halves; between {least} and that many "
            f"coalitions can be retrained, not {count}."
        )
    chance = random.Random(seed)
    chosen: dict[tuple[int, ...], None] = {}
    while len(chosen) < count:
        drawn = tuple(sorted(chance.sample(list(holder_ids), half)))
        if drawn not in besides:
            chosen[drawn] = None
    return tuple(chosen)


def _baselines(
    index: Attributor, model: LoadedModel, items: Sequence[IndexItem], queries: Sequence[Example], cache: Path
) -> dict[str, Array]:
    """Scores (Q, C) of the methods that stand beside the index: they have no parts, general or specific."""
    counts = np.array([sum(holder == item.holder_id for item in items) for holder in index.holder_ids], dtype=float)
    found = {"pro_rata": np.repeat(counts[None], len(queries), axis=0)}
    wording = lexical_scores(model=model, items=items, queries=queries, cache=cache)
    if wording is not None:
        found["lexical"] = wording
    embedded = embedding_scores(model=model, items=items, holder_ids=index.holder_ids, queries=queries)
    if embedded is not None:
        found["embedding"] = embedded
    return found


def presence(holder_ids: Sequence[int], coalitions: Sequence[Collection[int]]) -> Array:
    return np.array([[holder in coalition for holder in holder_ids] for coalition in coalitions], dtype=float)


def compare(
    present: Array, beside: Mapping[str, Array], scores: Scores, utilities: Array, seed: int
) -> dict[str, dict[str, float]]:
    """Compare undivided scores and baselines with the utilities, the specific part with the differences of a query.

    The number of items in a coalition moves all utilities together, and pro rata predicts that, too. The difference
    from the mean over queries does not contain it, and the specific shares are paid for that difference.
    """
    apart = apart_from_mean(utilities)
    return {
        "undivided": bootstrapped_lds(present @ (scores.specific + scores.general).T, utilities, seed=seed),
        "specific": bootstrapped_lds(present @ scores.specific.T, apart, seed=seed),
        "general": bootstrapped_lds((present @ scores.general)[:, None], utilities.mean(1, keepdims=True), seed=seed),
        **{name: bootstrapped_lds(present @ scored.T, utilities, seed=seed) for name, scored in beside.items()},
    }


def apart_from_mean(utilities: Array) -> Array:
    """Take from each retrained model's utilities (R, Q) their mean over queries, which its size alone moves."""
    return np.asarray(utilities - utilities.mean(1, keepdims=True))
