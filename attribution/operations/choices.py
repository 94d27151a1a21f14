"""Choose the configuration of an index by retraining, on other coalitions than those of its evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attribution.models import AttributionIndex, ModelVersion
from attribution.operations.factories import load_model
from attribution.operations.indexes import (
    AUDIT_GENERATIONS,
    OWN_GENERATIONS,
    Progress,
    UnableToAuditIndex,
    Wanted,
    audit_cache,
    build_index,
    index_items,
)

if TYPE_CHECKING:
    from influence.adapters import LoadedModel
    from influence.index.config import IndexConfig
    from influence.scorers import Attributor, IndexItem

DAMPINGS = (0.1, 0.3, 1.0)
LEXICAL_WEIGHTS = (0.25, 0.5, 1.0)
NODES = (1,)


def choose_index(
    *,
    index: AttributionIndex,
    at: datetime,
    dampings: Sequence[float] = DAMPINGS,
    nodes: Sequence[int] = NODES,
    lexical_weights: Sequence[float] = LEXICAL_WEIGHTS,
    coalitions: int = 16,
    processes: int = 2,
    generations: int = AUDIT_GENERATIONS,
    progress: Progress | None = None,
    device: str | None = None,
) -> tuple[AttributionIndex, dict[str, float]]:
    """Try dampings, numbers of nodes and weights of the wording; build the best as an index of the model version.

    Returns it (the same index, where nothing was better) with the agreement of everything that was tried, on own
    generations. It is not evaluated yet: `audit_index` draws other coalitions, which decided nothing.
    Raises UnableToAuditIndex when the model's factory offers no generations of its own.
    """
    from influence.evaluation import lds as auditing
    from influence.index.config import gauss_nodes

    version = index.model_version
    model = load_model(version=version, verify=True, device=device)
    if model.sample is None:
        raise UnableToAuditIndex("The model's factory offers no generations of its own.")
    items = index_items(version=version, model=model)
    present = _config_of(index)
    own = model.sample(generations, present.seed + 1)
    mean_of = model.sample(int(index.config.get("own_generations", OWN_GENERATIONS)), present.seed)
    cache = audit_cache(version=version)
    tried: dict[str, Mapping[str, Any]] = {}
    candidates = []
    for damping, count in itertools.product(dampings, nodes):
        changes = {"damping": damping, "nodes": gauss_nodes(count)}
        for name, config, built in _build(present, changes, lexical_weights, model, items, mean_of, cache, progress):
            features = built.embed(own)
            scores = built.score(features, **({"lexical_weight": config.lexical_weight} if "hybrid" in name else {}))
            tried[name] = config.to_json()
            candidates.append(auditing.Candidate(name, scores.specific))
    found = auditing.choose(
        candidates,
        model=model,
        items=items,
        own_generations=own,
        holder_ids=sorted({item.holder_id for item in items}),
        cache=cache,
        coalitions=coalitions,
        processes=processes,
        seed=present.seed,
        progress=progress,
    )
    best = tried[max(found, key=lambda name: found[name])]
    around = {"noise_z", "own_generations", "refit", "rule"}
    kept = {name: value for name, value in index.config.items() if name in around}
    wanted = {**best, **kept}
    return _existing(version, best) or build_index(model_version=version, config=wanted, at=at, device=device), found


def _build(
    present: IndexConfig,
    changes: Mapping[str, Any],
    lexical_weights: Sequence[float],
    model: LoadedModel,
    items: Sequence[IndexItem],
    mean_of: Sequence[Any],
    cache: Path,
    progress: Progress | None,
) -> list[tuple[str, IndexConfig, Any]]:
    """Candidates that one build gives: the midpoint alone and, where items have words, the hybrid by its weights."""
    from dataclasses import replace

    from influence import scorers
    from influence.index.sources import Listed

    # Works leave, come back and change hands from one choice to the next: a candidate is of these items.
    candidates = cache / "candidates" / Listed(items).sha256[:16]

    def built(config: IndexConfig) -> Attributor:
        path = candidates / config.sha256[:16]
        if path.exists():
            return scorers.open_attributor(path, model=model)
        return scorers.build(path, model=model, items=items, config=config, mean_of=mean_of, progress=progress)

    label = f"damping {changes['damping']:g}, {len(changes['nodes'])} node{'s' * (len(changes['nodes']) > 1)}"
    hybrid = replace(present, attributor="hybrid", **changes)
    alone = hybrid.of_part("midpoint")
    if not lexical_weights or model.adapter.name != "causal_lm":
        return [(f"midpoint, {label}", alone, built(alone))]
    both: Any = built(hybrid)
    return [
        (f"midpoint, {label}", alone, both.midpoint),
        *(
            (f"hybrid, {label}, wording {weight:g}", replace(hybrid, lexical_weight=weight), both)
            for weight in lexical_weights
        ),
    ]


def _config_of(index: AttributionIndex) -> IndexConfig:
    return Wanted.from_json(index.config).index


def _existing(version: ModelVersion, config: Mapping[str, Any]) -> AttributionIndex | None:
    usable = AttributionIndex.objects.select_related("model_version").filter(
        model_version=version, state__in=["built", "audited", "failed"]
    )
    return next((row for row in usable if _config_of(row).to_json() == config), None)
