"""Each step of a set-up: its state, a sentence, and the page or command that mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db import DatabaseError

State = Literal["done", "to do", "broken", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one step at one moment. `note` is a state to know of, with which the installation works."""

    state: State
    words: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `page` is an address of the console and `command` a command line; either mends it. Roles act on it."""

    key: str
    title: str
    check: Callable[[datetime], Finding]
    page: str = ""
    command: str = ""
    roles: str = ""
    is_machine: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    step: Step
    finding: Finding

    @property
    def is_open(self) -> bool:
        return self.finding.state in ("to do", "broken")


def check(steps: tuple[Step, ...], at: datetime) -> list[Checked]:
    """Look at every step. A check that fails is itself a finding: the others are still told."""
    return [Checked(step, _finding(step, at)) for step in steps]


def _finding(step: Step, at: datetime) -> Finding:
    try:
        return step.check(at)
    except DatabaseError as error:
        return Finding("broken", f"The database could not be asked: {_line(error)}")
    except Exception as error:  # any error of a broken part is the answer
        return Finding("broken", _line(error))


def _line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
