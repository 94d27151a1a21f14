"""Influence and wording together: the midpoint's score plus a weight times the lexical score.

Both are measured in units of their spread over *items* for the generation at hand, so that the sum is still a sum over
items. Splitting an account or adding an empty one then changes nothing for anybody. With units taken over
holders it would. Only the scale is taken from the spread. No mean is subtracted, because then works that say nothing
would be paid wherever the mean is negative. The sum is expressed in the midpoint's units, nats.

A directory with two indexes in it, `midpoint/` and `lexical/`, each complete, and a manifest that names both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from influence import paid_items, shapley
from influence.adapters import Example, LoadedModel
from influence.index import artefacts, reader, tails
from influence.index.artefacts import Manifest, UnableToBuildIndex
from influence.index.config import IndexConfig
from influence.index.files import OWN, OWN_SPREAD, throw_away
from influence.index.reader import Index, IndexItem, Progress, Scores
from influence.index.shards import Array, save_array
from influence.index.sources import Source, source_of
from influence.index.work_scores import WorkScore, best_works
from influence.paid_items import Counted
from influence.scorers import lexical
from influence.scorers.lexical import LexicalIndex
from influence.shapley import Divided, Groups

FORMAT = "tributary-hybrid/2"
MOMENTS = "moments.npy"
PARTS = ("midpoint", "lexical")


@dataclass(frozen=True, slots=True)
class HybridFeatures:
    """Features of the same B examples: gradients (B, M, K) and words (B, buckets)."""

    midpoint: Array
    lexical: Any

    def __getitem__(self, rows: Any) -> HybridFeatures:
        return HybridFeatures(self.midpoint[rows], self.lexical[rows])

    def __len__(self) -> int:
        return len(self.midpoint)


class HybridIndex:
    """An opened hybrid index."""

    def __init__(self, path: Path, manifest: Manifest, sha256: str, parts: tuple[Index, LexicalIndex]) -> None:
        self.path = path
        self.manifest = manifest
        self.sha256 = sha256
        self.config = IndexConfig.from_json(manifest["config"])
        self.midpoint, self.lexical = parts
        self.holder_ids = self.midpoint.holder_ids
        self._moments: Array = np.load(path / MOMENTS)

    def check(self, example: Example) -> None:
        """Raise UnableToEmbed if it has no gradient; an output without words is compared by its gradient alone."""
        self.midpoint.check(example)

    def embed(self, examples: Sequence[Example]) -> HybridFeatures:
        return HybridFeatures(self.midpoint.embed(examples), self.lexical.vectors(examples))

    def score(self, features: HybridFeatures, *, groups: Groups = (), lexical_weight: float | None = None) -> Scores:
        """Score holders: specific scores are of both parts, general ones of the midpoint only.

        Wording says little about general influence. `lexical_weight` replaces the index's own while a caller chooses
        one. The standard error of the midpoint part is that of the ensemble. No ensemble compares wording: its standard
        error is chance, the sum of as many items that have nothing to do with the output.
        """
        weight = self.config.lexical_weight if lexical_weight is None else lexical_weight
        divided = self.midpoint.divided(features.midpoint)
        wording = torch.from_numpy(self.lexical.specific(features.lexical))
        scales, spread = self._scale(features)
        scale = torch.from_numpy(weight * scales).float()
        of_both = Divided(divided.general, divided.specific + scale[:, :, None] * wording[:, None])
        grouped = of_both.with_groups(self.holder_ids, groups)
        specific, specific_se = shapley.ensemble(grouped.specific)
        items = torch.from_numpy(self.midpoint.item_counts.astype(np.float32))
        by_chance = torch.from_numpy(weight * spread).float()[:, None]
        by_chance = by_chance * shapley.with_groups(items, self.holder_ids, groups).sqrt()
        specific_se = torch.hypot(specific_se, by_chance)
        general, general_se = shapley.ensemble(grouped.general)
        return Scores(self.holder_ids, specific.numpy(), specific_se.numpy(), general.numpy(), general_se.numpy())

    def general_scores(self, *, groups: Groups = ()) -> Scores:
        """The general scores alone, which are the midpoint's: `specific` has no row."""
        return self.midpoint.general_scores(groups=groups)

    def work_scores(self, features: HybridFeatures, holder_id: int, rows: Sequence[int]) -> tuple[Array, Array]:
        works, influence = self.midpoint.work_scores(features.midpoint, holder_id, rows)
        same, wording = self.lexical.work_scores(features.lexical, holder_id, rows)
        assert np.array_equal(works, same), "Both parts hold the same works (checked when they are opened)."
        scale = self.config.lexical_weight * self._scale(features[list(rows)])[0].mean(1)
        return works, influence + wording * scale.astype(np.float32)

    def item_scores(self, features: HybridFeatures) -> Iterator[tuple[Array, Array]]:
        """Positions (n,) in the midpoint part and specific scores (B, n) of all items that count, block by block."""
        return self._with_wording(features, self.midpoint.item_scores(features.midpoint))

    def whole_scores(self, features: HybridFeatures, *, first: int = 0) -> Iterator[tuple[Array, Array]]:
        """The same with the general part, of items from position `first` on: general influence is the midpoint's."""
        return self._with_wording(features, self.midpoint.whole_scores(features.midpoint, first=first))

    def _with_wording(
        self, features: HybridFeatures, blocks: Iterator[tuple[Array, Array]]
    ) -> Iterator[tuple[Array, Array]]:
        scale = (self.config.lexical_weight * self._scale(features)[0].mean(1)).astype(np.float32)
        for positions, influence in blocks:
            same = self._same_item[positions]
            order = np.argsort(same)
            wording = np.empty_like(influence)
            parts = [scores for _, scores in self.lexical.scores_at(features.lexical, same[order])]
            wording[:, order] = np.concatenate(parts, axis=1)
            yield positions, influence + scale[:, None] * wording

    @cached_property
    def _same_item(self) -> Array:
        """(rows,): where the lexical part keeps an item of the midpoint part. Both keep a work's items in one order."""
        ours, theirs = self.midpoint.alive, self.lexical.alive
        our_works, their_works = self.midpoint.counted.labels[1, ours], self.lexical.counted.labels[1, theirs]
        our_order, their_order = (np.argsort(works, kind="stable") for works in (our_works, their_works))
        assert np.array_equal(our_works[our_order], their_works[their_order]), "Both parts hold the same items."
        same = np.full(self.midpoint.counted.labels.shape[1], -1, dtype=np.int64)
        same[ours[our_order]] = theirs[their_order]
        return same

    @property
    def counted(self) -> Counted:
        """The items as rule 2 counts them."""
        return self.midpoint.counted

    @cached_property
    def net_tails(self) -> Array | None:
        """(rows,): the factor f of each row under rule 2; None without own generations."""
        return tails.read(self.path, self.manifest)

    def works(self) -> Array:
        return self.midpoint.works()

    def top_works(
        self, features: HybridFeatures, holder_ids: Sequence[Sequence[int]], n: int
    ) -> list[dict[int, list[WorkScore]]]:
        return best_works(lambda holder, rows: self.work_scores(features, holder, rows), holder_ids, n)

    def _scale(self, features: HybridFeatures) -> tuple[Array, Array]:
        """Return two arrays. (B, M): factors that give lexical scores the spread over items of a member's scores.
        (B,): the resulting spread, mean over members.

        The midpoint's spread comes from the second moment of all items (K x K for each member), the lexical one from a
        sample. Both were frozen at the build, and neither costs more when there are more works.
        """
        queries = (features.midpoint - self.midpoint.mean_query).astype(np.float64)
        moments, means = self._moments[:, :-1], self._moments[:, -1]
        squares = np.einsum("bmk,mkl,bml->bm", queries, moments, queries, optimize=True)
        variance = squares - np.einsum("bmk,mk->bm", queries, means) ** 2
        wording = self.lexical.spread(features.lexical)[:, None]
        spread = np.sqrt(np.maximum(variance, 0.0))
        scale = np.asarray(np.divide(spread, wording, out=np.zeros_like(spread), where=wording > 0))
        return scale, (scale * wording).mean(1)


def draft_of(directory: Path) -> Path:
    """Folder in which the parts are built."""
    return directory.with_name(f".{directory.name}.parts")


def build_index(
    directory: Path,
    *,
    model: LoadedModel,
    items: Sequence[IndexItem] | Source,
    config: IndexConfig,
    mean_of: Sequence[Example] = (),
    progress: Progress | None = None,
) -> HybridIndex:
    """Build both parts, then the scales that compare them. A part that a killed build had finished is not built again,
    unless it is of other items. Raises UnableToBuildIndex when the directory exists already."""
    draft, source = draft_of(directory), source_of(items)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with artefacts.changing(directory):
        if directory.exists():
            raise UnableToBuildIndex(f"{directory.name} exists already.")
        draft.mkdir(exist_ok=True)
        discard_other_parts(directory, config=config, source=source)
        common: dict[str, Any] = {"model": model, "items": source, "mean_of": mean_of, "progress": progress}
        midpoint_config, lexical_config = (config.of_part(part) for part in PARTS)
        midpoint = _open_part(reader, draft / "midpoint", model) or reader.build_index(
            draft / "midpoint", config=midpoint_config, **common
        )
        wording = _open_part(lexical, draft / "lexical", model) or lexical.build_index(
            draft / "lexical", config=lexical_config, **common
        )
        np.save(draft / MOMENTS, _moments(midpoint))
        manifest = {"config": config.to_json(), "config_sha256": config.sha256}
        _write_manifest(draft, manifest, midpoint, wording)
        os.replace(draft, directory)
    return open_index(directory, model=model)


def open_index(path: Path, *, model: LoadedModel | None = None, sha256: str | None = None) -> HybridIndex:
    """Check the manifest and both parts, in the revisions that it names: a change that was cut off is not in them."""
    manifest, found = artefacts.read_manifest(path, form=FORMAT, sha256=sha256)
    return HybridIndex(path, manifest, found, _open_parts(path, model, manifest["parts"]))


def extend_index(
    path: Path, *, model: LoadedModel, items: Sequence[IndexItem], progress: Progress | None = None
) -> HybridIndex:
    """Append items to both parts."""
    with artefacts.changing(path):
        manifest = open_index(path, model=model).manifest
        _forget_cut_off_change(path, manifest)
        midpoint = reader.extend_index(path / "midpoint", model=model, items=items, progress=progress)
        wording = lexical.extend_index(path / "lexical", model=model, items=items, progress=progress)
        _write_manifest(path, manifest, midpoint, wording)
    return open_index(path, model=model)


def remove_works(path: Path, *, work_ids: Sequence[int], model: LoadedModel | None = None) -> HybridIndex:
    """Take works out of both parts."""
    with artefacts.changing(path):
        manifest = artefacts.read_manifest(path, form=FORMAT)[0]
        _forget_cut_off_change(path, manifest)
        midpoint = reader.remove_works(path / "midpoint", work_ids=work_ids)
        wording = lexical.remove_works(path / "lexical", work_ids=work_ids)
        _write_manifest(path, manifest, midpoint, wording)
    return open_index(path, model=model)


def _open_parts(path: Path, model: LoadedModel | None, named: Mapping[str, str]) -> tuple[Index, LexicalIndex]:
    return (
        reader.open_index(path / "midpoint", model=model, sha256=named["midpoint"]),
        lexical.open_index(path / "lexical", model=model, sha256=named["lexical"]),
    )


def _forget_cut_off_change(path: Path, manifest: Manifest) -> None:
    """Drop a cut-off change. A part may be a revision ahead of the last complete state of both: the next change starts
    from that state."""
    for name in PARTS:
        artefacts.go_back(path / name, sha256=manifest["parts"][name])


def discard_other_parts(directory: Path, *, config: IndexConfig, source: Source) -> None:
    """Throw away the finished parts of a build of other items or of another configuration."""
    for name in PARTS:
        part = draft_of(directory) / name
        if part.exists():
            manifest = artefacts.peek_manifest(part)
            wanted = (config.of_part(name).sha256, source.sha256)
            if (manifest.get("config_sha256"), manifest.get("items_sha256")) != wanted:
                throw_away(part)


def _open_part(module: Any, path: Path, model: LoadedModel) -> Any:
    """A part that was finished before."""
    return module.open_index(path, model=model) if path.exists() else None


def _moments(midpoint: Index) -> Array:
    """(M, K + 1, K): the second moment of all items, and below it their mean."""
    squares, total, count = None, None, 0
    for found in midpoint.item_features():
        wide = found.astype(np.float64)
        products = np.einsum("nmk,nml->mkl", wide, wide, optimize=True)
        squares = products if squares is None else squares + products
        total = wide.sum(0) if total is None else total + wide.sum(0)
        count += len(found)
    assert squares is not None
    assert total is not None
    return np.concatenate([squares, total[:, None]], 1) / count


def _write_manifest(path: Path, manifest: Manifest, midpoint: Index, wording: LexicalIndex) -> None:
    if midpoint.holder_ids != wording.holder_ids:
        raise UnableToBuildIndex("The parts have different holders.")
    inherited = {
        name: midpoint.manifest[name]
        for name in ("adapter", "checkpoints", "initial", "members", "items_at_build", "counts", "mean_query_of")
    }
    complete = {
        **manifest,
        **inherited,
        "format": FORMAT,
        "method": "hybrid",
        "influence": midpoint.manifest["method"],
        "revision": manifest.get("revision", 0) + 1,
        "parts": {"midpoint": midpoint.sha256, "lexical": wording.sha256},
    }
    complete["tails_file"] = _write_tails(path, complete, midpoint, wording)
    files = [] if complete["tails_file"] is None else [OWN_SPREAD, complete["tails_file"]]
    artefacts.write_manifest(path, complete, [MOMENTS, *files])


def _write_tails(path: Path, manifest: Manifest, midpoint: Index, wording: LexicalIndex) -> str | None:
    """Write the factors of rule 2 where rows were added; return the name of the file in force, None for too few own
    generations."""
    own = wording.own_generations()
    if own is None or midpoint.net_tails is None:
        return None
    rows, before = midpoint.counted.labels.shape[1], tails.read(path, manifest)
    first = 0 if before is None else len(before)
    if before is not None and first == rows:
        name: str = manifest["tails_file"]
        return name
    both = HybridIndex(path, manifest, "", (midpoint, wording))
    features = HybridFeatures(np.load(midpoint.path / OWN), own)
    if before is None:
        spread = paid_items.spreads(lambda: both.whole_scores(features), generations=len(features))
        save_array(path / OWN_SPREAD, spread)
        before = np.zeros(0, dtype=np.float32)
    factors = np.concatenate([before, np.ones(rows - first, dtype=np.float32)])
    blocks = both.whole_scores(features, first=first)
    for chosen, found in paid_items.net_tails(blocks, np.load(path / OWN_SPREAD)):
        factors[chosen] = found
    name = tails.NAME.format(manifest["revision"])
    save_array(path / name, factors)
    return name
