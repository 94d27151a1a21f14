"""Indexes of model versions: built, watched, evaluated."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from tributary.errors import InvalidInput, TributaryError
from tributary.model_versions import path_of
from tributary.progress import OnProgress, Progress
from tributary.transport import Transport

PATH = "/api/v1/indexes"
UNFINISHED = frozenset({"building"})
ENDED = frozenset({"failed", "retired"})


class IndexFailed(TributaryError):
    """A build or an evaluation ended without a result; `index` is the last answer, with its reason."""

    def __init__(self, index: Mapping[str, Any]) -> None:
        super().__init__(f"The index {index['id']} is {index['state']}: {index.get('reason') or 'no reason was given'}")
        self.index = dict(index)


class Indexes:
    """`client.indexes`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def build(
        self,
        name: str,
        *,
        attributor: str | None = None,
        left_out: Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Queue the build of an index of a model version. Raises ProblemError."""
        given = {"attributor": attributor, "left_out": list(left_out or ()), "config": dict(config or {})}
        body = {key: value for key, value in given.items() if value}
        queued: dict[str, Any] = self._transport.post(path_of(name, "indexes"), body, is_repeatable=False)
        return queued

    def get(self, index: str) -> dict[str, Any]:
        """Read the state of an index. Raises ProblemError."""
        found: dict[str, Any] = self._transport.get(f"{PATH}/{_id(index)}")
        return found

    def evaluate(self, index: str, *, report: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Queue the evaluation, or hand over the report of one made where the model runs. Raises ProblemError."""
        body = {} if report is None else {"report": dict(report)}
        answered: dict[str, Any] = self._transport.post(
            f"{PATH}/{_id(index)}/evaluations", body, is_repeatable=report is not None
        )
        return answered

    def coalitions(self, index: str, *, count: int | None = None) -> dict[str, Any]:
        """Read the coalitions to retrain where the model runs, for a report to `evaluate`. Raises ProblemError."""
        found: dict[str, Any] = self._transport.get(f"{PATH}/{_id(index)}/coalitions", count=count)
        return found

    def wait(
        self,
        index: str,
        *,
        is_evaluated: bool = False,
        timeout_seconds: float = 24 * 3600.0,
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """Wait, for so many seconds, until an index is built or evaluated. Raises IndexFailed, ProblemError, and
        TributaryError at the end.

        An evaluation of a built index must have been asked for, or this waits until time is up.
        """
        deadline = time.monotonic() + timeout_seconds
        pause = 0.5
        while True:
            found = self.get(index)
            progress = found.get("progress")
            if on_progress and progress:
                on_progress(Progress(str(progress["stage"]), int(progress["done"]), int(progress["of"])))
            is_done = bool(found.get("evaluation")) if is_evaluated else found["state"] not in UNFINISHED
            # An index that fails its evaluation has a result all the same: its weight is 0.
            if is_done and not progress and (is_evaluated or found["state"] not in ENDED):
                return found
            if found["state"] in ENDED and not progress:
                raise IndexFailed(found)
            if time.monotonic() + pause > deadline:
                raise TributaryError(f"After {timeout_seconds:g} s the index is still {found['state']}.")
            time.sleep(pause)
            pause = min(pause * 1.3, 10.0)


def _id(index: str) -> str:
    try:
        return str(uuid.UUID(str(index)))
    except ValueError:
        raise InvalidInput(f"{index!r:.60} is no id of an index", field="index") from None
