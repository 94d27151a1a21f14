"""A manifest that grows while a model trains: one line for each training item, in the order of first use."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from tributary.errors import InvalidInput
from tributary.manifest_lines import encoded


class HasWorks(Protocol):
    """A dataset that knows the works of each of its examples."""

    def __len__(self) -> int:
        """Count the examples."""

    def manifest_items(self, index: int) -> Sequence[dict[str, Any]]:
        """Return the items of a manifest of which an example is made."""


class ManifestWriter:
    """Writes the used examples of a dataset to `path`, each one time, and with `steps` every use in its order.

    A line of `steps` reads {"step": 3, "examples": [17, 4]}: positions in the dataset. Files appear at once and grow
    with every call of `record`.
    """

    def __init__(
        self, dataset: HasWorks, path: str | os.PathLike[str], *, steps: str | os.PathLike[str] | None = None
    ) -> None:
        self._dataset = dataset
        self.path = Path(path)
        self.steps_path = None if steps is None else Path(steps)
        self._used = bytearray((len(dataset) + 7) // 8)
        self.items = 0
        self._file = self.path.open("wb")
        self._steps = None if self.steps_path is None else self.steps_path.open("wb")
        self._step = 0

    def record(self, examples: Iterable[int]) -> None:
        """Note the examples of a training step, by their positions. Raises InvalidInput for one that is not there."""
        used = [int(example) for example in examples]
        for example in used:
            if not 0 <= example < len(self._dataset):
                raise InvalidInput(f"the dataset has {len(self._dataset)} examples, and none at {example}")
            place, bit = divmod(example, 8)
            if self._used[place] & (1 << bit):
                continue
            self._used[place] |= 1 << bit
            for item in self._dataset.manifest_items(example):
                self.items += 1
                self._file.write(encoded(item, self.items))
        self._step += 1
        if self._steps is not None:
            self._steps.write(json.dumps({"step": self._step, "examples": used}).encode() + b"\n")
            self._steps.flush()
        self._file.flush()

    def state(self) -> dict[str, Any]:
        """Return the state, to go on from it after a restart."""
        steps = self._steps.tell() if self._steps is not None else 0
        used = zlib.compress(bytes(self._used)).hex()
        return {"bytes": self._file.tell(), "items": self.items, "step": self._step, "steps": steps, "used": used}

    @classmethod
    def resumed(
        cls,
        dataset: HasWorks,
        path: str | os.PathLike[str],
        state: dict[str, Any],
        *,
        steps: str | os.PathLike[str] | None = None,
    ) -> ManifestWriter:
        """Go on after an interruption: lines beyond the state are removed. Raises InvalidInput for other files."""
        writer = cls.__new__(cls)
        writer._dataset, writer.path = dataset, Path(path)
        writer.steps_path = None if steps is None else Path(steps)
        writer._used = bytearray(zlib.decompress(bytes.fromhex(state["used"])))
        writer.items, writer._step = state["items"], state["step"]
        if len(writer._used) != (len(dataset) + 7) // 8:
            raise InvalidInput("the dataset has another number of examples than the interrupted training")
        writer._file = _cut(writer.path, state["bytes"])
        writer._steps = None if writer.steps_path is None else _cut(writer.steps_path, state["steps"])
        return writer

    def close(self) -> None:
        """Write everything to disk and close the files."""
        for file in (self._file, self._steps):
            if file is not None and not file.closed:
                file.flush()
                os.fsync(file.fileno())
                file.close()

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _cut(path: Path, size: int) -> Any:
    if not path.is_file() or path.stat().st_size < size:
        raise InvalidInput(f"{path} lacks lines of the interrupted training: put the file of that training there")
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file
