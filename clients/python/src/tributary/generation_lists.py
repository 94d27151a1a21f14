"""The generations that the service reported, in pages, and one by its external id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from tributary.generations import filled_text, moment_text
from tributary.transport import Transport

PATH = "/api/v1/generations"


class Generations:
    """`client.generations`: the service's own, with the state of their attribution."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        state: str | None = None,
        model_version: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield generations, the last reported first; they occurred from `since` on and before `until`. Raises
        ProblemError, and InvalidInput for a datetime without a time zone.

        `state` is received, attributed or unattributable.
        """
        return self._transport.pages(
            PATH,
            state=state,
            model_version=model_version,
            since=None if since is None else moment_text(since, "since"),
            until=None if until is None else moment_text(until, "until"),
        )

    def find(self, *, external_id: str) -> dict[str, Any] | None:
        """Find the generation of an external id; None where none was reported. Raises ProblemError and InvalidInput."""
        answer = self._transport.get(PATH, external_id=filled_text(external_id, "external_id"))
        found: Sequence[dict[str, Any]] = answer["results"]
        return found[0] if found else None
