"""Evaluations made elsewhere: a service retrains its model and sends the utilities; everything else is computed here.

Coalitions follow from the index and its seed, scores from the index and the sent queries. Agreement, bounds and weight
are those of lds.audit. The utilities alone have to be believed; they are kept with the report as evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from influence.adapters import Example, UnableToEmbed
from influence.evaluation import paid
from influence.evaluation.lds import (
    COALITIONS_MIN,
    UnableToAudit,
    apart_from_mean,
    choose_coalitions,
    compare,
    presence,
    weight_ppb,
)
from influence.index.shards import Array
from influence.scorers import Attributor

COALITIONS_MAX = 256
QUERIES_MAX = 1_000
QUERIES_MIN = 8
TOLERANCE = 1e-3
PARTS = ("own_generations", "held_out")


def judge(
    index: Attributor,
    *,
    items_of: Mapping[int, int],
    queries: Mapping[str, Sequence[Example]],
    utilities: Mapping[str, Any],
    coalitions: int,
    seed: int,
    rule: int = 2,
    weight_low: float = 0.05,
    weight_high: float = 0.50,
) -> dict[str, Any]:
    """Report how well the index predicts sent utilities, as lds.audit does. `utilities` has for each part an array
    (coalitions, queries) in nats, higher is better; `items_of` the number of items of each holder.

    Raises UnableToAudit for shapes that do not fit, values that are not finite, or too few coalitions or queries.
    """
    if not COALITIONS_MIN <= coalitions <= COALITIONS_MAX:
        raise UnableToAudit(f"{COALITIONS_MIN} to {COALITIONS_MAX} coalitions are retrained, not {coalitions}.")
    chosen = choose_coalitions(index.holder_ids, count=coalitions, seed=seed)
    present = presence(index.holder_ids, chosen)
    counts = np.array([items_of.get(holder, 0) for holder in index.holder_ids], dtype=float)
    measured, judged = {}, {}
    for part in PARTS:
        asked = queries.get(part, ())
        if not asked and part != PARTS[0]:
            continue
        values = _matrix(part, utilities.get(part), rows=coalitions, columns=len(asked))
        try:
            features = index.embed(list(asked))
            scores = index.score(features)
        except UnableToEmbed as reason:
            raise UnableToAudit(f"{part}: {reason}") from reason
        beside = {"pro_rata": np.repeat(counts[None], len(asked), axis=0)}
        measured[part] = compare(present, beside, scores, values, seed)
        judged[part] = paid.Judged(features, scores, apart_from_mean(values))
    own = measured["own_generations"]
    shares = paid.report(index, judged, present, seed=seed, choose_on=("held_out", "own_generations"))
    lds_low = shares["own_generations"][f"rule_{rule}"]["low"]
    weight = weight_ppb(lds_low, weight_low=weight_low, weight_high=weight_high)
    return {
        "index_sha256": index.sha256,
        "method": index.manifest["method"],
        "rule": rule,
        "coalitions": coalitions,
        "seed": seed,
        "queries": {part: len(queries.get(part, ())) for part in PARTS},
        **measured,
        "paid": shares,
        "controls": None,
        "lds_low": lds_low,
        "weight_low": weight_low,
        "weight_high": weight_high,
        "weight_ppb": weight,
        "passed": weight > 0 and own["undivided"]["lds"] > own["pro_rata"]["lds"],
    }


def disagreements(found: Mapping[str, Any], claimed: Mapping[str, float]) -> list[str]:
    """Name each claimed figure that the utilities do not give: "lds", "lower", "upper" or "weight"."""
    own = found["paid"]["own_generations"][f"rule_{found['rule']}"]
    figures = {
        "lds": own["lds"],
        "lower": own["low"],
        "upper": own["high"],
        "weight": found["weight_ppb"] / 10**9,
    }
    return [
        f"{name} is {figures[name]:.4f} by the utilities, not {value:.4f}"
        for name, value in claimed.items()
        if abs(figures[name] - value) > TOLERANCE
    ]


def _matrix(part: str, told: Any, *, rows: int, columns: int) -> Array:
    if not QUERIES_MIN <= columns <= QUERIES_MAX:
        raise UnableToAudit(f"{part}: {QUERIES_MIN} to {QUERIES_MAX} queries are compared, not {columns}.")
    try:
        values = np.asarray(told, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (rows, columns):
        raise UnableToAudit(
            f"utilities.{part} must be {rows} rows (retrained models) of {columns} numbers (queries), not "
            f"{' x '.join(map(str, values.shape)) or 'nothing'}."
        )
    if not np.isfinite(values).all():
        raise UnableToAudit(f"utilities.{part}: a value is not finite.")
    return values
