"""`Tributary`: one installation, one service key, and everything that a model service does with them."""

from __future__ import annotations

import atexit
import json
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

from tributary.backoff import Backoff
from tributary.buffer import Buffer, MemoryBuffer
from tributary.errors import InvalidInput
from tributary.generation_lists import Generations
from tributary.generations import Gross, encoded, new_external_id
from tributary.indexes import Indexes
from tributary.manifests import Manifests
from tributary.model_versions import ModelVersions
from tributary.receipts import Receipts
from tributary.reporting import BATCH_BYTES, BATCH_ITEMS_MAX, PATH, Counts, Refusal, Reporter
from tributary.spool import SpoolBuffer
from tributary.transport import Answer, Transport
from tributary.uploads import Uploads
from tributary.usage import Usage
from tributary.works import Works
from tributary.wrapping import wrap_openai

OpenAIClient = TypeVar("OpenAIClient")

BUFFER_ITEMS = 100_000
BUFFER_BYTES = 64 * 1024 * 1024
SPOOL_BYTES = 1024 * 1024 * 1024
EXIT_SECONDS = 5.0


class Tributary:
    """A client of one installation.

    `report` never raises, never waits for the network, and drops when its buffer is full. Everything else is an
    ordinary call that returns the answer or raises a TributaryError. Threads may share a client.

    `spool` is a folder: with it, a generation is on disk when `report` returns, and a later process sends the lines of
    a killed one. The sending thread calls `on_refused` with each Refusal, and `on_stored` with the external id and the
    id of each stored generation.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        spool: str | os.PathLike[str] | None = None,
        on_refused: Callable[[Refusal], None] | None = None,
        on_stored: Callable[[str, str], None] | None = None,
        buffer_items: int = BUFFER_ITEMS,
        buffer_bytes: int = BUFFER_BYTES,
        spool_bytes: int = SPOOL_BYTES,
        batch_items: int = BATCH_ITEMS_MAX,
        batch_bytes: int = BATCH_BYTES,
        interval_seconds: float = 0.2,
        timeout_seconds: float = 60.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._transport = Transport(url, key, timeout_seconds=timeout_seconds, backoff=backoff)
        buffer: Buffer = MemoryBuffer(buffer_items, buffer_bytes) if spool is None else SpoolBuffer(spool, spool_bytes)
        self._reporter = Reporter(
            self._post,
            buffer,
            on_refused=on_refused,
            on_stored=on_stored,
            batch_items=batch_items,
            batch_bytes=batch_bytes,
            interval_seconds=interval_seconds,
            backoff=backoff,
        )
        self.generations = Generations(self._transport)
        self.receipts = Receipts(self._transport)
        self.uploads = Uploads(self._transport)
        self.model_versions = ModelVersions(self._transport)
        self.manifests = Manifests(self._transport)
        self.indexes = Indexes(self._transport)
        self.works = Works(self._transport)
        self.usage = Usage(self._transport)
        _open_clients.add(self)
        self._reporter.wake()

    @property
    def url(self) -> str:
        """The address of the installation."""
        return self._transport.url

    def _post(self, body: bytes) -> Answer:
        return self._transport.once("POST", PATH, content=body, headers={"Content-Type": "application/json"})

    def report(
        self,
        *,
        model_version: str,
        output: str | Mapping[str, Any],
        prompt: str | Mapping[str, Any] | None = None,
        external_id: str | None = None,
        token_ids: Sequence[int] | None = None,
        occurred_at: datetime | None = None,
        gross: Gross | None = None,
        features: Mapping[str, Any] | None = None,
    ) -> str:
        """Report a generation in the background and return its external id.

        Without `external_id` one is made; without `occurred_at` it is now. `output` is a text, or the mapping of the
        API. A generation that cannot be encoded is counted as refused and given to `on_refused`.
        """
        name = external_id if isinstance(external_id, str) and external_id else new_external_id()
        try:
            line = encoded(
                external_id=name,
                model_version=model_version,
                output=output,
                prompt=prompt,
                token_ids=token_ids,
                occurred_at=occurred_at,
                gross=gross,
                features=features,
            )
        except Exception as error:
            field = error.field if isinstance(error, InvalidInput) else ""
            facts = {"type": "/problems/invalid-field", "detail": str(error), **({"field": field} if field else {})}
            self._reporter.refuse(Refusal(name, 422, facts))
        else:
            self._reporter.add(line)
        return name

    def report_body(self, body: Mapping[str, Any]) -> str:
        """Report a generation that has the form of the API already, and return its external id, made when missing."""
        name = body.get("external_id")
        if not isinstance(name, str) or not name:
            name = new_external_id()
        try:
            line = json.dumps({**body, "external_id": name}, separators=(",", ":"), allow_nan=False).encode("ascii")
        except Exception as error:
            self._reporter.refuse(Refusal(name, 422, {"type": "/problems/invalid-field", "detail": str(error)}))
        else:
            self._reporter.add(line)
        return name

    def wrap(
        self,
        openai_client: OpenAIClient,
        *,
        model_versions: str | Mapping[str, str] | Callable[[str], str | None] | None = None,
        gross: Callable[[Any], Gross | None] | None = None,
    ) -> OpenAIClient:
        """Make an OpenAI client report every chat completion and response, streamed ones too, and return it.

        The client itself is changed. `model_versions` maps the provider's model name to a model version: one name for
        all, a mapping, or a function; None leaves a generation out. Without it the model's own name is reported.
        `gross` reads the charged amount from the answer, where the plan shares revenue.
        """
        wrap_openai(openai_client, self.report, model_versions=model_versions, gross=gross)
        return openai_client

    def counts(self) -> Counts:
        """Return how many generations were buffered, stored, refused and dropped, and how many are pending."""
        return self._reporter.counts()

    def flush(self, timeout_seconds: float | None = 30.0) -> bool:
        """Wait until the server has answered for every report; False when the seconds are over before."""
        return self._reporter.flush(timeout_seconds)

    def close(self, timeout_seconds: float | None = EXIT_SECONDS) -> bool:
        """Send the rest within these seconds and end. It is also called when the interpreter exits."""
        _open_clients.discard(self)
        is_empty = self._reporter.close(timeout_seconds)
        self._transport.close()
        return is_empty

    def __enter__(self) -> Tributary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_open_clients: weakref.WeakSet[Tributary] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for client in list(_open_clients):
        client.close()


def _after_fork() -> None:
    for client in list(_open_clients):
        client._reporter.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
