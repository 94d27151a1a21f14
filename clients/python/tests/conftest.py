"""Fixtures of the client's own tests: a small real server that stores everything unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clients.python.tests.servers import Server, serving, stored


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.reply = stored
        yield server
