"""Several processes that build one index together: the division of the steps, and the wait at the end of a stage.

Steps of a build are functions of files, so that processes exchange nothing but "done": torch.distributed brings them
together and holds them at the end of each stage. They must see the same directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed

WAIT_MAX = timedelta(hours=12)
"""A rank with nothing to do in a stage waits for the others: the longest step decides."""


@dataclass(frozen=True, slots=True)
class Ranks:
    rank: int = 0
    world: int = 1

    def does(self, number: int) -> bool:
        """Tell whether this rank does the step of this number."""
        return number % self.world == self.rank

    def wait(self) -> None:
        """Until every rank has come here."""
        if self.world > 1:
            torch.distributed.barrier()

    @contextmanager
    def leading(self, lock: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """The first rank holds the lock for all of them."""
        if self.rank:
            yield
        else:
            with lock():
                yield


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the ranks that torchrun started (it sets RANK and WORLD_SIZE).

    They meet by gloo on any device: nothing but "done" goes from one to the other, which needs no GPU.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    torch.distributed.init_process_group("gloo", timeout=WAIT_MAX)
    try:
        yield Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        torch.distributed.destroy_process_group()
