"""Every way of scoring holders for a generation, behind one interface, each in a directory that names its method.

An attributor is an opened index: it turns generations into features and features into scores of holders and of works.
Scores are additive over training items for every method. The manifest of an index names its attributor, beside the
hashes of checkpoints and configuration. Features and scores of different indexes are never mixed or compared.

    midpoint   whitened gradients (influence/index/reader.py); plain influence where the initial checkpoint is unknown
    lexical    hashed n-grams of words, TF-IDF
    hybrid     the midpoint's scores and lexical ones, each in units of its spread over items
    encoder    embeddings, of any modality, for models that nobody sees inside
    pushed     features that a service computes where its model runs, and reports with each generation
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from influence.adapters import Example, LoadedModel
from influence.index import artefacts, reader
from influence.index.artefacts import Manifest, UnableToBuildIndex, UnableToOpenIndex
from influence.index.config import IndexConfig
from influence.index.reader import Condition, IndexItem, Progress, Scores, UnableToEmbed
from influence.index.sources import Source
from influence.index.work_scores import WorkScore
from influence.paid_items import Counted
from influence.scorers import hybrid, lexical, supplied
from influence.shapley import Groups

__all__ = [
    "Attributor",
    "Condition",
    "IndexConfig",
    "IndexItem",
    "Scores",
    "UnableToBuildIndex",
    "UnableToEmbed",
    "UnableToOpenIndex",
    "WorkScore",
    "build",
    "condition_of",
    "discard_other_parts",
    "extend",
    "go_back",
    "gradient_part",
    "open_attributor",
    "remove_works",
]

_BY_ATTRIBUTOR = {
    "midpoint": reader,
    "lexical": lexical,
    "hybrid": hybrid,
    "encoder": supplied,
    "pushed": supplied,
}
_BY_FORMAT = {module.FORMAT: module for module in _BY_ATTRIBUTOR.values()}


class Attributor(Protocol):
    """An opened index. Features are the result of `embed`: an array, a sparse matrix or several of them. Callers hand
    them back to the same index and look at nothing but, by `features[rows]`, some of their rows."""

    path: Path
    manifest: Manifest
    sha256: str
    """Of the manifest: it names checkpoints, configuration and every file, and thus the version of the index."""
    config: IndexConfig

    @property
    def holder_ids(self) -> tuple[int, ...]:
        """Ascending; the columns of scores."""
        ...

    def works(self) -> Any:
        """(3, W) int64: holder, work and duplicate cluster (-1: none) of each work that counts, by work."""
        ...

    def check(self, example: Example) -> None:
        """Raise UnableToEmbed if this example could not be embedded."""
        ...

    def embed(self, examples: Sequence[Example]) -> Any:
        """Features of B generations or items. Raises UnableToEmbed, naming the position."""
        ...

    def score(self, features: Any, *, groups: Groups = ()) -> Scores:
        """Score every holder, then every group of them as one holder with all its holders' works. The cost does not
        depend on the number of works."""
        ...

    def general_scores(self, *, groups: Groups = ()) -> Scores:
        """Score holders, then groups, for the average generation; needs no model. `specific` has no row."""
        ...

    def work_scores(self, features: Any, holder_id: int, rows: Sequence[int]) -> tuple[Any, Any]:
        """Works (W,) of a holder and their specific scores (W, rows), which add up to the holder's."""
        ...

    def item_scores(self, features: Any) -> Iterator[tuple[Any, Any]]:
        """Positions (n,) and specific scores (B, n) of all items that count, a bounded number at a time."""
        ...

    @property
    def counted(self) -> Counted:
        """The items as rule 2 of shares counts them (influence/paid_items.py)."""
        ...

    @property
    def net_tails(self) -> Any:
        """(rows,): the factor of each item under rule 2; None where it is 1 for want of own generations."""
        ...

    def top_works(self, features: Any, holder_ids: Sequence[Sequence[int]], n: int) -> list[dict[int, list[WorkScore]]]:
        """For each generation and each holder asked for: its n works with the largest specific score, best first."""
        ...


def build(
    directory: Path,
    *,
    model: LoadedModel,
    items: Sequence[IndexItem] | Source,
    config: IndexConfig | None = None,
    mean_of: Sequence[Example] = (),
    progress: Progress | None = None,
) -> Attributor:
    """Build the index that the configuration asks for; `directory` appears when all of it is done.

    `mean_of` are the model's own generations: their mean query separates general from specific scores.
    """
    config = config or IndexConfig()
    kind: Any = _BY_ATTRIBUTOR[config.attributor]
    built: Attributor = kind.build_index(
        directory, model=model, items=items, config=config, mean_of=mean_of, progress=progress
    )
    return built


def gradient_part(directory: Path, config: IndexConfig) -> tuple[Path, IndexConfig] | None:
    """The gradient index that the build of `directory` needs, and its place. influence/index/build.py cuts it into
    steps; `build` goes on from it. None where wording alone is compared."""
    if config.attributor == "midpoint":
        return directory, config
    if config.attributor == "hybrid":
        return hybrid.draft_of(directory) / "midpoint", config.of_part("midpoint")
    return None


def discard_other_parts(directory: Path, *, config: IndexConfig, items: Source) -> None:
    """Remove finished parts of this index that were built of other items, before a build begins or begins again."""
    if config.attributor == "hybrid":
        hybrid.discard_other_parts(directory, config=config, source=items)


def open_attributor(path: Path, *, model: LoadedModel | None = None, sha256: str | None = None) -> Attributor:
    """Open the index in the directory, of any attributor, after a check of every file against its manifest.

    With `sha256` the manifest must be the one on record. Without a model it scores features and embeds nothing.
    """
    opened: Attributor = _module_of(path).open_index(path, model=model, sha256=sha256)
    return opened


def extend(
    path: Path, *, model: LoadedModel, items: Sequence[IndexItem], progress: Progress | None = None
) -> Attributor:
    """Append items in the frozen basis and sum again; nothing that was there is embedded again."""
    extended: Attributor = _module_of(path).extend_index(path, model=model, items=items, progress=progress)
    return extended


def remove_works(path: Path, *, work_ids: Sequence[int], model: LoadedModel | None = None) -> Attributor:
    """Take works out of the sums and of the evidence."""
    left: Attributor = _module_of(path).remove_works(path, work_ids=work_ids, model=model)
    return left


def condition_of(opened: Attributor) -> Condition | None:
    """Measure how well the basis of gradients still fits the items; None where there is no such basis."""
    if isinstance(opened, hybrid.HybridIndex):
        return reader.condition_of(opened.midpoint.manifest)
    return reader.condition_of(opened.manifest) if isinstance(opened, reader.Index) else None


def go_back(path: Path, *, sha256: str) -> None:
    """Make an earlier revision the current one again; later revisions were never recorded."""
    artefacts.go_back(path, sha256=sha256)


def _module_of(path: Path) -> Any:
    form = artefacts.read_format(path)
    if form not in _BY_FORMAT:
        raise UnableToOpenIndex(f"Foreign: {path.name} has format {form!r}, which no attributor of this version reads.")
    return _BY_FORMAT[form]
