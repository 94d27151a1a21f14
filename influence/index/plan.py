"""The plan of a build: everything that its steps will need, decided and written down before the first of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from influence import ensemble
from influence.adapters import Example, LoadedModel, UnableToEmbed
from influence.gradients.layers import UnableToTrace
from influence.gradients.states import UnableToLoadState, check_state
from influence.gradients.tracing import layers_of
from influence.index.artefacts import UnableToBuildIndex
from influence.index.build import FORMAT, LABELS, ORDER, PLAN, Build, drafts_of
from influence.index.config import IndexConfig
from influence.index.files import digest_of_state, throw_away, write_json
from influence.index.shards import save_array
from influence.index.sources import Source

PROBED = 64
"""Items among which the probe chooses a few of different lengths."""


def plan_build(
    directory: Path,
    *,
    model: LoadedModel,
    source: Source,
    config: IndexConfig,
    mean_of: Sequence[Example] = (),
) -> Build:
    """Decide all that steps will need, or take up the plan of a build that was cut off.

    A draft of other items, another model or another configuration is thrown away. Each plan has a draft of its own
    name: late writes of another plan's step never come into it. Raises UnableToBuildIndex without items or checkpoints,
    for a checkpoint that the module cannot take, and for a model with wrong gradients on a few of the items.
    """
    if not len(source):
        raise UnableToBuildIndex("There is no training item.")
    if not model.checkpoints:
        raise UnableToBuildIndex("There is no checkpoint.")
    describes = {
        "format": FORMAT,
        "method": ensemble.method_of(model, config),
        "adapter": model.adapter.name,
        "checkpoints": [digest_of_state(state) for state in model.checkpoints],
        "initial": None if model.initial is None else digest_of_state(model.initial),
        "config": config.to_json(),
        "config_sha256": config.sha256,
        "members": len(model.checkpoints),
        "items_at_build": len(source),
        "items_sha256": source.sha256,
        "mean_query_of": "own generations" if mean_of else "training items",
    }
    decided = {
        "describes": describes,
        "config": config.to_json(),
        "members": len(model.checkpoints),
        "items": len(source),
        "mean_of": [[list(each.tokens), each.prompt_tokens, each.data.hex()] for each in mean_of],
    }
    written = json.dumps(decided, sort_keys=True)
    digest = hashlib.sha256(written.encode()).hexdigest()[:16]
    draft = directory.with_name(f".{directory.name}.{digest}.draft")
    if _read_plan(draft) != json.loads(written):
        for other in drafts_of(directory):
            throw_away(other)
        _check_model(model, source, config)
        draft.mkdir(parents=True)
        labels = source.labels()
        save_array(draft / LABELS, labels)
        # By holder, then work, then the source's order: all items of a holder lie together.
        save_array(draft / ORDER, np.lexsort((labels[1], labels[0])))
        write_json(draft / PLAN, decided)
    return Build(directory, model=model, source=source)


def _check_model(model: LoadedModel, source: Source, config: IndexConfig) -> None:
    """Try the model on a few items before time is spent on all. Raises UnableToBuildIndex, with the layer's name."""
    try:
        layers_of(model.adapter, left_out=config.left_out)
        for number, state in enumerate(model.checkpoints):
            check_state(model.adapter.module, state, called=f"Checkpoint {number + 1}")
        if model.initial is not None:
            check_state(model.adapter.module, model.initial, called="The initial checkpoint")
        positions = ensemble.sample_positions(len(source), PROBED, config.seed)
        examples = [example for example in source.examples(positions) if _is_readable(model, example)]
        if examples:
            ensemble.probe(model, config, examples)
    except (UnableToTrace, UnableToLoadState) as reason:
        raise UnableToBuildIndex(str(reason)) from reason


def _is_readable(model: LoadedModel, example: Example) -> bool:
    try:
        model.adapter.check(example)
    except UnableToEmbed:
        # The build names it.
        return False
    return True


def _read_plan(draft: Path) -> Any:
    try:
        return json.loads((draft / PLAN).read_text())
    except (OSError, ValueError):
        return None
