"""A callback of the Hugging Face Trainer that writes the training manifest while the model trains."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tributary.errors import InvalidInput
from tributary.integrations.manifest_writer import HasWorks, ManifestWriter

STATE_FILE = "tributary_manifest.json"


class _Recorded:
    """A sampler that notes the positions which it gives. Everything else is the sampler's own."""

    def __init__(self, sampler: Any, drawn: deque[int]) -> None:
        self._sampler = sampler
        self._drawn = drawn

    def __iter__(self) -> Iterator[int]:
        for index in self._sampler:
            self._drawn.append(int(index))
            yield index

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


class ManifestCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Writes the manifest of the examples on which the model was trained, in the order of first use.

    `dataset` is the WorkDataset given to the Trainer. An example is written when its step is done, so that examples
    that were only fetched ahead do not count. A training that goes on from a checkpoint goes on with the manifest.
    Training in one process only: with several each would see a part of the order. Raises InvalidInput then, and for a
    dataset that is read as a stream.
    """

    def __init__(
        self, dataset: HasWorks, path: str | os.PathLike[str], *, steps: str | os.PathLike[str] | None = None
    ) -> None:
        self._dataset = dataset
        self._path = Path(path)
        self._steps = steps
        self._drawn: deque[int] = deque()
        self._batch_size = 0
        self._skipped = 0
        self.writer: ManifestWriter | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin the manifest, or go on with it, and watch the sampler."""
        if args.world_size > 1:
            raise InvalidInput(f"the training has {args.world_size} processes; a manifest is written for one")
        loader = kwargs["train_dataloader"]
        batches: Any = getattr(loader, "batch_sampler", None)
        sampler = getattr(batches, "sampler", None)
        is_counted = hasattr(loader.dataset, "__len__")
        if sampler is None or not getattr(batches, "batch_size", None) or not is_counted:
            raise InvalidInput(
                "the training dataset is read as a stream or by a sampler of its own; give a WorkDataset"
            )
        if len(loader.dataset) != len(self._dataset):
            raise InvalidInput(
                f"the Trainer has {len(loader.dataset)} examples and the callback {len(self._dataset)}: give both the "
                "same WorkDataset"
            )
        self._batch_size = batches.batch_size
        if not isinstance(sampler, _Recorded):
            batches.sampler = _Recorded(sampler, self._drawn)
        self._skipped = 0
        if state.global_step == 0:
            self.writer = ManifestWriter(self._dataset, self._path, steps=self._steps)
            return
        self.writer = self._resumed(args, state.global_step)
        if not args.ignore_data_skip:
            # The Trainer draws these batches again and leaves them away.
            steps = max(-(-len(loader) // args.gradient_accumulation_steps), 1)
            self._skipped = state.global_step % steps * args.gradient_accumulation_steps * self._batch_size

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget positions that were drawn ahead and not used."""
        self._drawn.clear()

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note a batch of a step that has several."""
        self._note()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the last batch of a step."""
        self._note()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the state of the manifest in the checkpoint."""
        folder = _checkpoint(args, state.global_step)
        if self.writer is not None and folder.is_dir():
            (folder / STATE_FILE).write_text(json.dumps(self.writer.state()))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the manifest."""
        if self.writer is not None:
            self.writer.close()

    def _note(self) -> None:
        assert self.writer is not None, "on_train_begin opens the writer."
        while self._skipped and self._drawn:
            self._drawn.popleft()
            self._skipped -= 1
        count = min(self._batch_size, len(self._drawn))
        self.writer.record([self._drawn.popleft() for _ in range(count)])

    def _resumed(self, args: Any, step: int) -> ManifestWriter:
        path = _checkpoint(args, step) / STATE_FILE
        try:
            state = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"the training goes on from step {step}, and {path} cannot be read: {error}. The manifest would lack "
                "the first steps; train from the beginning, or from a checkpoint that this callback has seen"
            ) from None
        return ManifestWriter.resumed(self._dataset, self._path, state, steps=self._steps)


def _checkpoint(args: Any, step: int) -> Path:
    return Path(args.output_dir) / f"checkpoint-{step}"
