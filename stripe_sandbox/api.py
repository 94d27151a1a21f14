"""The address of the API: Django's request in, Django's response out, and the accidents on the wire."""

from __future__ import annotations

import select
import socket
import time

from django.http import HttpRequest, HttpResponse

from stripe_sandbox import configuration
from stripe_sandbox.background import in_pool
from stripe_sandbox.gate import Answer, Asked, answer


def v1(request: HttpRequest) -> HttpResponse:
    asked = Asked(
        method=request.method or "GET",
        path=request.path,
        query=request.META.get("QUERY_STRING", ""),
        body=request.body,
        headers=request.headers,
        base_url=f"http://{request.get_host()}",
    )
    time.sleep(configuration.current().latency_ms / 1000)
    answered = in_pool(answer, asked)
    _spoil(request, answered)
    return HttpResponse(
        answered.body, status=answered.status or 500, headers=answered.headers, content_type="application/json"
    )


def _spoil(request: HttpRequest, answered: Answer) -> None:
    """Apply the chosen fault to the answer on its way."""
    if answered.fault is None or answered.fault.kind not in {"drop_before", "drop_after", "timeout"}:
        return
    connection: socket.socket = request.META["gunicorn.socket"]
    if answered.fault.kind == "timeout":
        # Readable means that the caller has hung up: nobody sends a second request before the first is answered.
        select.select([connection], [], [], answered.fault.seconds)
    connection.shutdown(socket.SHUT_RDWR)
