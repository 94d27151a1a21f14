"""What a person sees while the demo works: a bar for each stage, and how long it took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Advance = Callable[[int, int], None]


class Stages:
    """Times the stages of the demo and shows each as a line that stays."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str, says: str) -> Iterator[Advance]:
        """`says` is what a reader is told; the yielded function takes (done, total)."""
        started = time.monotonic()
        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=14),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(says, total=None, count="")

            def advance(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total, count=f"{done:,}/{total:,}")

            yield advance
            progress.update(task, completed=1, total=1)
        self.seconds[name] = round(time.monotonic() - started, 2)
