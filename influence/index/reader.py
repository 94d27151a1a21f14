"""The index of one model version: built once, opened by every worker, asked for each generation.

A directory holds `manifest.json` (the inputs of the build and the sha256 of every file), a basis for each ensemble
member, shards of items (shards.py), the holders' sums (sums.py) and the mean query. Scoring touches the sums only, for
any number of works. Items are read for evidence only, and only those of the asked holders. Sums are taken over the
stored int8 rows. Work scores therefore add up to their holder's score, as those of a faithful group Shapley value must
(arXiv 2505.19013), and items can be taken out again exactly. A change (works added or removed) is a new revision: new
files beside the old ones and a manifest of its own. Every revision that ever paid can still be opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from influence import ensemble, shapley
from influence.adapters import Example, LoadedModel, UnableToEmbed
from influence.curvature import Energy
from influence.ensemble import Node, Progress
from influence.index import artefacts, scan, sums, tails
from influence.index import build as building
from influence.index.artefacts import Manifest, UnableToBuildIndex, UnableToOpenIndex
from influence.index.build import FORMAT, Build
from influence.index.config import IndexConfig
from influence.index.files import MEAN_QUERY, digest_of_state, files_of, load_members
from influence.index.plan import plan_build
from influence.index.ranks import ALONE, Ranks
from influence.index.shards import Array, Items, Shard, labels_of_works, save_array, write_shard
from influence.index.sources import IndexItem, Listed, Source, source_of
from influence.index.work_scores import WorkScore, best_works
from influence.paid_items import Counted
from influence.shapley import Groups

__all__ = [
    "FORMAT",
    "Condition",
    "Index",
    "IndexConfig",
    "IndexItem",
    "Progress",
    "Scores",
    "UnableToBuildIndex",
    "UnableToEmbed",
    "UnableToOpenIndex",
    "WorkScore",
    "build_index",
    "condition_of",
    "digest_of_state",
    "extend_index",
    "open_index",
    "remove_works",
]

HELD_MIN = 0.5
"""Below it the loss of the basis is told."""
NEW_PART_MAX = 0.2
"""Of the items that count: with more added since the basis was fitted, it should be fitted again."""
CAPTURED_FALL_MAX = 0.1
"""The basis should be fitted again where it holds so much less (relatively) of what was added than of what it was
fitted on."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Predicted gain in the mean log-likelihood of a token, in nats, float32, columns in the order of holder_ids.

    `specific` (B, C) is a holder's contribution to each generation beyond the average. `general` (C,) is its
    contribution to the average generation. Each has its standard error over the ensemble. Where groups of holders were
    asked for, their columns come after the holders'.
    """

    holder_ids: tuple[int, ...]
    specific: Array
    specific_se: Array
    general: Array
    general_se: Array


@dataclass(frozen=True, slots=True)
class Condition:
    """Fit of the basis to the items: how many were added since the fit, and how much of them the basis holds."""

    items: int
    added: int
    removed: int
    captured: float
    """Which part of the whitened gradients that it was fitted on the basis holds, mean over the ensemble."""
    captured_of_added: float | None
    held: float = 1.0
    """Which part of the expected squared gradients the basis holds: of the kept coordinates' energy its components'."""

    @property
    def warning(self) -> str:
        """A reason to build with more coordinates or components; empty when the basis holds enough."""
        if self.held >= HELD_MIN:
            return ""
        return (
            f"Its basis holds {self.held:.0%} of the energy of the gradients. "
            "Build with more coordinates or a larger k, and let an evaluation compare."
        )

    @property
    def new_part(self) -> float:
        return self.added / self.items if self.items else 0.0

    @property
    def reasons(self) -> list[str]:
        """Why the basis should be fitted again; empty when there is no need."""
        found = []
        if self.new_part > NEW_PART_MAX:
            found.append(f"{self.new_part:.0%} of its items were added after its basis was fitted.")
        if self.captured_of_added is not None and self.captured_of_added < (1 - CAPTURED_FALL_MAX) * self.captured:
            found.append(
                f"Its basis holds {self.captured_of_added:.0%} of the gradients of what was added, and "
                f"{self.captured:.0%} of what it was fitted on."
            )
        return found


class Index:
    """An opened index. Scoring is thread-safe; embed from one thread at a time."""

    def __init__(self, path: Path, manifest: Manifest, sha256: str, model: LoadedModel | None) -> None:
        self.path = path
        self.manifest = manifest
        self.sha256 = sha256
        self.config = IndexConfig.from_json(manifest["config"])
        self._model = model
        holders, found = sums.open_sums(path, manifest["overlay"])
        self._sums = torch.from_numpy(found)
        self.mean_query: Array = np.load(path / MEAN_QUERY)
        self.holder_ids: tuple[int, ...] = tuple(holders.tolist())

    @property
    def revision(self) -> int:
        return int(self.manifest["revision"])

    def check(self, example: Example) -> None:
        """Raise UnableToEmbed if this example could not be embedded."""
        if self._model is None:
            raise UnableToEmbed("The index was opened without its model.")
        self._model.adapter.check(example)

    def embed(self, examples: Sequence[Example]) -> Array:
        """Features (B, M, K) float32: for each ensemble member the whitened, reduced gradient of each utility.

        Raises UnableToEmbed for an example that the model cannot take, or a gradient that is not finite.
        """
        for position, example in enumerate(examples):
            try:
                self.check(example)
            except UnableToEmbed as reason:
                raise UnableToEmbed(f"Example {position}: {reason}") from reason
        found = ensemble.embed(self.members, examples, self.config.batch)
        if not bool(found.isfinite().all()):
            raise UnableToEmbed("A gradient is not finite.")
        return found.numpy()

    def embed_items(self, examples: Sequence[Example], report: Progress, energy: Energy) -> Array:
        """Features (n, M, K) of items that are to be added; `energy` records how much of them the basis holds."""
        return ensemble.embed(self.members, examples, self.config.batch, report, "items", energy=energy).numpy()

    def divided(self, features: Array) -> shapley.Divided:
        """Each member's scores of every holder, general and specific, for features (B, M, K)."""
        specific = shapley.scores(self._sums, torch.from_numpy(features - self.mean_query))
        return shapley.Divided(self._general, specific)

    @cached_property
    def _general(self) -> Tensor:
        # The same for every generation: half of the cost of a single query.
        return shapley.scores(self._sums, torch.from_numpy(self.mean_query[None]))[0]

    @cached_property
    def item_counts(self) -> Array:
        """(C,): how many items count for each holder."""
        return sums.item_counts(self.path, self.manifest["overlay"])

    def works(self) -> Array:
        """(3, W) int64: holder, work and cluster of each work that counts, by work."""
        return labels_of_works(self._items.labels_at(self._items.alive))

    def score(self, features: Array, *, groups: Groups = ()) -> Scores:
        """Score every holder for features (B, M, K); costs B x M x C x K, for any number of works."""
        divided = self.divided(features).with_groups(self.holder_ids, groups)
        specific, specific_se = shapley.ensemble(divided.specific)
        general, general_se = shapley.ensemble(divided.general)
        return Scores(self.holder_ids, specific.numpy(), specific_se.numpy(), general.numpy(), general_se.numpy())

    def general_scores(self, *, groups: Groups = ()) -> Scores:
        """The general scores alone, which are the same for every generation: `specific` has no row."""
        return self.score(self.mean_query[None][:0], groups=groups)

    def item_scores(self, features: Array) -> Iterator[tuple[Array, Array]]:
        """Positions (n,) and specific scores (B, n) of all items that count, for features (B, M, K), block by block."""
        return scan.item_scores(self._items, self._items.alive, self._queries(features, range(len(features))))

    def whole_scores(self, features: Array, *, first: int = 0) -> Iterator[tuple[Array, Array]]:
        """The same with the general part, of items from position `first` on."""
        positions = self._items.alive[self._items.alive >= first]
        return scan.item_scores(self._items, positions, torch.from_numpy(features / features.shape[1]))

    @property
    def alive(self) -> Array:
        """Positions (n,) of the items that count."""
        return self._items.alive

    @cached_property
    def counted(self) -> Counted:
        """The items as rule 2 counts them."""
        return Counted(self._items.all_labels(), self._items.alive)

    @cached_property
    def net_tails(self) -> Array | None:
        """(rows,): the factor f of each row under rule 2; None without own generations."""
        return tails.read(self.path, self.manifest)

    def work_scores(self, features: Array, holder_id: int, rows: Sequence[int]) -> tuple[Array, Array]:
        """Works (W,) of a holder and their specific scores (W, rows) for these rows of features; reads no other items.

        The scores of a holder's works add up to the holder's score, unless a work is shared by a duplicate cluster.
        """
        return scan.work_scores(self._items, self._items.of_holder(holder_id), self._queries(features, rows))

    def top_works(
        self, features: Array, holder_ids: Sequence[Sequence[int]], n: int
    ) -> list[dict[int, list[WorkScore]]]:
        """For each generation and each holder asked for: its n works with the largest specific score, best first.

        Takes features (B, M, K). Reads the rows of those holders and no others'.
        """

        def leading(holder: int, rows: Sequence[int]) -> tuple[Array, Array]:
            return scan.leading_works(self._items, self._items.of_holder(holder), self._queries(features, rows), n)

        return best_works(leading, holder_ids, n)

    def _queries(self, features: Array, rows: Sequence[int]) -> Tensor:
        """(R, M, K), such that a product with an item, summed over members, is its specific score."""
        return torch.from_numpy((features[list(rows)] - self.mean_query) / features.shape[1])

    def item_features(self) -> Iterator[Array]:
        """Features (n, M, K) of every item that counts, a bounded number at a time, as the sums were made of them."""
        return (found for _, found in self._items.chunks(self._items.alive))

    @cached_property
    def members(self) -> list[list[Node]]:
        """The ensemble, each member's nodes with the model they differentiate. Raises UnableToEmbed without a model."""
        if self._model is None:
            raise UnableToEmbed("The index was opened without its model.")
        return load_members(self.path, self._model, self.config, self.manifest["layers"])

    @cached_property
    def _items(self) -> Items:
        return _open_items(self.path, self.manifest)


def build_index(
    directory: Path,
    *,
    model: LoadedModel,
    items: Sequence[IndexItem] | Source,
    config: IndexConfig | None = None,
    mean_of: Sequence[Example] = (),
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Index:
    """Fit a basis for each checkpoint, embed every item, sum by holder; `directory` appears when all of it is done.

    `mean_of` are the model's own generations: their mean query separates general from specific, and is frozen here. A
    build that was killed goes on where it stopped. `ranks` are processes that share the work and the directory. Any
    number of them writes the same bytes, as long as each computes with as many threads as the one would.
    Raises UnableToBuildIndex when the directory exists already.
    """
    source = source_of(items)
    config = config or IndexConfig()
    with ranks.leading(lambda: artefacts.changing(directory)):
        if directory.exists():
            raise UnableToBuildIndex(f"{directory.name} exists already.")
        if isinstance(items, Sequence):
            _check_items(model, items)
        if ranks.rank == 0:
            plan_build(directory, model=model, source=source, config=config, mean_of=mean_of)
        ranks.wait()
        build = Build(directory, model=model, source=source)
        for steps in build.stages():
            for number, step in enumerate(steps):
                if ranks.does(number):
                    build.run(step, progress)
            ranks.wait()
    return open_index(directory, model=model)


def open_index(path: Path, *, model: LoadedModel | None = None, sha256: str | None = None) -> Index:
    """Check every file against the manifest, and the model's checkpoints against those the index was built from.

    With `sha256` the manifest must be the one on record, or that of an earlier revision. Without a model the index
    scores features and finds works, but embeds nothing. Raises UnableToOpenIndex for another or a damaged index.
    """
    manifest, found = artefacts.read_manifest(path, form=FORMAT, sha256=sha256)
    try:
        if model is not None:
            _check_model(manifest, model)
        return Index(path, manifest, found, model)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UnableToOpenIndex(f"Corrupt: the manifest of {path.name} does not describe its files.") from None


def _check_model(manifest: Manifest, model: LoadedModel) -> None:
    if model.adapter.name != manifest["adapter"]:
        raise UnableToOpenIndex(f"Foreign: it was built for {manifest['adapter']}, not {model.adapter.name}.")
    if [digest_of_state(state) for state in model.checkpoints] != manifest["checkpoints"]:
        raise UnableToOpenIndex("Foreign: it was built from other checkpoints than this model's.")


# --- changes --------------------------------------------------------------------------------------------------------
def extend_index(
    path: Path, *, model: LoadedModel, items: Sequence[IndexItem], progress: Progress | None = None
) -> Index:
    """Append items in the frozen basis and add them to the sums; nothing that was there is embedded again."""
    with artefacts.changing(path):
        append_items(open_index(path, model=model), items, progress or building.silent)
        return open_index(path, model=model)


def append_items(index: Index, items: Sequence[IndexItem], report: Progress) -> None:
    """Write a new revision of an opened index, with more items. The caller holds `artefacts.changing`.

    Raises UnableToBuildIndex without items.
    """
    assert index._model is not None, "An index that embeds items was opened with its model."
    _check_items(index._model, items)
    if not items:
        raise UnableToBuildIndex("There is no item to add.")
    # A work that comes back, or that came to another holder, is nothing that the basis has not seen.
    works = np.unique([item.work_id for item in items])
    seen = {work for _, labels in index._items.labels() for work in works[np.isin(works, labels[1])].tolist()}
    new = [item for item in items if item.work_id not in seen]
    energy, first = Energy(), len(index.manifest["shards"])
    shards = _append(index, new, first, energy, report)
    shards += _append(index, [item for item in items if item.work_id in seen], first + len(shards), Energy(), report)
    before, after = index._items, Items(index.path, [*index._items.shards, *shards], index._items.removed)
    added = {
        "items": index.manifest["added"]["items"] + len(new),
        "energy_whole": index.manifest["added"]["energy_whole"] + energy.whole,
        "energy_held": index.manifest["added"]["energy_held"] + energy.held,
    }
    _write_revision(index, before, after, changed=np.arange(len(before), len(after)), added=added)


def remove_works(path: Path, *, work_ids: Sequence[int], model: LoadedModel | None = None) -> Index:
    """Subtract works from the sums and take them out of the evidence; their rows stay in the shards, as removed."""
    with artefacts.changing(path):
        take_out(open_index(path, model=model), work_ids)
        return open_index(path, model=model)


def take_out(index: Index, work_ids: Sequence[int]) -> None:
    """Write a new revision of an opened index, without these works. The caller holds `artefacts.changing`.

    Raises UnableToBuildIndex for a work that is not in the index.
    """
    items = index._items
    gone = items.where(1, np.asarray(sorted(set(work_ids)), dtype=np.int64))
    unknown = set(work_ids) - set(items.labels_at(gone)[1].tolist())
    if unknown:
        raise UnableToBuildIndex(f"Work {min(unknown)} is not in the index.")
    after = Items(index.path, items.shards, np.union1d(items.removed, gone))
    _write_revision(index, items, after, changed=gone, added=index.manifest["added"])


def _append(index: Index, items: Sequence[IndexItem], first: int, energy: Energy, report: Progress) -> list[Shard]:
    """Shards of these items, numbered from `first`."""
    source = Listed(items)
    labels = source.labels()
    order = np.lexsort((labels[1], labels[0]))
    shards: list[Shard] = []
    for start in range(0, len(items), index.config.shard_items):
        chosen = order[start : start + index.config.shard_items]
        found = index.embed_items(source.examples(chosen.tolist()), report, energy)
        shards.append(
            write_shard(
                index.path,
                f"items-{first + len(shards):05d}",
                found,
                labels[:, chosen],
                divisor=index.manifest["items_at_build"],
            )
        )
    return shards


def _write_revision(index: Index, before: Items, after: Items, *, changed: Array, added: dict[str, float]) -> None:
    """Add to or subtract from the sums of the holders concerned, under new file names; then the manifest changes over.

    Besides the changed items those of their duplicate clusters are read: a holder more or fewer changes every part.
    """
    clusters = np.unique(after.labels_at(changed)[2])
    clusters = clusters[clusters != sums.NO_CLUSTER]
    was, now = (_contribution(items, changed, clusters) for items in (before, after))
    shape = index._sums.shape[0], index._sums.shape[2]
    difference = _difference(was, now)
    current = sums.exact_of(index.path, difference.holders, index.manifest["overlay"])
    overlay = sums.overlay_with(index.path, sums.add(current, difference), index.manifest["overlay"])
    assert overlay.sums.shape[1:] == shape
    revision = index.revision + 1
    names = {"overlay": f"change-{revision:04d}", "removed_file": None}
    names["tails_file"] = tails.follow(index.path, index.manifest, after, revision=revision)
    sums.save(index.path, f"change-{revision:04d}", overlay)
    if len(after.removed):
        names["removed_file"] = f"removed-{revision:04d}.npy"
        save_array(index.path / f"removed-{revision:04d}.npy", after.removed)
    manifest = {
        **index.manifest,
        **names,
        "revision": revision,
        "shards": [shard.to_json() for shard in after.shards],
        "added": added,
    }
    works = np.unique(after.labels_at(changed)[1])
    works_before, works_after = (len(np.unique(items.labels_at(items.where(1, works))[1])) for items in (before, after))
    counts = index.manifest["counts"]
    manifest["counts"] = {
        "items": len(after) - len(after.removed),
        "works": counts["works"] + works_after - works_before,
        "holders": len(sums.open_sums(index.path, names["overlay"])[0]),
        "removed_items": len(after.removed),
    }
    artefacts.write_manifest(index.path, manifest, files_of(manifest))


def _contribution(items: Items, changed: Array, clusters: Array) -> sums.HolderSums | None:
    """Compute the sums that the changed items that count here, and those of their clusters, give to each holder."""
    counting = changed[np.isin(changed, items.removed, invert=True) & (changed < len(items))]
    concerned = np.union1d(counting, items.where(2, clusters)) if len(clusters) else counting
    if not len(concerned):
        return None
    return sums.sum_by_holder(items, concerned, sums.owners_of_clusters(items.labels_at(concerned)))


def _difference(was: sums.HolderSums | None, now: sums.HolderSums | None) -> sums.HolderSums:
    if was is None or now is None:
        found = now or was
        assert found is not None, "Something changed."
        sign = -1 if now is None else 1
        return sums.HolderSums(found.holders, sign * found.counts, sign * found.sums)
    return sums.add(now, was, sign=-1)


def condition_of(manifest: Manifest) -> Condition:
    """Measure how well the basis of an index still fits, from its manifest."""
    added = manifest["added"]
    return Condition(
        items=manifest["counts"]["items"],
        added=added["items"],
        removed=manifest["counts"]["removed_items"],
        captured=float(np.mean(manifest["captured"])),
        captured_of_added=added["energy_held"] / added["energy_whole"] if added["energy_whole"] > 0 else None,
        # An index of features made elsewhere has no coordinates to choose.
        held=float(np.mean(np.multiply(manifest.get("energy", 1.0), manifest["captured"]))),
    )


def _check_items(model: LoadedModel, items: Sequence[IndexItem]) -> None:
    for position, item in enumerate(items):
        try:
            model.adapter.check(item.example)
        except UnableToEmbed as reason:
            raise UnableToBuildIndex(f"Item {position}, of work {item.work_id}: {reason}") from reason


def _open_items(directory: Path, manifest: Manifest) -> Items:
    removed = manifest["removed_file"]
    return Items(
        directory,
        [Shard(**shard) for shard in manifest["shards"]],
        None if removed is None else np.load(directory / removed),
    )
