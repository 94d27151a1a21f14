"""The index of one model version: built once, opened by every worker, asked for each generation.

A directory: `manifest.json` (what it was built from and the sha256 of every file), a basis for each ensemble member,
shards of items (shards.py), the holders' sums and the mean query. Scoring touches the sums only, whatever the number of
works; items are read for evidence, and of those only the asked holders'. Sums are taken over the stored int8 rows, so
that work scores add up to their holder's score and items can be taken out again exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attribution import artefacts, ensemble, influence, shapley
from attribution.adapters import Example, LoadedModel, UnableToEmbed
from attribution.artefacts import Manifest, UnableToBuildIndex, UnableToOpenIndex
from attribution.configuration import IndexConfig
from attribution.ensemble import Node
from attribution.shards import SHARD_ITEMS, Array, Items, shard_files, write_shard
from attribution.work_scores import WorkScore, best_works

__all__ = [
    "Index",
    "IndexConfig",
    "IndexItem",
    "Scores",
    "UnableToBuildIndex",
    "UnableToEmbed",
    "UnableToOpenIndex",
    "WorkScore",
    "build_index",
    "digest_of_state",
    "extend_index",
    "open_index",
    "remove_works",
]

FORMAT = "tributary-index/2"
MEAN_QUERY = "mean_query.npy"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class IndexItem:
    """A training item, the work it was cut from, who holds the work and the work's duplicate cluster, if any."""

    example: Example
    work_id: int
    holder_id: int
    cluster_id: int | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """Predicted gain in the mean log-likelihood of a token, in nats, float32, columns in the order of holder_ids.

    `specific` (B, C) is what a holder taught about each generation beyond the average, `general` (C,) what it taught
    for the average generation; each with its standard error over the ensemble.
    """

    holder_ids: tuple[int, ...]
    specific: Array
    specific_se: Array
    general: Array
    general_se: Array


class Index:
    """An opened index. Scoring is thread-safe; embed from one thread at a time."""

    def __init__(self, path: Path, manifest: Manifest, sha256: str, model: LoadedModel | None) -> None:
        self.path = path
        self.manifest = manifest
        self.sha256 = sha256
        self.config = IndexConfig.from_json(manifest["config"])
        self._model = model
        self._holders: Array = np.load(path / manifest["holders_file"])
        self._sums = torch.from_numpy(np.load(path / manifest["sums_file"]))
        self.mean_query: Array = np.load(path / MEAN_QUERY)
        self.holder_ids: tuple[int, ...] = tuple(int(holder) for holder in self._holders)

    def check(self, example: Example) -> None:
        """Raise UnableToEmbed if this example could not be embedded."""
        if self._model is None:
            raise UnableToEmbed("The index was opened without its model.")
        self._model.adapter.check(example)

    def embed(self, examples: Sequence[Example]) -> Array:
        """Features (B, M, K) float32: for each ensemble member the whitened, reduced gradient of each utility."""
        for position, example in enumerate(examples):
            try:
                self.check(example)
            except UnableToEmbed as reason:
                raise UnableToEmbed(f"Example {position}: {reason}") from reason
        found = ensemble.embed(self.members, examples, self.config.batch)
        if not bool(found.isfinite().all()):
            raise UnableToEmbed("A gradient is not finite.")
        return found.numpy()

    def divided(self, features: Array) -> shapley.Divided:
        """Each member's scores of every holder, general and specific, for features (B, M, K)."""
        return shapley.divide(self._sums, torch.from_numpy(features), torch.from_numpy(self.mean_query))

    def score(self, features: Array) -> Scores:
        """Scores of every holder for features (B, M, K); costs B x M x C x K, whatever the number of works."""
        divided = self.divided(features)
        specific, specific_se = shapley.ensemble(divided.specific)
        general, general_se = shapley.ensemble(divided.general)
        return Scores(self.holder_ids, specific.numpy(), specific_se.numpy(), general.numpy(), general_se.numpy())

    def work_scores(self, features: Array, holder_id: int, rows: Sequence[int]) -> tuple[Array, Array]:
        """Works (W,) of a holder and their specific scores (W, rows) for these rows of features; reads no other items.

        The scores of a holder's works add up to the holder's score, unless a work is shared by a duplicate cluster.
        """
        queries = torch.from_numpy((features[list(rows)] - self.mean_query) / features.shape[1]).flatten(1)
        positions = self._items.of_holder(holder_id)
        works = np.unique(self._items.works[positions])
        scores = torch.zeros(len(works), len(rows))
        for chosen, found in self._items.chunks(positions):
            places = np.searchsorted(works, self._items.works[chosen])
            scores.index_add_(0, torch.from_numpy(places), torch.from_numpy(found).flatten(1) @ queries.T)
        return works, scores.numpy()

    def top_works(
        self, features: Array, holder_ids: Sequence[Sequence[int]], n: int
    ) -> list[dict[int, list[WorkScore]]]:
        """For each generation and each holder asked for: its n works with the largest specific score, best first."""
        return best_works(lambda holder, rows: self.work_scores(features, holder, rows), holder_ids, n)

    def item_features(self) -> Iterator[Array]:
        """Features (n, M, K) of every item that counts, a bounded number at a time, as the sums were made of them."""
        return (found for _, found in self._items.chunks(self._items.alive))

    @cached_property
    def members(self) -> list[list[Node]]:
        """The ensemble, each member's nodes with the model they differentiate."""
        if self._model is None:
            raise UnableToEmbed("The index was opened without its model.")
        return [
            ensemble.from_tensors(
                load_file(self.path / _member_file(number)), self._model, state, self.config, self.manifest["layers"]
            )
            for number, state in enumerate(self._model.checkpoints)
        ]

    @cached_property
    def _items(self) -> Items:
        return _open_items(self.path, self.manifest)


def build_index(
    directory: Path,
    *,
    model: LoadedModel,
    items: Sequence[IndexItem],
    config: IndexConfig | None = None,
    mean_of: Sequence[Example] = (),
    progress: Progress | None = None,
) -> Index:
    """Fit a basis for each checkpoint, embed every item, sum by holder; `directory` appears when all of it is done.

    `mean_of` are the model's own generations: their mean query separates general from specific, and is frozen here.
    """
    config = config or IndexConfig()
    report = progress or _silent
    if not items:
        raise UnableToBuildIndex("There is no training item.")
    if not model.checkpoints:
        raise UnableToBuildIndex("There is no checkpoint.")
    _check_items(model, items)
    with artefacts.appearing(directory) as draft:
        examples = [item.example for item in items]
        members: list[list[Node]] = []
        known: list[Tensor] = []
        try:
            for number, state in enumerate(model.checkpoints):
                label = f"{number + 1}/{len(model.checkpoints)}"
                nodes, sample = ensemble.fit_member(model, state, examples, config, label, report)
                members.append(nodes)
                known.append(sample)
                save_file(ensemble.to_tensors(nodes), draft / _member_file(number))
        except influence.UnableToTrace as reason:
            raise UnableToBuildIndex(str(reason)) from reason
        manifest = _describe(model, config, members, items)
        # Where the projection was fitted on all items there is no need to differentiate them again.
        embedded = torch.stack(known, 1) if config.pca_items >= len(items) else None
        shards = _write_items(draft, members, items, manifest, report, embedded)
        if mean_of:
            mean_query = ensemble.embed(members, mean_of, config.batch, report, "mean query").mean(0).numpy()
        else:
            mean_query = _mean_item(draft, shards) * len(items)
        manifest["mean_query_of"] = "own generations" if mean_of else "training items"
        np.save(draft / MEAN_QUERY, mean_query)
        _write_revision(draft, manifest, shards=shards, removed=np.zeros(0, dtype=np.int64))
    return open_index(directory, model=model)


def open_index(path: Path, *, model: LoadedModel | None = None, sha256: str | None = None) -> Index:
    """Check every file against the manifest, and the model's checkpoints against those the index was built from.

    With `sha256` the manifest must be the one on record. Without a model the index scores features and finds works, but
    embeds nothing.
    """
    manifest, found = artefacts.read_manifest(path, form=FORMAT, sha256=sha256)
    if model is not None:
        if model.adapter.name != manifest["adapter"]:
            raise UnableToOpenIndex(f"Foreign: it was built for {manifest['adapter']}, not {model.adapter.name}.")
        if [digest_of_state(state) for state in model.checkpoints] != manifest["checkpoints"]:
            raise UnableToOpenIndex("Foreign: it was built from other checkpoints than this model's.")
    return Index(path, manifest, found, model)


def extend_index(
    path: Path, *, model: LoadedModel, items: Sequence[IndexItem], progress: Progress | None = None
) -> Index:
    """Append items in the frozen basis and sum again; nothing that was there is embedded again."""
    _check_items(model, items)
    with artefacts.changing(path):
        index = open_index(path, model=model)
        shards = _write_items(path, index.members, items, index.manifest, progress or _silent)
        removed = np.load(path / index.manifest["removed_file"])
        _write_revision(path, index.manifest, shards=[*index.manifest["shards"], *shards], removed=removed)
        return open_index(path, model=model)


def remove_works(path: Path, *, work_ids: Sequence[int], model: LoadedModel | None = None) -> Index:
    """Take works out of the sums and of the evidence; their rows stay in the shards, listed as removed."""
    with artefacts.changing(path):
        manifest = open_index(path).manifest
        works = _open_items(path, manifest).works
        unknown = set(work_ids) - set(works.tolist())
        if unknown:
            raise UnableToBuildIndex(f"Work {min(unknown)} is not in the index.")
        gone = np.flatnonzero(np.isin(works, np.asarray(work_ids, dtype=np.int64)))
        removed = np.union1d(gone, np.load(path / manifest["removed_file"]))
        if len(removed) == len(works):
            raise UnableToBuildIndex("Nothing would be left in the index.")
        _write_revision(path, manifest, shards=manifest["shards"], removed=removed)
        return open_index(path, model=model)


def digest_of_state(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of a checkpoint's tensors, whatever file they came from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{values.dtype}|{tuple(values.shape)}|".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_items(model: LoadedModel, items: Sequence[IndexItem]) -> None:
    for position, item in enumerate(items):
        try:
            model.adapter.check(item.example)
        except UnableToEmbed as reason:
            raise UnableToBuildIndex(f"Item {position}, of work {item.work_id}: {reason}") from reason


def _write_items(
    directory: Path,
    members: Sequence[Sequence[Node]],
    items: Sequence[IndexItem],
    manifest: Manifest,
    report: Progress,
    embedded: Tensor | None = None,
) -> list[str]:
    """Embed and store items in new shards; returns their names. Scaled by 1/N, which makes a score a gain in nats."""
    names: list[str] = []
    for start in range(0, len(items), SHARD_ITEMS):
        part = items[start : start + SHARD_ITEMS]
        if embedded is None:
            examples = [item.example for item in part]
            found = ensemble.embed(members, examples, manifest["config"]["batch"], report, "items")
        else:
            found = embedded[start : start + SHARD_ITEMS]
            report("items", start + len(part), len(items))
        clusters = (shapley.NO_CLUSTER if item.cluster_id is None else item.cluster_id for item in part)
        labels = [(item.work_id, item.holder_id, cluster) for item, cluster in zip(part, clusters, strict=True)]
        names.append(f"items-{len(manifest['shards']) + len(names):05d}")
        write_shard(directory, names[-1], found.numpy(), np.array(labels), divisor=manifest["items_at_build"])
    return names


def _write_revision(directory: Path, manifest: Manifest, *, shards: list[str], removed: Array) -> None:
    """Sum the items that count by holder, under new file names, and let the manifest change over in one step."""
    revision = manifest.get("revision", 0) + 1
    items = Items(directory, shards, removed)
    holders, rows = np.unique(items.holders[items.alive], return_inverse=True)
    owned = shapley.own(torch.from_numpy(rows), torch.from_numpy(items.clusters[items.alive].copy()))
    sums, start = None, 0
    for chosen, found in items.chunks(items.alive):
        if sums is None:
            sums = torch.zeros(len(holders), *found.shape[1:], dtype=torch.float64)
        shapley.add_to_sums(sums, torch.from_numpy(found), owned, start=start)
        start += len(chosen)
    assert sums is not None
    names = {kind: f"{kind}-{revision:04d}.npy" for kind in ("sums", "holders", "removed")}
    np.save(directory / names["sums"], sums.transpose(0, 1).float().contiguous().numpy())
    np.save(directory / names["holders"], holders)
    np.save(directory / names["removed"], removed)
    counts = {
        "items": len(items.alive),
        "works": len(np.unique(items.works[items.alive])),
        "holders": len(holders),
        "removed_items": len(removed),
    }
    files = [*names.values(), MEAN_QUERY, *shard_files(shards), *map(_member_file, range(manifest["members"]))]
    renamed = {f"{kind}_file": name for kind, name in names.items()}
    artefacts.write_manifest(
        directory, {**manifest, **renamed, "revision": revision, "shards": shards, "counts": counts}, files
    )


def _describe(
    model: LoadedModel, config: IndexConfig, members: Sequence[Sequence[Node]], items: Sequence[IndexItem]
) -> Manifest:
    tracer = members[-1][0].tracer
    traced = sum(p.numel() for layer in tracer.layers.values() for p in layer.parameters())
    return {
        "format": FORMAT,
        "method": ensemble.method_of(model, config),
        "adapter": model.adapter.name,
        "checkpoints": [digest_of_state(state) for state in model.checkpoints],
        "initial": None if model.initial is None else digest_of_state(model.initial),
        "config": config.to_json(),
        "config_sha256": config.sha256,
        "members": len(members),
        "items_at_build": len(items),
        "layers": list(tracer.layers),
        "parameters_traced": traced,
        "parameters": sum(p.numel() for p in tracer.adapter.module.parameters()),
        "energy": [nodes[0].basis.energy for nodes in members],
        "shards": [],
    }


def _mean_item(directory: Path, shards: list[str]) -> Array:
    items = Items(directory, shards, np.zeros(0, dtype=np.int64))
    total = sum(found.sum(0, dtype=np.float64) for _, found in items.chunks(items.alive))
    return np.asarray(total / len(items.alive), dtype=np.float32)


def _open_items(directory: Path, manifest: Manifest) -> Items:
    return Items(directory, manifest["shards"], np.load(directory / manifest["removed_file"]))


def _member_file(number: int) -> str:
    return f"member-{number}.safetensors"


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody asked to be told."""
