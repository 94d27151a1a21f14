"""The client for asyncio: it reports at once, and its calls leave the event loop free."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from clients.python.tests.servers import KEY, QUICK, Reply, Request, Server, refused
from tributary import AsyncTributary, ProblemError

ID = "0192f0c1-7d5c-7e57-9c5d-0d1f6b8f3c11"


def test_reports_are_sent_in_the_background(server: Server) -> None:
    async def use() -> Any:
        async with AsyncTributary(server.url, KEY, backoff=QUICK) as client:
            names = [client.report(model_version="m", output="x") for _ in range(5)]
            assert await client.flush(5)
            return names, client.counts()

    names, counts = asyncio.run(use())
    assert [request.ids for request in server.received] == [names]
    assert counts.stored == 5


def test_the_event_loop_goes_on_during_a_call(server: Server) -> None:
    server.reply = lambda request: Reply(200, {"id": ID, "state": "accrued"}, seconds=0.4)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    async def use() -> Any:
        counting = asyncio.create_task(count())
        async with AsyncTributary(server.url, KEY) as client:
            before = time.perf_counter()
            receipts = await asyncio.gather(client.receipts.get(ID), client.receipts.get(ID))
            counting.cancel()
            return receipts, time.perf_counter() - before

    receipts, seconds = asyncio.run(use())
    assert [receipt["state"] for receipt in receipts] == ["accrued", "accrued"]
    assert turns > 10
    assert seconds < 0.75


def test_a_problem_is_raised_where_it_is_awaited(server: Server) -> None:
    server.reply = lambda request: Reply(404, refused("not-found", "This service has no such generation."))

    async def use() -> None:
        async with AsyncTributary(server.url, KEY) as client:
            await client.receipts.get(ID)

    with pytest.raises(ProblemError, match="no such generation"):
        asyncio.run(use())


def test_pages_are_read_as_they_are_needed(server: Server) -> None:
    def reply(request: Request) -> Reply:
        if "cursor=b" in request.path:
            return Reply(200, {"results": [{"name": "c"}], "next": None})
        following = f"{server.url}/api/v1/model-versions?cursor=b&limit=200"
        return Reply(200, {"results": [{"name": "a"}, {"name": "b"}], "next": following})

    server.reply = reply

    async def use() -> list[Any]:
        async with AsyncTributary(server.url, KEY) as client:
            return [(version["name"], len(server.received)) async for version in client.model_versions.list()]

    assert asyncio.run(use()) == [("a", 1), ("b", 1), ("c", 2)]
