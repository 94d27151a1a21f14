"""Progress of long calls: any function that takes a Progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The state of a long call: `done` of `of` in a stage, such as bytes of an upload. `of` is 0 where unknown."""

    stage: str
    done: int
    of: int


OnProgress = Callable[[Progress], None]
