"""The training items of a manifest as a build reads them: labels at once, texts a part at a time.

Works that were removed from the model version's indexes (WorkRemoval) are skipped. A work with changed content, or a
range that does not fit it, is refused by name.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attribution.models import ModelVersion, TrainingItem, WorkRemoval
from contributors.models import Work
from contributors.queries import works as works_queries
from contributors.queries.contents import DamagedContent

if TYPE_CHECKING:
    from influence.adapters import Example, LoadedModel

ROWS = 5_000
NO_CLUSTER = -1
# The end of a range that takes every token of a work.
WHOLE = 2**31 - 1


class UnableToBuild(Exception):
    """There is no manifest, the configuration is indexed already, or an item does not fit its work."""

    status = 409
    problem = "unable-to-build-index"


def removed_works(version: ModelVersion) -> set[int]:
    """Works that no longer count in the indexes of this model version."""
    standing = WorkRemoval.objects.filter(model_version=version, restored_at__isnull=True)
    return set(standing.values_list("work_id", flat=True))


class ManifestItems:
    """Items in the order of the manifest (influence.index.sources.Source), decided when they are first asked for.

    With `only` those of these works. With `works` (3, W) those of the works that an index has or is planned with, under
    its holders and clusters instead of today's.
    """

    def __init__(
        self, version: ModelVersion, model: LoadedModel, *, only: set[int] | None = None, works: Any = None
    ) -> None:
        self._version = version
        self._model = model
        self._works = works
        self._only = only if works is None else set(works[1].tolist())

    @cached_property
    def _rows(self) -> Any:
        """(2, n) int64: ordinal and work of each item."""
        import numpy as np

        rows = TrainingItem.objects.filter(manifest=self._version.manifest).order_by("ordinal")
        chosen = rows.exclude(work__in=removed_works(self._version)) if self._only is None else rows
        pairs = chosen.values_list("ordinal", "work_id").iterator(chunk_size=ROWS)
        kept = (value for pair in pairs if self._only is None or pair[1] in self._only for value in pair)
        return np.fromiter(kept, dtype=np.int64).reshape(-1, 2).T

    def __len__(self) -> int:
        return int(self._rows.shape[1])

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256(bytes(self._version.manifest.sha256))
        digest.update(self.labels().tobytes())
        return digest.hexdigest()

    def ordinals(self) -> Any:
        """(n,) int64: the number of each item in the manifest."""
        return self._rows[0]

    def labels(self) -> Any:
        """(3, n) int64: holder, work and duplicate cluster of each item."""
        return self._labels

    @cached_property
    def _labels(self) -> Any:
        import numpy as np

        if self._works is not None:
            return self._works[:, np.searchsorted(self._works[1], self._rows[1])]
        works = np.unique(self._rows[1])
        known = np.zeros((2, len(works)), dtype=np.int64)
        for start in range(0, len(works), ROWS):
            part = works[start : start + ROWS]
            found = Work.objects.filter(pk__in=part.tolist()).values_list("pk", "holder_id", "cluster_id")
            for pk, holder, cluster in found:
                known[:, np.searchsorted(works, pk)] = holder, NO_CLUSTER if cluster is None else cluster
        places = np.searchsorted(works, self._rows[1])
        return np.stack([known[0, places], self._rows[1], known[1, places]])

    def examples(self, positions: Sequence[int]) -> list[Example]:
        """These items, each work's text read once a call."""
        ordinals = [int(ordinal) for ordinal in self._rows[0, list(positions)]]
        found: dict[int, Example] = {}
        for start in range(0, len(ordinals), ROWS):
            found |= self._read(ordinals[start : start + ROWS])
        return [found[ordinal] for ordinal in ordinals]

    def _read(self, ordinals: Sequence[int]) -> dict[int, Example]:
        if self._model.adapter.name == "pushed":
            from influence.adapters import Example

            # A service names its features by the items' numbers; nobody here reads the works for them.
            return {ordinal: Example((ordinal,)) for ordinal in ordinals}
        grouped: dict[int, list[TrainingItem]] = defaultdict(list)
        for item in TrainingItem.objects.filter(manifest=self._version.manifest, ordinal__in=ordinals):
            grouped[item.work_id].append(item)
        works = Work.objects.in_bulk(grouped)
        found: dict[int, Example] = {}
        for work_id, items in grouped.items():
            work = works[work_id]
            content = _content(work)
            for item in items:
                found[item.ordinal] = self._example(work, content, item)
        return found

    def _example(self, work: Work, content: bytes | str, item: TrainingItem) -> Example:
        from influence.adapters import UnableToEmbed

        try:
            if isinstance(content, str):
                return self._example_of_text(work, content, item)
            if self._model.reader is None:
                raise UnableToBuild(
                    f"Item {item.ordinal}: “{work.title}” is {work.kind_words}; the model's factory reads text alone."
                )
            return self._model.reader.item(content, item.part)
        except UnableToEmbed as reason:
            raise UnableToBuild(f"Item {item.ordinal}: the model cannot read “{work.title}”: {reason}") from reason

    def _example_of_text(self, work: Work, text: str, item: TrainingItem) -> Example:
        if item.token_start is None or item.token_end is None:
            return self._model.tokeniser.item(text, 0, WHOLE)
        example = self._model.tokeniser.item(text, item.token_start, item.token_end)
        if len(example.tokens) - example.prompt_tokens != item.token_end - item.token_start:
            raise UnableToBuild(
                f"Item {item.ordinal}: “{work.title}” has no tokens {item.token_start} to {item.token_end}."
            )
        return example


def _content(work: Work) -> bytes | str:
    """Read a text, or the bytes of any other work. They must equal the registered ones."""
    try:
        content = works_queries.content(work)
        return content.decode("utf-8") if work.modality == Work.Modality.TEXT else content
    except DamagedContent as damage:
        raise UnableToBuild(str(damage)) from damage
    except UnicodeDecodeError:
        raise UnableToBuild(f"“{work.title}” is not text.") from None
