"""Calls that somebody waits for: repeated where that is safe, and refused in words."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from clients.python.tests.servers import KEY, QUICK, Reply, Request, Server, refused
from tributary import InvalidInput, ProblemError, Tributary, Unreachable
from tributary.transport import Transport

ID = "0192f0c1-7d5c-7e57-9c5d-0d1f6b8f3c11"


@pytest.fixture
def transport(server: Server) -> Iterator[Transport]:
    made = Transport(server.url, KEY, backoff=QUICK, timeout_seconds=5)
    yield made
    made.close()


def answers(server: Server, *replies: Reply) -> None:
    """Answer with these in turn, and then with an empty object."""
    left = iter(replies)
    server.reply = lambda request: next(left, Reply(200, {}))


@pytest.mark.parametrize("status", [429, 503, 500, 502, 504])
def test_a_call_is_repeated_while_the_server_is_busy(server: Server, transport: Transport, status: int) -> None:
    answers(server, Reply(status, {}), Reply(status, {}))
    assert transport.get("/x") == {}
    assert len(server.received) == 3


@pytest.mark.parametrize(("status", "attempts"), [(429, 3), (503, 3), (500, 1), (502, 1), (504, 1)])
def test_a_call_that_is_not_safe_to_repeat_is_repeated_only_when_it_was_not_carried_out(
    server: Server, transport: Transport, status: int, attempts: int
) -> None:
    answers(server, Reply(status, {}), Reply(status, {}))
    if attempts == 1:
        with pytest.raises(ProblemError):
            transport.post("/x", {}, is_repeatable=False)
    else:
        transport.post("/x", {}, is_repeatable=False)
    assert len(server.received) == attempts


def test_a_dropped_connection_is_tried_again_where_that_is_safe(server: Server, transport: Transport) -> None:
    answers(server, Reply(drops=True))
    assert transport.get("/x") == {}
    answers(server, Reply(drops=True))
    with pytest.raises(Unreachable):
        transport.post("/x", {}, is_repeatable=False)


def test_attempts_end(server: Server, transport: Transport) -> None:
    server.reply = lambda request: Reply(503, refused("busy", "The database is away."))
    with pytest.raises(ProblemError, match="The database is away"):
        transport.get("/x")
    assert len(server.received) == 5


def test_nobody_waits_an_hour_for_retry_after(server: Server, transport: Transport) -> None:
    server.reply = lambda request: Reply(429, refused("throttled", "Come back later."), headers={"Retry-After": "900"})
    with pytest.raises(ProblemError, match="Come back later"):
        transport.get("/x")
    assert len(server.received) == 1


def test_a_problem_has_its_facts(server: Server, transport: Transport) -> None:
    problem = refused("malformed-manifest", "it ends before it begins.", field="token_end", line=7, faults=[1])
    server.reply = lambda request: Reply(422, problem)
    with pytest.raises(ProblemError) as caught:
        transport.get("/x")
    error = caught.value
    assert (error.status, error.slug, error.field, error.line) == (422, "malformed-manifest", "token_end", 7)
    assert error.members["faults"] == [1]
    assert str(error) == "line 7, token_end: it ends before it begins. (422 malformed-manifest)"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(404, b"<html>Not here</html>", {"Content-Type": "text/html"}), "Is this the address of a Tributary"),
        (Reply(301, b"", {"Location": "https://other.example/x"}), "leads to https://other.example/x: use that"),
        (Reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html"}), "Is this the address of a Tributary"),
        (Reply(400, b""), "no reason"),
        (Reply(400, b"\xff\xfe" * 5000), "400"),
    ],
)
def test_an_answer_of_something_else_is_told(server: Server, transport: Transport, reply: Reply, words: str) -> None:
    server.reply = lambda request: reply
    with pytest.raises(ProblemError) as caught:
        transport.get("/x")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_key_goes_to_no_other_server(server: Server, transport: Transport) -> None:
    server.reply = lambda request: Reply(200, {"results": [1], "next": "http://evil.example/api/v1/x?cursor=2"})
    pages = transport.pages("/x")
    assert next(pages) == 1
    with pytest.raises(Unreachable, match=r"evil\.example"):
        next(pages)
    assert len(server.received) == 1


def test_a_body_goes_to_a_file_and_begins_anew_with_every_attempt(server: Server, transport: Transport) -> None:
    answers(server, Reply(500, b"half"), Reply(200, b"whole" * 1000))
    sink = io.BytesIO()
    transport.call("GET", "/x", sink=sink)
    assert sink.getvalue() == b"whole" * 1000


def test_a_stream_is_sent_anew_with_every_attempt(server: Server, transport: Transport) -> None:
    answers(server, Reply(503, {}))
    transport.call("PUT", "/x", content=lambda: iter([b"a", b"b"]))
    assert [request.body for request in server.received] == [b"ab", b"ab"]


@pytest.mark.parametrize(
    ("url", "key", "field"),
    [
        ("tributary.example.org", KEY, "url"),
        ("ftp://tributary.example.org", KEY, "url"),
        ("http://", KEY, "url"),
        ("http://x", "", "key"),
        ("http://x", "two words", "key"),
        ("http://x", "schlüssel", "key"),
    ],
)
def test_a_wrong_address_or_key_is_told_at_once(url: str, key: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Tributary(url, key)
    assert caught.value.field == field
    assert not key or key not in str(caught.value)


def test_nobody_who_listens_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with Tributary(f"http://127.0.0.1:{port}", KEY, backoff=QUICK) as client, pytest.raises(Unreachable):
        client.receipts.get(ID)


def test_an_id_that_is_none_never_becomes_an_address(server: Server) -> None:
    with Tributary(server.url, KEY) as client:
        for call in (client.receipts.get, client.indexes.get, client.indexes.evaluate):
            with pytest.raises(InvalidInput, match="is no id"):
                call("../../admin")
    assert server.received == []


def test_a_receipt_is_read_until_it_is_final(server: Server) -> None:
    states = iter(["received", "attributed", "accrued"])

    def reply(request: Request) -> Reply:
        return Reply(200, {"id": ID, "state": next(states)})

    server.reply = reply
    with Tributary(server.url, KEY) as client:
        assert client.receipts.wait(ID)["state"] == "accrued"
    server.reply = lambda request: Reply(200, {"id": ID, "state": "received"})
    with Tributary(server.url, KEY) as client, pytest.raises(Exception, match="still received"):
        client.receipts.wait(ID, timeout_seconds=0.1)


def _index(state: str, **more: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "state": state,
        "model_version": "m",
        "progress": None,
        "reason": None,
        "evaluation": None,
        **more,
    }


def test_an_index_is_watched_with_its_progress(server: Server) -> None:
    left = iter(
        [
            _index("building", progress={"stage": "features", "done": 3, "of": 9}),
            _index("building", progress={"stage": "sums", "done": 1, "of": 2}),
        ]
    )
    server.reply = lambda request: Reply(200, next(left, _index("built")))
    told: list[Any] = []
    with Tributary(server.url, KEY) as client:
        assert client.indexes.wait(ID, on_progress=told.append)["state"] == "built"
    assert [(progress.stage, progress.done, progress.of) for progress in told] == [("features", 3, 9), ("sums", 1, 2)]
    server.reply = lambda request: Reply(200, _index("failed", reason="The checkpoint cannot be read."))
    with Tributary(server.url, KEY) as client, pytest.raises(Exception, match="The checkpoint cannot be read"):
        client.indexes.wait(ID)
