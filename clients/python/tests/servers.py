"""Small real HTTP servers on loopback, with answers that a test writes: they misbehave as networks and servers do."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tributary.backoff import Backoff

KEY = "trib_test_key"
QUICK = Backoff(first=0.02, most=0.1)


@dataclass
class Request:
    """A received request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def ids(self) -> list[str]:
        return [generation["external_id"] for generation in self.json["generations"]]


@dataclass
class Reply:
    """An answer. `drops` closes the connection in place of an answer."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    drops: bool = False
    parts: list[bytes] | None = None


@dataclass
class Server:
    url: str
    received: list[Request] = field(default_factory=list)
    reply: Callable[[Request], Reply] = lambda request: Reply()
    failures: list[BaseException] = field(default_factory=list)


def stored(request: Request) -> Reply:
    """Answer as Tributary does when it stores everything."""
    return Reply(207, {"results": [{"external_id": name, "status": 201, "id": "0"} for name in request.ids]})


def refused(type: str, detail: str, **members: Any) -> dict[str, Any]:
    return {"type": f"/problems/{type}", "title": type, "detail": detail, **members}


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else b""
            if len(body) < length:
                # The sender died in the middle of it: a server reads no half of a body.
                self.close_connection = True
                return
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b"".join(self._chunks())
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body, time.monotonic())
            server.received.append(request)
            try:
                self._answer(server.reply(request))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            except BaseException as error:
                server.failures.append(error)
                raise

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def _answer(self, reply: Reply) -> None:
            if reply.seconds:
                time.sleep(reply.seconds)
            if reply.drops:
                self.close_connection = True
                self.connection.close()
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            kind = "application/problem+json" if reply.status >= 400 else "application/json"
            headers = {"Content-Type": kind, **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            if reply.parts is None:
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
                self.end_headers()
                for part in reply.parts:
                    self.wfile.write(part)
                    self.wfile.flush()

        do_GET = do_POST = do_PUT = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            """Write nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    server.url = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join(5)
    assert not server.failures, server.failures
