"""A refusal of the domain, told on the page: the refused act, the reason, and the next step.

Every operation raises an UnableToX that carries `status` and `problem`; anything else is a fault and goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.contrib import messages
from django.http import HttpRequest


@dataclass
class Refused:
    """False until an operation is refused inside the block; then it holds the refusal."""

    words: list[str] = field(default_factory=list)
    problem: str = ""
    status: int = 200

    def __bool__(self) -> bool:
        return bool(self.words)


def is_refusal(error: Exception) -> bool:
    return isinstance(getattr(error, "problem", None), str) and isinstance(getattr(error, "status", None), int)


@contextlib.contextmanager
def explained(request: HttpRequest, *, silent: bool = False) -> Iterator[Refused]:
    """Run one operation; its refusal becomes a message (unless `silent`: the page shows it beside the form)."""
    refused = Refused()
    try:
        yield refused
    except Exception as error:
        if not is_refusal(error):
            raise
        refused.problem = str(getattr(error, "problem"))  # noqa: B009
        refused.status = int(getattr(error, "status"))  # noqa: B009
        refused.words = [str(error)]
        if not silent:
            messages.error(request, " ".join(refused.words))
