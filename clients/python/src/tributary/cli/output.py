"""The output of a command: lines for people or one JSON document, errors, and a bar of progress on a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from tributary.errors import Interrupted, InvalidInput, ProblemError, Unreachable
from tributary.progress import Progress

DONE, REFUSED, WRONG_INPUT, NO_ANSWER, UNFINISHED, STOPPED = 0, 1, 2, 3, 4, 130
EXIT_CODES = """exit codes:
  0    done
  1    refused: by the server, or the check failed
  2    wrong usage or input
  3    no answer from the server
  4    not finished: not sealed yet, or time was up
  130  stopped by Ctrl-C"""

BAR_CHARACTERS = 30
DRAWN_EVERY_SECONDS = 0.1
BYTE_STAGES = frozenset({"digest", "upload", "manifest", "download"})
MEBIBYTE = 1024 * 1024


class Output:
    """Writes the result of a command to the standard output, and everything else to the standard error."""

    def __init__(self, *, is_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.is_json = is_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._drawn_at = 0.0
        self._is_drawn = False
        self._stage = ""

    def result(self, document: Any, *lines: str) -> None:
        """Print the document with --json, else the lines."""
        self.end_progress()
        if self.is_json:
            print(json.dumps(document, indent=2, ensure_ascii=False, default=str), file=self._out)
        else:
            for line in lines:
                print(line, file=self._out)

    def note(self, line: str) -> None:
        """Print a line for people beside the result."""
        self.end_progress()
        if not self.is_json:
            print(line, file=self._err)

    def error(self, error: Exception) -> int:
        """Print an error, with its facts under --json, and return the exit code."""
        self.end_progress()
        if self.is_json:
            print(json.dumps({"error": _facts(error)}, indent=2, ensure_ascii=False, default=str), file=self._err)
        else:
            print(f"tributary: {error}", file=self._err)
            for line in _more(error):
                print(line, file=self._err)
        return exit_code(error)

    def progress(self, progress: Progress) -> None:
        """Draw a bar, on a terminal and without --json."""
        if self.is_json or not self._err.isatty():
            return
        now = time.monotonic()
        is_whole = progress.of > 0 and progress.done >= progress.of
        if now - self._drawn_at < DRAWN_EVERY_SECONDS and not is_whole and progress.stage == self._stage:
            return
        if self._is_drawn and progress.stage != self._stage:
            self.end_progress()
        self._drawn_at, self._is_drawn, self._stage = now, True, progress.stage
        self._err.write("\r" + bar(progress))
        self._err.flush()

    def end_progress(self) -> None:
        """End the line of a bar."""
        if self._is_drawn:
            self._err.write("\n")
            self._err.flush()
            self._is_drawn = False


def bar(progress: Progress) -> str:
    """Draw the bar of a progress as one line."""
    scale, unit = (MEBIBYTE, " MiB") if progress.stage in BYTE_STAGES else (1, "")
    done = f"{progress.done / scale:,.1f}" if unit else f"{progress.done:,}"
    if progress.of <= 0:
        return f"{progress.stage:<12} {done}{unit}   "
    part = min(progress.done / progress.of, 1.0)
    filled = int(part * BAR_CHARACTERS)
    of = f"{progress.of / scale:,.1f}" if unit else f"{progress.of:,}"
    drawn = "#" * filled + "." * (BAR_CHARACTERS - filled)
    return f"{progress.stage:<12} [{drawn}] {100 * part:3.0f} %  {done} of {of}{unit}   "


def exit_code(error: Exception) -> int:
    """Return the exit code of an error."""
    if isinstance(error, (Unreachable, Interrupted)):
        return NO_ANSWER
    if isinstance(error, (InvalidInput, OSError)):
        return WRONG_INPUT
    return REFUSED


def _facts(error: Exception) -> dict[str, Any]:
    facts: dict[str, Any] = {"detail": str(error)}
    if isinstance(error, ProblemError):
        facts = {"status": error.status, "type": error.type, "title": error.title, "detail": error.detail}
        facts.update(error.members)
    elif isinstance(error, InvalidInput):
        facts.update({"field": error.field or None, "line": error.line})
    elif isinstance(error, Interrupted):
        facts["upload"] = error.upload
    return facts


def _more(error: Exception) -> Sequence[str]:
    """Write the further facts of a problem as lines: refused works, faults, differing fields."""
    if isinstance(error, Interrupted):
        return ["Run the same command again: it goes on from there."]
    if not isinstance(error, ProblemError):
        return []
    lines = [refused_line(refused) for refused in error.members.get("refused") or () if isinstance(refused, Mapping)]
    lines += [_fault_line(fault) for fault in error.members.get("faults") or () if isinstance(fault, Mapping)]
    if error.members.get("differs"):
        lines.append(f"  differs: {', '.join(map(str, error.members['differs']))}")
    if error.status == 401:
        lines.append("  Run `tributary login` with a key that is in force.")
    return lines


def _fault_line(fault: Mapping[str, Any]) -> str:
    return f"  line {fault.get('line')}: {fault.get('field') or ''} {fault.get('detail') or ''}".rstrip()


def refused_line(refused: Mapping[str, Any]) -> str:
    """Write a refused work of a manifest as one line."""
    numbers = [str(number) for number in refused.get("lines") or ()]
    of = refused.get("n_lines") or len(numbers)
    shown = ", ".join(numbers[:5]) + (f" and {of - 5} more" if of > 5 else "")
    name = refused.get("work") or refused.get("reference") or "unknown work"
    title = f" “{refused['title']}”" if refused.get("title") else ""
    return f"  {name}{title}: {refused.get('detail') or refused.get('reason')} (line {shown})"
