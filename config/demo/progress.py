"""The demo's progress: a bar for each stage on the terminal, and a small file from which the web process shows it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Advance = Callable[[int, int], None]
Count = Callable[[], tuple[int, int]]

STAGES = {
    "people": "Contributors and finance staff register",
    "works": "Works are registered, duplicates found",
    "pictures": "Icons of eight makers are registered as works",
    "plan": "A royalty plan takes effect; the service prefunds its account",
    "draw_retrain": "Coalitions of makers are retrained for the evaluation of the drawing model",
    "draw_train": "A small flow model is trained on the pictures",
    "draw_manifest": "The drawing model and its training manifest are registered",
    "draw_index": "The index of the drawing model is built",
    "retrain": "Coalitions of authors are retrained for the evaluation",
    "train": "A small transformer is trained on the works",
    "manifest": "The model and its training manifest are registered",
    "index": "EK-FAC, midpoint features and the index are built",
    "audit": "The index is evaluated against the retrained coalitions",
    "draw_audit": "The index of the drawing model is evaluated against its retrained coalitions",
    "draw_report": "A second model service draws and reports over HTTP",
    "report": "A model service generates and reports over HTTP",
    "attribute": "Workers attribute every generation",
    "accrue": "Shares become accrued royalties in the ledger",
    "close": "The month is closed and sealed",
    "onboard": "Contributors onboard with Stripe",
    "approve": "Finance builds a payout run; another person approves it",
    "execute": "Workers pay through Stripe, one transfer a contributor",
    "settle": "The money arrives; webhooks are applied; the run is reconciled",
    "check": "Every invariant of the books is checked",
}
"""Name and sentence of every stage, in the order in which they begin."""
OPENING = ("people", "works", "pictures", "plan")
"""The stages after which the pages have something to show."""
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
PREPARING = "preparing"
WRITE_SECONDS = 0.5
WAIT_SECONDS_MAX = 900.0
ENDED_EARLY = "The command ended before the demo was ready. Start it again."


class UnableToDemonstrate(Exception):
    """The demo cannot go on; the message names the stage and the reason."""


@dataclass
class Stage:
    name: str
    says: str
    state: str = WAITING
    done: int = 0
    total: int = 0
    """0 where nothing is counted."""
    seconds: float = 0.0
    """Wall clock, of a stage that has ended."""


@dataclass
class Report:
    """The state of the whole demo, as the file has it."""

    state: str
    stages: list[Stage]
    error: str = ""
    pid: int = 0
    """Of the command."""

    @property
    def running(self) -> list[Stage]:
        return [stage for stage in self.stages if stage.state == RUNNING]

    @property
    def next(self) -> Stage | None:
        """The first stage that has not begun; None where all have."""
        return next((stage for stage in self.stages if stage.state == WAITING), None)

    @property
    def people_are_there(self) -> bool:
        """Whether somebody can log in and finds works, consent and an empty month."""
        return all(stage.state == DONE for stage in self.stages if stage.name in OPENING)

    @property
    def done(self) -> int:
        """The number of finished stages."""
        return sum(stage.state == DONE for stage in self.stages)


def path_of(data: Path) -> Path:
    """Return the place of the file below TRIBUTARY_DATA."""
    return data / "demo" / "progress.json"


def read(path: Path) -> Report | None:
    """Read the file; None where there is none, or where it is not one of this program's.

    A preparation with a command that is gone has failed, also where it could not say so.
    """
    try:
        stored = json.loads(path.read_text())
        report = Report(**{**stored, "stages": [Stage(**stage) for stage in stored["stages"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if report.state == PREPARING and not _is_alive(report.pid):
        report.state, report.error = FAILED, ENDED_EARLY
    return report


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass
class Stages:
    """Times the stages of the demo, shows each as a line that stays, and writes the file."""

    console: Console
    path: Path
    seconds: dict[str, float] = field(default_factory=dict)
    processor_seconds: dict[str, float] = field(default_factory=dict)
    """By stage, of this process and of the children that ended meanwhile. Stages beside others have none."""

    def __post_init__(self) -> None:
        self._stages = {name: Stage(name, says) for name, says in STAGES.items()}
        self._report = Report(PREPARING, list(self._stages.values()), pid=os.getpid())
        self._counted: dict[str, Count] = {}
        self._started: dict[str, float] = {}
        self._written = 0.0
        self._write()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        """Run one stage; the yielded function takes (done, total). Raises UnableToDemonstrate for every failure."""
        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=14),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
        )
        used = processor_seconds()
        with self._timed(name) as stage, Progress(*columns, console=self.console) as progress:
            task = progress.add_task(stage.says, total=None, count="")

            def advance(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total, count=f"{done:,}/{total:,}")
                stage.done, stage.total = done, total
                self._write_in_turn()

            yield advance
            progress.update(task, completed=1, total=1)
        self.processor_seconds[name] = round(processor_seconds() - used, 2)

    @contextlib.contextmanager
    def beside(self, name: str, count: Count) -> Iterator[None]:
        """A stage that goes on while others do; `count` returns (done, total) whenever the file is written."""
        with self._timed(name):
            self._counted[name] = count
            try:
                yield
            finally:
                self._counted.pop(name)

    def wait(self, count: Callable[[], int], total: int, advance: Advance) -> None:
        """Until the workers have done `total`; the sweeps on the beat guarantee that they will.

        Raises UnableToDemonstrate after WAIT_SECONDS_MAX.
        """
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while (done := count()) < total:
            if time.monotonic() > deadline:
                raise UnableToDemonstrate(
                    f"Only {done} of {total} after {WAIT_SECONDS_MAX:.0f} s; see {self.path.parents[1] / 'logs'}."
                )
            advance(done, total)
            time.sleep(0.2)
        advance(total, total)

    def finish(self) -> None:
        """Say that the demo is ready, every stage of it."""
        for stage in self._report.stages:
            stage.state = DONE
        self._report.state = DONE
        self._write()

    def fail(self, reason: str) -> None:
        """Say that the demo cannot go on."""
        self._report.state, self._report.error = FAILED, reason
        self._write()

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[Stage]:
        stage = self._stages[name]
        self._started[name] = time.monotonic()
        stage.state = RUNNING
        self._write()
        try:
            yield stage
        except UnableToDemonstrate as error:
            # A stage beside this one may have failed, and said so.
            stage.state = WAITING if self._report.state == FAILED else FAILED
            self.fail(self._report.error or f"{stage.says}: {error}")
            raise
        except Exception as error:
            stage.state = FAILED
            reason = f"{stage.says}: {str(error) or repr(error)}"
            self.fail(reason)
            raise UnableToDemonstrate(reason) from error
        self._end(stage)
        self._write()

    def _end(self, stage: Stage) -> None:
        if stage.state == RUNNING:
            stage.state, stage.seconds = DONE, round(time.monotonic() - self._started[stage.name], 2)
            self.seconds[stage.name] = stage.seconds

    def _write_in_turn(self) -> None:
        if time.monotonic() - self._written > WRITE_SECONDS:
            self._write()

    def _write(self) -> None:
        """Write whole or not at all: the web process reads at any moment."""
        for name, count in self._counted.items():
            stage = self._stages[name]
            stage.done, stage.total = count()
            if stage.done == stage.total:
                # Its block may go on: another stage needs its results.
                self._end(stage)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self._report)))
        draft.replace(self.path)
        self._written = time.monotonic()


def processor_seconds() -> float:
    """Return the processor time that this process and its ended children have used so far, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
