"""Reads a page of docs/start as steps, and runs its blocks of code.

A block that is marked `sh` or `python` is a step. Comments, which a reader of the page does not see, stand beside it:

    <!-- by hand: NAME -->        here a person uses pages; the function NAME of the run does so
    <!-- later -->                the steps below are run when the month is over
    <!-- keep NAME: a.b.0.c -->   the next block prints JSON; this part of it replaces NAME in every later block

NAME in capitals, such as INDEX_ID, is thus the word that the page shows to its reader.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.first_day.browser import UnableToGoOn

BLOCK_SECONDS_MAX = 600
LANGUAGES = ("sh", "python")
_PARTS = re.compile(
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```$"
    r"|^<!-- by hand: (?P<hand>\w+) -->$"
    r"|^<!-- keep (?P<kept>[A-Z_]+): (?P<path>[^\n]+?) -->$"
    r"|(?P<later>^<!-- later -->$)"
    r"|^## (?P<heading>[^\n]+)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Step:
    """A block of code, or an act by hand, at a line of its page."""

    heading: str
    line: int
    hand: str = ""
    language: str = ""
    code: str = ""
    keeps: tuple[tuple[str, str], ...] = ()
    part: int = 0
    """1 for those below the comment `later`."""


def read_steps(page: Path) -> list[Step]:
    """List the steps of a page in their order. Raises UnableToGoOn for a `keep` without a block."""
    text, steps, heading = page.read_text(encoding="utf-8"), list[Step](), page.stem
    keeps: list[tuple[str, str]] = []
    part = 0
    for found in _PARTS.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if found["heading"]:
            heading = found["heading"]
        elif found["hand"]:
            steps.append(Step(heading, line, hand=found["hand"], part=part))
        elif found["later"]:
            part = 1
        elif found["kept"]:
            keeps.append((found["kept"], found["path"]))
        elif found["language"] in LANGUAGES:
            code, kept, keeps = found["code"], tuple(keeps), []
            steps.append(Step(heading, line, language=found["language"], code=code, keeps=kept, part=part))
    if keeps:
        raise UnableToGoOn(f"{page.name}: no block follows {keeps}.")
    return steps


@dataclass
class Shell:
    """Runs blocks one after the other in one folder; variables of a block stay for the next one of the page."""

    folder: Path
    environment: Mapping[str, str]
    kept: dict[str, str] = field(default_factory=dict)
    """The words in capitals that a page shows, and their values in this run. Pages share them."""
    commands: Callable[[str], str | None] = lambda code: None
    """A block that this function answers is not run by the shell."""

    def run(self, page: Path, step: Step) -> str:
        """Run one block and return its standard output. Raises UnableToGoOn with its errors."""
        code = self.filled(step.code)
        answered = self.commands(code)
        output = self._run(page, step, code) if answered is None else answered
        for name, path in step.keeps:
            self.kept[name] = _part(page, step, output, path)
        return output

    def filled(self, code: str) -> str:
        for name, value in self.kept.items():
            code = re.sub(rf"\b{name}\b", value.replace("\\", r"\\"), code)
        return code

    def _run(self, page: Path, step: Step, code: str) -> str:
        if step.language == "python":
            command = [sys.executable, "-c", code]
        else:
            state = self.folder / f".{page.stem}.variables"
            lines = f"[ -f '{state}' ] && . '{state}'\nset -eu -o pipefail\nset -a\n{code}\nexport -p > '{state}'\n"
            command = ["bash", "-c", lines]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS_MAX,
            check=False,
        )
        if done.returncode:
            said = f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            raise UnableToGoOn(f"{page.name}, line {step.line}, ended with {done.returncode}:\n{said}")
        return done.stdout


def _part(page: Path, step: Step, output: str, path: str) -> str:
    try:
        value: Any = json.loads(output)
        for name in path.split("."):
            value = value[int(name) if isinstance(value, list) else name]
    except (ValueError, LookupError, TypeError) as error:
        raise UnableToGoOn(f"{page.name}, line {step.line}: no {path} in: {output[-1500:]}") from error
    return str(value)
