"""Half-open heads and bodies occupy no thread of the web server, so that nobody stops it from outside."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from waitress.adjustments import Adjustments

from config.engine import buffered
from tests.databases import CommittedDatabase
from tests.web_server import running_web

HEAD = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LENGTH = b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nlogin=x"
CHUNKED = (
    b"POST /api/v1/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
)


@pytest.fixture
def port(committed_database: CommittedDatabase, tmp_path: Path) -> Iterator[int]:
    with running_web(os.environ, log=tmp_path / "web.log", workers=1) as port:
        yield port


def answer_of(connection: socket.socket) -> bytes:
    connection.settimeout(10)
    return connection.recv(65536)


def seconds_of_livez(port: int) -> float:
    """The best of three, because other tests share the cores."""
    taken = []
    for _ in range(3):
        begun = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=20) as response:
            response.read()
        taken.append(time.monotonic() - begun)
    return min(taken)


def test_half_open_heads_and_bodies_delay_nobody(port: int) -> None:
    with contextlib.ExitStack() as stack:
        for words in (HEAD, LENGTH, CHUNKED):
            for _ in range(200):
                held = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                held.sendall(words)
            assert seconds_of_livez(port) < 1


def test_a_request_in_small_pieces_and_two_in_one_piece_are_answered(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as one:
        for place in range(0, len(HEAD), 7):
            one.sendall(HEAD[place : place + 7])
        one.sendall(b"\r\n")
        assert answer_of(one).startswith(b"HTTP/1.1 200")
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall((HEAD + b"\r\n") * 2)
        found = b""
        while found.count(b"HTTP/1.1 200") < 2:
            found += answer_of(one)


def test_a_head_or_body_that_does_not_come_is_given_up() -> None:
    head = buffered.TimedParser(Adjustments())
    head.received(HEAD)
    head.begun -= buffered.HEAD_SECONDS_MAX - 1
    assert not head.is_late()
    head.begun -= 2
    assert head.is_late()
    body = buffered.TimedParser(Adjustments())
    body.received(LENGTH.replace(b"1000", b"9999999"))
    body.received(b"x" * 100 * buffered.BODY_BYTES_PER_SECOND_MIN)
    body.begun -= buffered.HEAD_SECONDS_MAX + buffered.BODY_SECONDS_MAX + 99
    assert not body.is_late()
    body.begun -= 2
    assert body.is_late()
