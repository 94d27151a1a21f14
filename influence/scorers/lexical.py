"""Similarity of wording: TF-IDF over hashed runs of tokens or words, sparse, additive over items. It calls no model.

The score of an item for a generation is the cosine of their vectors. A holder's score is the sum over its items, so
that a query touches only the holders' sums. It measures the wording that a work shares with an output, not influence.
It stands beside influence as a baseline, serves black-box models, and is one half of the hybrid. Tokens are the model's
own; words are those of the output as its tokeniser writes it, and neither case nor punctuation counts. Source of
TF-IDF: Salton and Buckley 1988.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from influence import paid_items
from influence.adapters import Example, LoadedModel, Tokeniser, UnableToEmbed, Untokenised
from influence.index import artefacts, tails
from influence.index.artefacts import Manifest, UnableToBuildIndex, UnableToOpenIndex
from influence.index.config import SHARD_ITEMS_MAX, IndexConfig
from influence.index.files import OWN_SPREAD, digest_of_state
from influence.index.reader import IndexItem, Progress, Scores
from influence.index.shards import Array, labels_of_works
from influence.index.sources import Listed, Source, source_of
from influence.index.sums import owners_of_clusters, ownership
from influence.index.work_scores import WorkScore, best_works
from influence.paid_items import Counted
from influence.scorers.terms import counts_of, units_of, weighted
from influence.shapley import Divided, Groups

FORMAT = "tributary-lexical/2"
MEAN_QUERY = "mean_query.npy"
IDF = "idf.npy"
SPREAD_ROWS = "spread_rows.npy"
OWN = "own"
CHUNK_ITEMS = 4_096


class LexicalIndex:
    """An opened lexical index. Features are a sparse matrix (B, buckets), float32."""

    def __init__(self, path: Path, manifest: Manifest, sha256: str, model: LoadedModel | None) -> None:
        self.path = path
        self.manifest = manifest
        self.sha256 = sha256
        self.config = IndexConfig.from_json(manifest["config"])
        self._tokeniser = None if model is None else model.tokeniser
        self._idf: Array = np.load(path / IDF)
        self._mean_query: Array = np.load(path / MEAN_QUERY)
        holders = np.load(path / manifest["holders_file"])
        self.holder_ids: tuple[int, ...] = tuple(int(holder) for holder in holders)
        # By term: a query reads the rows of its own terms only, for any number of terms that the holders used.
        self._sums = _load_sparse(path, manifest["sums_file"], (self.config.buckets, len(holders)))
        self._general = self._mean_query @ self._sums

    def check(self, example: Example) -> None:
        """Raise UnableToEmbed if there is no token or word to compare."""
        if not len(units_of(self._opened_tokeniser(), example, self.config)):
            raise UnableToEmbed(f"Nothing to compare: the output has no {self.config.terms[:-1]}.")

    def embed(self, examples: Sequence[Example]) -> Any:
        """TF-IDF vectors of length one, sparse (B, buckets). Raises UnableToEmbed, naming an unreadable example."""
        for position, example in enumerate(examples):
            try:
                self.check(example)
            except UnableToEmbed as reason:
                raise UnableToEmbed(f"Example {position}: {reason}") from reason
        return self.vectors(examples)

    def vectors(self, examples: Sequence[Example]) -> Any:
        """The same, in which an example without tokens or words is nothing instead of an error."""
        return weighted(counts_of(examples, self._opened_tokeniser(), self.config), self._idf)

    def score(self, features: Any, *, groups: Groups = ()) -> Scores:
        """Mean similarity of the holders' items to each generation, beyond the average generation (specific) and to it
        (general), per item of the index. There is one way to compare texts, hence no standard error."""
        alone = Divided(torch.from_numpy(self._general), torch.from_numpy(self.specific(features)))
        grouped = alone.with_groups(self.holder_ids, groups)
        general, specific = grouped.general.numpy(), grouped.specific.numpy()
        return Scores(self.holder_ids, specific, np.zeros_like(specific), general, np.zeros_like(general))

    def general_scores(self, *, groups: Groups = ()) -> Scores:
        """The general scores alone, which are the same for every generation: `specific` has no row."""
        return self.score(sparse.csr_matrix((0, self.config.buckets), dtype=np.float32), groups=groups)

    def specific(self, features: Any) -> Array:
        """(B, C) float32."""
        return np.asarray((features @ self._sums).toarray() - self._general, dtype=np.float32)

    def spread(self, features: Any) -> Array:
        """(B,): standard deviation of the specific score over items, on a sample frozen when the index was built."""
        sample = self._sample
        scores = (features @ sample.T).toarray() - self._mean_query @ sample.T
        return np.asarray(scores.std(axis=1))

    def spread_of_general(self) -> float:
        return float((self._mean_query @ self._sample.T).std())

    def work_scores(self, features: Any, holder_id: int, rows: Sequence[int]) -> tuple[Array, Array]:
        """Works (W,) of a holder and their specific scores (W, rows); reads no other items."""
        queries = features[list(rows)]
        positions = self._items.of_holder(holder_id)
        works = np.unique(self._items.works[positions])
        scores = np.zeros((len(works), len(rows)), dtype=np.float32)
        for chosen, found in self._items.chunks(positions):
            places = np.searchsorted(works, self._items.works[chosen])
            np.add.at(scores, places, (found @ queries.T).toarray() - (found @ self._mean_query)[:, None])
        return works, scores

    def item_scores(self, features: Any) -> Iterator[tuple[Array, Array]]:
        """Positions (n,) and specific scores (B, n) of all items that count, block by block."""
        return self.scores_at(features, self._items.alive)

    def scores_at(self, features: Any, positions: Array) -> Iterator[tuple[Array, Array]]:
        """The same of these items, ascending."""
        for chosen, whole in _whole_scores(self._items, positions, features):
            general = np.concatenate([found @ self._mean_query for _, found in self._items.chunks(chosen)])
            yield chosen, (whole - general).astype(np.float32)

    @property
    def alive(self) -> Array:
        """Positions (n,) of the items that count."""
        return self._items.alive

    @cached_property
    def counted(self) -> Counted:
        """The items as rule 2 counts them."""
        items = self._items
        return Counted(np.stack([items.holders, items.works, items.clusters]), items.alive)

    @cached_property
    def net_tails(self) -> Array | None:
        """(rows,): the factor f of each row under rule 2; None without own generations."""
        return tails.read(self.path, self.manifest)

    def own_generations(self) -> Any:
        """Features (G, buckets) of the own generations that the index was built with; None for too few."""
        if self.manifest.get("own_generations") is None:
            return None
        return _load_sparse(self.path, OWN, (self.manifest["own_generations"], self.config.buckets))

    def works(self) -> Array:
        items = self._items
        return labels_of_works(np.stack([items.holders, items.works, items.clusters])[:, items.alive])

    def top_works(self, features: Any, holder_ids: Sequence[Sequence[int]], n: int) -> list[dict[int, list[WorkScore]]]:
        return best_works(lambda holder, rows: self.work_scores(features, holder, rows), holder_ids, n)

    def _opened_tokeniser(self) -> Tokeniser:
        if self._tokeniser is None:
            raise UnableToEmbed("The index was opened without its model.")
        return self._tokeniser

    @cached_property
    def _items(self) -> _Items:
        return _open_items(self.path, self.manifest)

    @cached_property
    def _sample(self) -> Any:
        rows = np.load(self.path / SPREAD_ROWS)
        # Later removals do not matter: the measure stays that of the day when the index was built.
        return sparse.vstack([found for _, found in self._items.chunks(rows)]).tocsr()


def build_index(
    directory: Path,
    *,
    model: LoadedModel,
    items: Sequence[IndexItem] | Source,
    config: IndexConfig,
    mean_of: Sequence[Example] = (),
    progress: Progress | None = None,
) -> LexicalIndex:
    """Count terms, weigh them by how few items have them, sum by holder; `directory` appears when all of it is done.

    Raises UnableToBuildIndex without items, without text, or when no item has a term.
    """
    report = progress or (lambda stage, done, total: None)
    if not len(items):
        raise UnableToBuildIndex("There is no training item.")
    if isinstance(model.tokeniser, Untokenised):
        raise UnableToBuildIndex("This model does not read text: there is no wording to compare.")
    source = source_of(items)
    with artefacts.appearing(directory) as draft:
        having = np.zeros(config.buckets, dtype=np.int64)
        for positions in _chunks(range(len(source))):
            counts = counts_of(source.examples(positions), model.tokeniser, config)
            having += np.bincount(counts.indices, minlength=config.buckets)
            report(config.terms, positions.stop, len(source))
        if not having.any():
            raise UnableToBuildIndex(
                f"No training item has a {config.terms[:-1]}: similarity of wording does not fit this model."
            )
        idf = (np.log((1 + len(items)) / (1 + having)) + 1).astype(np.float32)
        np.save(draft / IDF, idf)
        manifest = _describe(model, config, source)
        shards = _write_items(draft, model.tokeniser, idf, source, manifest, report)
        if mean_of:
            queries = weighted(counts_of(mean_of, model.tokeniser, config), idf)
            mean_query = np.asarray(queries.mean(axis=0)).ravel()
            if len(mean_of) >= paid_items.OWN_GENERATIONS_MIN:
                _save_sparse(draft, OWN, queries)
                manifest["own_generations"] = len(mean_of)
        else:
            found = (part.sum(axis=0) for _, part in _Items(draft, shards, _nothing()).chunks(np.arange(len(items))))
            mean_query = np.asarray(sum(found)).ravel()
        manifest["mean_query_of"] = "own generations" if mean_of else "training items"
        np.save(draft / MEAN_QUERY, mean_query.astype(np.float32))
        chance = np.random.default_rng(config.seed)
        rows = np.sort(chance.permutation(len(items))[: config.spread_items])
        np.save(draft / SPREAD_ROWS, rows)
        _write_revision(draft, manifest, shards=shards, removed=_nothing())
    return open_index(directory, model=model)


def open_index(path: Path, *, model: LoadedModel | None = None, sha256: str | None = None) -> LexicalIndex:
    """Check every file against the manifest, and the model's checkpoints against those the index was built for.

    Raises UnableToOpenIndex when one of them differs.
    """
    manifest, found = artefacts.read_manifest(path, form=FORMAT, sha256=sha256)
    if model is not None and [digest_of_state(state) for state in model.checkpoints] != manifest["checkpoints"]:
        raise UnableToOpenIndex("Foreign: it was built for other checkpoints than this model's.")
    return LexicalIndex(path, manifest, found, model)


def extend_index(
    path: Path, *, model: LoadedModel, items: Sequence[IndexItem], progress: Progress | None = None
) -> LexicalIndex:
    """Append items with the term weights of the first build, and sum again."""
    report = progress or (lambda stage, done, total: None)
    with artefacts.changing(path):
        manifest = open_index(path, model=model).manifest
        shards = _write_items(path, model.tokeniser, np.load(path / IDF), Listed(items), manifest, report)
        removed = np.load(path / manifest["removed_file"])
        _write_revision(path, manifest, shards=[*manifest["shards"], *shards], removed=removed)
        return open_index(path, model=model)


def remove_works(path: Path, *, work_ids: Sequence[int], model: LoadedModel | None = None) -> LexicalIndex:
    """Take works out of the sums and of the evidence; their rows stay in the shards, listed as removed.

    Raises UnableToBuildIndex for a work that is not in the index.
    """
    with artefacts.changing(path):
        manifest = open_index(path).manifest
        items = _open_items(path, manifest)
        unknown = set(work_ids) - set(items.works.tolist())
        if unknown:
            raise UnableToBuildIndex(f"Work {min(unknown)} is not in the index.")
        gone = np.flatnonzero(np.isin(items.works, np.asarray(work_ids, dtype=np.int64)))
        removed = np.union1d(gone, np.load(path / manifest["removed_file"]))
        _write_revision(path, manifest, shards=manifest["shards"], removed=removed)
        return open_index(path, model=model)


# --- items on disk --------------------------------------------------------------------------------------------------
class _Items:
    """The items of a lexical index, numbered through all shards; memory-mapped."""

    def __init__(self, directory: Path, shards: Sequence[str], removed: Array) -> None:
        self._parts = [
            tuple(np.load(directory / f"{shard}.{ending}.npy", mmap_mode="r") for ending in _ENDINGS)
            for shard in shards
        ]
        labels = np.concatenate([np.load(directory / f"{shard}.labels.npy") for shard in shards])
        self.works, self.holders, self.clusters = labels.T
        self._starts = np.cumsum([0, *(len(starts) - 1 for _, _, starts, _ in self._parts)])
        self._alive = np.ones(len(labels), dtype=bool)
        self._alive[removed] = False

    @property
    def alive(self) -> Array:
        return np.flatnonzero(self._alive)

    def of_holder(self, holder: int) -> Array:
        return np.flatnonzero((self.holders == holder) & self._alive)

    def chunks(self, positions: Array) -> Iterator[tuple[Array, Any]]:
        """(positions, sparse rows (n, buckets)) of these items, ascending, a bounded number at a time."""
        for number, (data, indices, starts, buckets) in enumerate(self._parts):
            first, last = self._starts[number : number + 2]
            inside = positions[(positions >= first) & (positions < last)]
            whole = sparse.csr_array((data, indices, starts), shape=(len(starts) - 1, int(buckets[0])), copy=False)
            for start in range(0, len(inside), CHUNK_ITEMS):
                chosen = inside[start : start + CHUNK_ITEMS]
                yield chosen, whole[chosen - first]


_ENDINGS = ("data", "indices", "starts", "buckets")


def _open_items(directory: Path, manifest: Manifest) -> _Items:
    return _Items(directory, manifest["shards"], np.load(directory / manifest["removed_file"]))


def _write_items(
    directory: Path,
    tokeniser: Tokeniser,
    idf: Array,
    source: Source,
    manifest: Manifest,
    report: Progress,
) -> list[str]:
    """Vectors in new shards, divided by the number of items at the build, as an index of influence has them."""
    config = IndexConfig.from_json(manifest["config"])
    names: list[str] = []
    holders, works, clusters = source.labels()
    labels = np.stack([works, holders, clusters], axis=1)
    for shard in _chunks(range(len(source)), SHARD_ITEMS_MAX):
        vectors = []
        for positions in _chunks(shard):
            vectors.append(weighted(counts_of(source.examples(positions), tokeniser, config), idf))
            report("lexical items", positions.stop, len(source))
        found = sparse.vstack(vectors).tocsr()
        name = f"items-{len(manifest['shards']) + len(names):05d}"
        names.append(name)
        arrays = {
            "data": (found.data / manifest["items_at_build"]).astype(np.float32),
            "indices": found.indices.astype(np.int32),
            "starts": found.indptr.astype(np.int64),
            "buckets": np.array([config.buckets]),
            "labels": labels[shard.start : shard.stop],
        }
        for ending, values in arrays.items():
            np.save(directory / f"{name}.{ending}.npy", values)
    return names


def _write_revision(directory: Path, manifest: Manifest, *, shards: list[str], removed: Array) -> None:
    """Sum the items that count by holder, under new file names, and let the manifest change over in one step."""
    revision = manifest.get("revision", 0) + 1
    items = _Items(directory, shards, removed)
    alive = items.alive
    labels = np.stack([items.holders[alive], items.works[alive], items.clusters[alive]])
    holders = np.unique(labels[0])
    rows, owning, shares = ownership(labels, owners_of_clusters(labels))
    owners = sparse.csr_array(
        (shares, (np.searchsorted(holders, owning), rows)), shape=(len(holders), len(alive))
    ).tocsc()
    # Of an index that all works have left nothing is added up.
    sums, start = None if len(alive) else sparse.csr_array((0, IndexConfig.from_json(manifest["config"]).buckets)), 0
    for chosen, found in items.chunks(alive):
        part = (owners[:, start : start + len(chosen)] @ found.astype(np.float64)).tocsr()
        sums = part if sums is None else sums + part
        start += len(chosen)
    assert sums is not None
    names = {kind: f"{kind}-{revision:04d}.npy" for kind in ("holders", "removed")}
    tails_files = _write_tails(directory, manifest, items, revision)
    np.save(directory / names["holders"], holders)
    np.save(directory / names["removed"], removed)
    sums_file = f"sums-{revision:04d}"
    _save_sparse(directory, sums_file, sums.T.tocsr())
    counts = {
        "items": len(alive),
        "works": len(np.unique(items.works[alive])),
        "holders": len(holders),
        "removed_items": len(removed),
    }
    shard_files = [f"{shard}.{ending}.npy" for shard in shards for ending in (*_ENDINGS, "labels")]
    sums_files = [f"{sums_file}.{ending}.npy" for ending in _ENDINGS[:3]]
    files = [*names.values(), *sums_files, *shard_files, *tails_files, IDF, MEAN_QUERY, SPREAD_ROWS]
    renamed = {**{f"{kind}_file": name for kind, name in names.items()}, "sums_file": sums_file}
    if tails_files:
        renamed["tails_file"] = tails_files[0]
    artefacts.write_manifest(
        directory, {**manifest, **renamed, "revision": revision, "shards": shards, "counts": counts}, files
    )


def _whole_scores(items: _Items, positions: Array, queries: Any) -> Iterator[tuple[Array, Array]]:
    """Positions (n,) and whole scores (B, n), general part included, of these items."""
    for start in range(0, len(positions), CHUNK_ITEMS):
        for chosen, found in items.chunks(positions[start : start + CHUNK_ITEMS]):
            yield chosen, (found @ queries.T).toarray().T


def _write_tails(directory: Path, manifest: Manifest, items: _Items, revision: int) -> list[str]:
    """Write the factors of rule 2 where rows were added; the files in force, the factors first; none for too few own
    generations."""
    if (count := manifest.get("own_generations")) is None:
        return []
    kept = [OWN_SPREAD, *(f"{OWN}.{ending}.npy" for ending in _ENDINGS[:3])]
    before = tails.read(directory, manifest)
    first = 0 if before is None else len(before)
    if before is not None and first == len(items.works):
        return [manifest["tails_file"], *kept]
    own = _load_sparse(directory, OWN, (count, IndexConfig.from_json(manifest["config"]).buckets))
    alive = items.alive
    if before is None:
        spread = paid_items.spreads(lambda: _whole_scores(items, alive, own), generations=count)
        np.save(directory / OWN_SPREAD, spread)
        before = np.zeros(0, dtype=np.float32)
    factors = np.concatenate([before, np.ones(len(items.works) - first, dtype=np.float32)])
    added = _whole_scores(items, alive[alive >= first], own)
    for chosen, found in paid_items.net_tails(added, np.load(directory / OWN_SPREAD)):
        factors[chosen] = found
    name = tails.NAME.format(revision)
    np.save(directory / name, factors)
    return [name, *kept]


def _describe(model: LoadedModel, config: IndexConfig, source: Source) -> Manifest:
    return {
        "format": FORMAT,
        "method": "lexical",
        "adapter": model.adapter.name,
        "checkpoints": [digest_of_state(state) for state in model.checkpoints],
        "config": config.to_json(),
        "config_sha256": config.sha256,
        "members": 1,
        "items_at_build": len(source),
        "items_sha256": source.sha256,
        "shards": [],
    }


def _save_sparse(directory: Path, name: str, values: Any) -> None:
    arrays = (values.data.astype(np.float32), values.indices.astype(np.int32), values.indptr.astype(np.int64))
    for ending, array in zip(_ENDINGS, arrays, strict=False):
        np.save(directory / f"{name}.{ending}.npy", array)


def _load_sparse(directory: Path, name: str, shape: tuple[int, int]) -> Any:
    arrays = tuple(np.load(directory / f"{name}.{ending}.npy") for ending in _ENDINGS[:3])
    return sparse.csr_array(arrays, shape=shape)


def _chunks(positions: range, size: int = CHUNK_ITEMS) -> list[range]:
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def _nothing() -> Array:
    return np.zeros(0, dtype=np.int64)
