"""Indexes of vectors that an adapter supplies: an encoder's embeddings, or features that a service computed itself.

Everything but the vectors is the index of influence (influence/index/reader.py): int8 items in shards, exact sums of
holders, specific and general scores. There is no basis to fit, so that adding items costs nothing but their vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from influence.adapters import Example, LoadedModel, UnableToEmbed
from influence.curvature import Energy
from influence.index import artefacts, build, reader, sums, tails
from influence.index.artefacts import Manifest, UnableToBuildIndex, UnableToOpenIndex
from influence.index.config import IndexConfig
from influence.index.files import MEAN_QUERY, OWN, digest_of_state, files_of
from influence.index.reader import Index, IndexItem, Progress
from influence.index.shards import Array, Items, Shard, save_array, write_shard
from influence.index.sources import Listed, Source, read_all

FORMAT = "tributary-supplied/1"


class SuppliedIndex(Index):
    """An opened index with the adapter's vectors as features (B, M, K)."""

    def embed(self, examples: Sequence[Example]) -> Array:
        """Return the adapter's vectors (B, M, K). Raises UnableToEmbed, with the position of the example."""
        for position, example in enumerate(examples):
            try:
                self.check(example)
            except UnableToEmbed as reason:
                raise UnableToEmbed(f"Example {position}: {reason}") from reason
        assert self._model is not None, "Checked above."
        found = _vectors(self._model, examples, self.config.batch)
        if found.shape[1:] != self.mean_query.shape:
            raise UnableToEmbed(f"Features of {found.shape[1:]} where the index has {self.mean_query.shape}.")
        return found

    def embed_items(self, examples: Sequence[Example], report: Progress, energy: Energy) -> Array:
        found = self.embed(examples)
        flat = torch.from_numpy(found).flatten(1)
        # There is no basis that could fit worse than before.
        energy.add(flat, flat)
        return found


def build_index(
    directory: Path,
    *,
    model: LoadedModel,
    items: Sequence[IndexItem] | Source,
    config: IndexConfig,
    mean_of: Sequence[Example] = (),
    progress: Progress | None = None,
) -> SuppliedIndex:
    """Embed every item, sum by holder; `directory` appears when all of it is done.

    Raises UnableToBuildIndex for another kind of adapter, no items, or an item that it cannot embed.
    """
    report = progress or build.silent
    if model.adapter.name != config.attributor:
        raise UnableToBuildIndex(
            f"The attributor {config.attributor} needs an adapter of that kind; this model's is {model.adapter.name}."
        )
    if not len(items):
        raise UnableToBuildIndex("There is no training item.")
    if not isinstance(items, Sequence):
        items = read_all(items)
    for position, item in enumerate(items):
        try:
            model.adapter.check(item.example)
        except UnableToEmbed as reason:
            raise UnableToBuildIndex(f"Item {position}, of work {item.work_id}: {reason}") from reason
    source = Listed(items)
    labels = source.labels()
    order = np.lexsort((labels[1], labels[0]))
    owners = sums.owners_of_clusters(labels)
    with artefacts.appearing(directory) as draft:
        shards: list[Shard] = []
        total: Array = np.zeros(())
        for start in range(0, len(items), config.shard_items):
            chosen = order[start : start + config.shard_items]
            found = _vectors(model, source.examples(chosen.tolist()), config.batch)
            shards.append(write_shard(draft, f"items-{len(shards):05d}", found, labels[:, chosen], divisor=len(items)))
            part = Items(draft, shards[-1:])
            sums.save(draft, f"work-{len(shards) - 1:05d}", sums.sum_by_holder(part, part.alive, owners))
            total = total + found.sum(0, dtype=np.float64)
            report("items", start + len(chosen), len(items))
        sums.merge(draft, [f"work-{number:05d}" for number in range(len(shards))])
        own = None if not mean_of or _brought(model) is not None else _vectors(model, mean_of, config.batch)
        mean_query = _brought(model) if own is None else own.mean(0)
        mean_query_of = "training items" if mean_query is None else "own generations"
        save_array(draft / MEAN_QUERY, (total / len(items) if mean_query is None else mean_query).astype("f4"))
        tails_file = None
        if own is not None:
            save_array(draft / OWN, own)
            tails_file = tails.freeze(draft, Items(draft, shards), own)
        manifest: Manifest = {
            "format": FORMAT,
            "method": getattr(model.adapter, "measures", config.attributor),
            "adapter": model.adapter.name,
            "checkpoints": [digest_of_state(state) for state in model.checkpoints],
            "initial": None,
            "config": config.to_json(),
            "config_sha256": config.sha256,
            # No member has a basis, and thus none a file.
            "members": 0,
            "shape": [int(length) for length in np.shape(total)],
            "items_at_build": len(items),
            "items_sha256": source.sha256,
            "mean_query_of": mean_query_of,
            "revision": 1,
            "shards": [shard.to_json() for shard in shards],
            "removed_file": None,
            "tails_file": tails_file,
            "overlay": None,
            "captured": [1.0],
            "added": {"items": 0, "energy_whole": 0.0, "energy_held": 0.0},
            "counts": {
                "items": len(items),
                "works": len(np.unique(labels[1])),
                "holders": np.load(draft / sums.HOLDERS).shape[1],
                "removed_items": 0,
            },
        }
        artefacts.write_manifest(draft, manifest, files_of(manifest))
        artefacts.drop_strangers(draft)
    return open_index(directory, model=model)


def open_index(path: Path, *, model: LoadedModel | None = None, sha256: str | None = None) -> SuppliedIndex:
    """Check every file against the manifest, and the model's adapter and checkpoints against those of the build.

    Raises UnableToOpenIndex when one of them differs.
    """
    manifest, found = artefacts.read_manifest(path, form=FORMAT, sha256=sha256)
    if model is not None:
        if model.adapter.name != manifest["adapter"]:
            raise UnableToOpenIndex(f"Foreign: it was built for {manifest['adapter']}, not {model.adapter.name}.")
        if [digest_of_state(state) for state in model.checkpoints] != manifest["checkpoints"]:
            raise UnableToOpenIndex("Foreign: it was built from other checkpoints than this model's.")
    return SuppliedIndex(path, manifest, found, model)


def extend_index(
    path: Path, *, model: LoadedModel, items: Sequence[IndexItem], progress: Progress | None = None
) -> SuppliedIndex:
    with artefacts.changing(path):
        reader.append_items(open_index(path, model=model), items, progress or build.silent)
        return open_index(path, model=model)


def remove_works(path: Path, *, work_ids: Sequence[int], model: LoadedModel | None = None) -> SuppliedIndex:
    with artefacts.changing(path):
        reader.take_out(open_index(path, model=model), work_ids)
        return open_index(path, model=model)


def _vectors(model: LoadedModel, examples: Sequence[Example], batch: int) -> Array:
    adapter: Any = model.adapter
    parts = [adapter.vectors(examples[start : start + batch]) for start in range(0, len(examples), batch)]
    return np.asarray(torch.cat(parts).float().numpy())


def _brought(model: LoadedModel) -> Array | None:
    """The mean over own generations that the adapter brings, if it does."""
    brought = getattr(model.adapter, "mean_query", None)
    return None if brought is None else np.asarray(brought, dtype=np.float32)
