"""`AsyncTributary`: the same client for asyncio. Calls run in threads, so that the event loop never waits for one."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from tributary.backoff import Backoff
from tributary.client import Tributary
from tributary.reporting import Refusal
from tributary.works import NewWork

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, Unpack

    P = ParamSpec("P")
R = TypeVar("R")

_END = object()


class Options(TypedDict, total=False):
    """The keyword arguments of Tributary."""

    spool: str | os.PathLike[str] | None
    on_refused: Callable[[Refusal], None] | None
    on_stored: Callable[[str, str], None] | None
    buffer_items: int
    buffer_bytes: int
    spool_bytes: int
    batch_items: int
    batch_bytes: int
    interval_seconds: float
    timeout_seconds: float
    backoff: Backoff | None


class AsyncTributary:
    """A client of one installation for asyncio. `report`, `report_body`, `wrap` and `counts` return at once.

    A cancelled call ends in its thread by its time limit. Use it with `async with`, or await `close()` at the end.
    """

    def __init__(self, url: str, key: str, **options: Unpack[Options]) -> None:
        client = Tributary(url, key, **options)
        self.report = client.report
        self.report_body = client.report_body
        self.wrap = client.wrap
        self.counts = client.counts
        self.url = client.url
        self.flush = in_thread(client.flush)
        self.close = in_thread(client.close)
        self.generations = AsyncGenerations(client)
        self.receipts = AsyncReceipts(client)
        self.uploads = AsyncUploads(client)
        self.model_versions = AsyncModelVersions(client)
        self.manifests = AsyncManifests(client)
        self.indexes = AsyncIndexes(client)
        self.works = AsyncWorks(client)
        self.usage = AsyncUsage(client)

    async def __aenter__(self) -> AsyncTributary:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncGenerations:
    """The service's generations, as Generations."""

    def __init__(self, client: Tributary) -> None:
        self._client = client
        self.find = in_thread(client.generations.find)

    def list(
        self,
        *,
        state: str | None = None,
        model_version: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield generations, the last reported first. Raises ProblemError and InvalidInput."""
        return each(self._client.generations.list(state=state, model_version=model_version, since=since, until=until))


class AsyncReceipts:
    """Receipts, as Receipts."""

    def __init__(self, client: Tributary) -> None:
        self.get = in_thread(client.receipts.get)
        self.wait = in_thread(client.receipts.wait)
        self.void = in_thread(client.receipts.void)


class AsyncUploads:
    """Checkpoints on their way, as Uploads. Progress is told in the thread of the call."""

    def __init__(self, client: Tributary) -> None:
        self.get = in_thread(client.uploads.get)
        self.push = in_thread(client.uploads.push)


class AsyncModelVersions:
    """Model versions, as ModelVersions."""

    def __init__(self, client: Tributary) -> None:
        self._client = client
        self.register = in_thread(client.model_versions.register)
        self.get = in_thread(client.model_versions.get)
        self.retire = in_thread(client.model_versions.retire)
        self.supersede = in_thread(client.model_versions.supersede)

    def list(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the service's model versions, newest first. Raises ProblemError."""
        return each(self._client.model_versions.list())


class AsyncManifests:
    """Training manifests, as Manifests."""

    def __init__(self, client: Tributary) -> None:
        self.check = in_thread(client.manifests.check)
        self.push = in_thread(client.manifests.push)


class AsyncIndexes:
    """Indexes, as Indexes."""

    def __init__(self, client: Tributary) -> None:
        self.build = in_thread(client.indexes.build)
        self.get = in_thread(client.indexes.get)
        self.coalitions = in_thread(client.indexes.coalitions)
        self.evaluate = in_thread(client.indexes.evaluate)
        self.wait = in_thread(client.indexes.wait)


class AsyncWorks:
    """Works with consent, as Works."""

    def __init__(self, client: Tributary) -> None:
        self._client = client
        self.content = in_thread(client.works.content)
        self.pull = in_thread(client.works.pull)
        self.consents = in_thread(client.works.consents)
        self.open_dataset = in_thread(client.works.open_dataset)

    def list(
        self, *, purpose: str, at: datetime | None = None, modality: str | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the works with consent to a use. Raises ProblemError."""
        return each(self._client.works.list(purpose=purpose, at=at, modality=modality))

    def register(
        self,
        works: Sequence[NewWork],
        *,
        mandate: str,
        dataset: str,
        registered: str | os.PathLike[str] | None = None,
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Register works in batches and yield each with its id and path. Raises ProblemError and InvalidInput."""
        made = self._client.works.register(works, mandate=mandate, dataset=dataset, registered=registered)
        return each(made)


class AsyncUsage:
    """Usage, balance and invoices, as Usage."""

    def __init__(self, client: Tributary) -> None:
        self._client = client
        self.month = in_thread(client.usage.month)
        self.csv = in_thread(client.usage.csv)
        self.balance = in_thread(client.usage.balance)
        self.limits = in_thread(client.usage.limits)
        self.set_limit = in_thread(client.usage.set_limit)
        self.remove_limit = in_thread(client.usage.remove_limit)

    def invoices(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield invoices and payments, the newest first. Raises ProblemError."""
        return each(self._client.usage.invoices())


def in_thread(method: Callable[P, R]) -> Callable[P, Awaitable[R]]:
    """Make a method awaitable: it runs in a thread of asyncio's pool."""

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, *args, **kwargs)

    return call


async def each(iterator: Iterator[R]) -> AsyncIterator[R]:
    """Yield the values of an iterator that waits for pages of the server."""
    while True:
        value: Any = await asyncio.to_thread(next, iterator, _END)
        if value is _END:
            return
        yield value
