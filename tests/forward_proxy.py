"""A forward proxy in a process of its own: CONNECT and absolute addresses, each written to a log.

Names under `.test` lead to this machine, as names that only a proxy can resolve.
Run: `python -m tests.forward_proxy LOG`. It prints its port.
"""

from __future__ import annotations

import base64
import selectors
import socket
import sys
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

LOG = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("/dev/null")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _note(self) -> None:
        login = self.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
        with LOG.open("a") as log:
            log.write(f"{self.command} {self.path} {base64.b64decode(login).decode() or '-'}\n")

    def do_CONNECT(self) -> None:
        self._note()
        host, _, port = self.path.rpartition(":")
        host = "127.0.0.1" if host.endswith(".test") else host.strip("[]")
        with socket.create_connection((host, int(port)), timeout=10) as there:
            self.send_response(200)
            self.end_headers()
            _relay(self.connection, there)
        self.close_connection = True

    def _forward(self) -> None:
        self._note()
        parts = urlsplit(self.path)
        assert parts.hostname is not None
        host = "127.0.0.1" if parts.hostname.endswith(".test") else parts.hostname
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        there = HTTPConnection(host, parts.port or 80, timeout=10)
        there.request(self.command, f"{parts.path}?{parts.query}".removesuffix("?"), body, headers)
        answer = there.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def log_message(self, *_: object) -> None:
        pass


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in ready.select(timeout=30):
                source, sink = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                if not (block := source.recv(65_536)):
                    return
                sink.sendall(block)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
