"""A receiver of webhooks in the test's own process: it checks every signature and keeps every event."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stripe


@dataclass
class Receiver:
    url: str
    secret: str
    events: list[stripe.Event] = field(default_factory=list)
    # Status codes to answer with, in order; 200 when there are none left.
    answers: list[int] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def ids(self) -> list[str]:
        return [event.id for event in self.events]

    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    def wait_for(self, enough: Callable[[list[stripe.Event]], bool], seconds: float = 20) -> list[stripe.Event]:
        deadline = time.monotonic() + seconds
        while not enough(self.events):
            assert time.monotonic() < deadline, f"only {self.kinds()} came"
            time.sleep(0.02)
        return self.events

    def take(self, body: bytes, signature: str) -> int:
        try:
            event = stripe.Webhook.construct_event(body, signature, self.secret)
        except (ValueError, stripe.SignatureVerificationError) as error:
            self.bad.append(str(error))
            return 400
        self.events.append(event)
        return self.answers.pop(0) if self.answers else 200


@contextmanager
def receiving(secret: str = "") -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(receiver.take(body, self.headers["Stripe-Signature"]))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the test reports the received events."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hook", secret)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
