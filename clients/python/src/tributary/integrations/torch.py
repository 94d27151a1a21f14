"""A PyTorch dataset that knows the works of its examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Union

from torch.utils.data import Dataset

from tributary.errors import InvalidInput
from tributary.manifest_lines import checked

Works = Union[str, Mapping[str, Any], Sequence["str | Mapping[str, Any]"]]
"""The works of one example: the id of a work, an item of a manifest, or several of them for a packed example."""


class WorkDataset(Dataset[Any]):
    """Wraps a map-style dataset; `works` names the works of each example, in the order of the examples.

    Examples come unchanged, so that every collator and trainer goes on as before. With `index_key` an example that is a
    mapping also carries its position under this key, for a training loop that calls ManifestWriter.record.
    Raises InvalidInput for a wrong number of works, and for an item that is none, with its position.
    """

    def __init__(self, dataset: Any, works: Sequence[Works], *, index_key: str | None = None) -> None:
        if len(works) != len(dataset):
            raise InvalidInput(f"{len(dataset)} examples have {len(works)} entries in `works`", field="works")
        self.dataset = dataset
        self.works = works
        self.index_key = index_key
        for index in range(len(works)):
            self.manifest_items(index)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        example = self.dataset[index]
        if self.index_key is None:
            return example
        if not isinstance(example, Mapping):
            raise InvalidInput(f"an example is {type(example).__name__}, no mapping", field="index_key")
        return {**example, self.index_key: index % len(self)}

    def manifest_items(self, index: int) -> list[dict[str, Any]]:
        """Return the items of a manifest of which an example is made."""
        works = self.works[index]
        several = [works] if isinstance(works, (str, Mapping)) else list(works)
        if not several:
            raise InvalidInput(f"example {index} has no work", field="works")
        return [self._item(work, index) for work in several]

    def _item(self, work: Any, index: int) -> dict[str, Any]:
        try:
            return checked({"work": work} if isinstance(work, str) else work, index)
        except InvalidInput as error:
            reason = str(error).replace(f"line {index}: ", "", 1)
            raise InvalidInput(f"example {index}: {reason}", field="works") from None
