"""Bodies that come in chunks, without a length: proxies and streaming clients send every body like that.

Django reads as many bytes as Content-Length says, and so nothing of such a body. The server marks an input that ends by
itself (`wsgi.input_terminated`, PEP 3333's addition of gunicorn and others).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings

READ_BYTES = 64 * 1024
# A larger body waits on disk and not in memory: nobody has proved a key yet.
IN_MEMORY_BYTES = 1024 * 1024


class ReadChunks:
    """Gives a body of chunks its length before Django sees it; refuses one beyond the limit of any request."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("CONTENT_LENGTH") or not environ.get("HTTP_TRANSFER_ENCODING"):
            return self.application(environ, start_response)
        if not environ.get("wsgi.input_terminated"):
            detail = "This server cannot read a body without a length. Send Content-Length."
            return _refuse(start_response, "411 Length Required", 411, "length-required", detail)
        bytes_max: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as body:
            length = 0
            while part := environ["wsgi.input"].read(READ_BYTES):
                length += len(part)
                if length > bytes_max:
                    detail = f"A request takes at most {bytes_max} bytes."
                    return _refuse(start_response, "413 Content Too Large", 413, "request-too-large", detail)
                body.write(part)
            body.seek(0)
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = body, str(length)
            return self.application(environ, start_response)


def _refuse(start_response: Callable[..., Any], line: str, status: int, slug: str, detail: str) -> Iterable[bytes]:
    # Its module needs the apps, which are not loaded yet when the server imports this one.
    from config.problems import problem_answer

    answer = problem_answer(status, slug, detail)
    # The rest of the body was not read: the connection cannot serve another request.
    start_response(line, [*answer.items(), ("Connection", "close")])
    return [answer.content]
