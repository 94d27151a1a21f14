"""Errors of the client. Every one is a TributaryError, and its text says the mistake, its place and the remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TEXT_SHOWN_MAX = 300


class TributaryError(Exception):
    """Base of every error of this package."""


class InvalidInput(TributaryError, ValueError):
    """A value that the client refuses before it sends anything; `field` and `line` name its place."""

    def __init__(self, detail: str, *, field: str = "", line: int | None = None) -> None:
        place = f"line {line}: " if line is not None else ""
        super().__init__(f"{place}{field}: {detail}" if field else f"{place}{detail}")
        self.field = field
        self.line = line


class Unreachable(TributaryError):
    """No answer came: the server is away, or the network failed. Repeating the call is safe."""


class Interrupted(TributaryError):
    """An upload ended early; `upload` is its id, and pushing the same directory again goes on from there."""

    def __init__(self, detail: str, *, upload: str) -> None:
        super().__init__(detail)
        self.upload = upload


class ProblemError(TributaryError):
    """The server's refusal as problem details (RFC 9457): `slug`, `detail`, and the members of its own."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.type = str(problem.get("type") or "about:blank")
        self.title = str(problem.get("title") or "")
        self.detail = str(problem.get("detail") or "")
        self.field = str(problem.get("field") or "")
        line = problem.get("line")
        self.line = line if isinstance(line, int) else None
        known = ("type", "title", "status", "detail", "instance")
        self.members = {name: value for name, value in problem.items() if name not in known}
        super().__init__(self._text())

    @property
    def slug(self) -> str:
        """The last part of the problem's type, such as `missing-scope`."""
        return self.type.rsplit("/", 1)[-1]

    def _text(self) -> str:
        place = [f"line {self.line}"] if self.line is not None else []
        place += [self.field] if self.field else []
        words = self.detail or self.title or "The server gave no reason."
        return f"{', '.join(place)}: {words} ({self.status} {self.slug})" if place else f"{words} ({self.status})"

    @classmethod
    def of(cls, status: int, content: bytes, *, kind: str = "") -> ProblemError:
        """Read an answer that is no success. A body that is no problem becomes the detail."""
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        if isinstance(body, dict):
            return cls(status, body)
        words = content[: TEXT_SHOWN_MAX * 4].decode("utf-8", "replace").strip()[:TEXT_SHOWN_MAX]
        if "html" in kind or words.lstrip().startswith("<"):
            words = "The answer is a page in place of JSON. Is this the address of a Tributary installation?"
        return cls(status, {"detail": words})
