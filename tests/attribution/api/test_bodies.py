"""Bodies of reports as clients really send them: packed, in chunks, one generation a line."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from attribution.api.bodies import parse_lines, unpack
from attribution.models import Generation
from attribution.operations.candidates import MalformedLine
from config.chunks import ReadChunks
from tests.attribution.conftest import committed, indexed_database, trained
from tests.web_server import running_web
from tests.worlds.programme import Programme
from tests.worlds.trained import Committed

__all__ = ["committed", "indexed_database", "trained"]


def post(programme: Programme, body: bytes, **headers: str) -> Any:
    return programme.api.post(
        "/api/v1/generations",
        body,
        content_type=headers.pop("content_type", "application/json"),
        headers={"Authorization": f"Bearer {programme.key}", **headers},
    )


def batch(programme: Programme, *names: str) -> bytes:
    return json.dumps({"generations": [programme.generation(name) for name in names]}).encode()


@pytest.fixture
def now(indexed: Programme) -> Programme:
    indexed.at = timezone.now()
    return indexed


# --- gzip -----------------------------------------------------------------------------------------------------------
def test_a_packed_batch_is_taken(now: Programme) -> None:
    answer = post(now, gzip.compress(batch(now, "g1", "g2")), content_encoding="gzip")
    assert [item["status"] for item in answer.json()["results"]] == [201, 201]


def test_a_packed_body_beyond_the_limit_is_refused_before_it_fills_the_memory(now: Programme) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=100_000):
        answer = post(now, bomb, content_encoding="gzip")
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/request-too-large")
    assert "100000 bytes" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "encoding", "status", "words"),
    [
        (b"{}", "gzip", 400, "not valid gzip or zlib"),
        (gzip.compress(b"{}", mtime=0)[:-9], "gzip", 400, "ends too early"),
        (b"{}", "br", 415, "'br' is not supported. Send gzip, deflate"),
    ],
)
def test_a_body_that_cannot_be_unpacked_is_a_problem_in_words(
    now: Programme, body: bytes, encoding: str, status: int, words: str
) -> None:
    answer = post(now, body, content_encoding=encoding)
    assert answer.status_code == status
    assert words in answer.json()["detail"]


def test_gzip_of_several_members_is_one_body_and_deflate_is_taken_too() -> None:
    assert unpack(zlib.compress(b"abc"), 3) == b"abc"
    assert unpack(gzip.compress(b"abc") + gzip.compress(b"def"), 6) == b"abcdef"


# --- lines ----------------------------------------------------------------------------------------------------------
def test_each_line_is_judged_alone_and_answered_with_its_number(now: Programme) -> None:
    lines = [json.dumps(now.generation("g1")), "", "{broken", json.dumps(now.generation("g4")), "[1]"]
    answer = post(now, "\n".join(lines).encode(), content_type="application/x-ndjson")
    results = answer.json()["results"]
    assert [(item["line"], item["status"]) for item in results] == [(1, 201), (3, 422), (4, 201), (5, 422)]
    assert results[1]["problem"]["type"] == "/problems/malformed-line"
    assert results[1]["problem"]["line"] == 3
    assert results[1]["problem"]["detail"].startswith("Line 3 is not JSON: ")
    assert set(Generation.objects.values_list("external_id", flat=True)) == {"g1", "g4"}


def test_more_lines_than_a_batch_holds_are_taken(now: Programme) -> None:
    lines = b"\n".join(json.dumps(now.generation(f"g{number}")).encode() for number in range(1_200))
    answer = post(now, gzip.compress(lines), content_type="application/x-ndjson", content_encoding="gzip")
    assert {item["status"] for item in answer.json()["results"]} == {201}
    assert Generation.objects.count() == 1_200


@pytest.mark.parametrize("body", [b"\n\n", b"1\n" * 10_001])
def test_no_line_or_too_many_are_refused_as_a_whole(now: Programme, body: bytes) -> None:
    answer = post(now, body, content_type="application/x-ndjson")
    assert answer.status_code == 422
    assert "1 to 10,000 lines" in answer.json()["detail"]


def test_lines_are_numbered_with_windows_ends_and_half_surrogates_kept_apart() -> None:
    found = parse_lines(b'{"a": 1}\r\n\xff\r\n"\\ud800"\r\n')
    assert found.numbers == [1, 2, 3]
    assert found[0] == {"a": 1}
    assert isinstance(found[1], MalformedLine)
    assert found[2] == "\ud800"


# --- chunks: by the real web server -----------------------------------------------------------------------------------
@pytest.fixture
def web(committed: Committed, tmp_path: Any) -> Iterator[tuple[Programme, int]]:
    with running_web(committed.environment, log=tmp_path / "web.log") as port:
        yield committed.programme, port


def send_in_chunks(programme: Programme, port: int, parts: Iterator[bytes]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {programme.key}", "Content-Type": "application/json"}
    connection.request("POST", "/api/v1/generations", body=parts, headers=headers, encode_chunked=True)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_a_body_in_chunks_is_read_whole(web: tuple[Programme, int]) -> None:
    programme, port = web
    body = json.dumps({"generations": [programme.recent(f"g{number}") for number in range(3)]}).encode()
    status, answer = send_in_chunks(programme, port, (body[start : start + 100] for start in range(0, len(body), 100)))
    assert status == 207
    assert [item["status"] for item in answer["results"]] == [201, 201, 201]


def refusal(environ: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the answer of ReadChunks itself; the application behind it must not be reached."""
    lines: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise AssertionError("The body was handed on.")

    body = ReadChunks(application)(environ, lambda line, headers: lines.append(line))
    return lines[0], json.loads(b"".join(body))


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1_000)
def test_chunks_beyond_the_limit_are_refused_before_the_rest_is_read() -> None:
    sent = io.BytesIO(b" " * 1_000_000)
    line, problem = refusal({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "wsgi.input": sent})
    assert (line, problem["type"]) == ("413 Content Too Large", "/problems/request-too-large")
    assert sent.tell() < 1_000_000


def test_a_server_that_cannot_read_chunks_says_so() -> None:
    line, problem = refusal({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO()})
    assert (line, problem["type"]) == ("411 Length Required", "/problems/length-required")
