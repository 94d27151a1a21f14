"""Bodies of requests: one object, checked field by field; or a stream of bytes, which is never held as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import parsers
from rest_framework.request import Request

from attribution.api.problems import StrictSerializer
from attribution.operations.manifest_lines import Readable


class UnableToReadBody(Exception):
    """A field is missing, unknown or not of its form; `members["field"]` names it, `errors` all faults."""

    status = 422
    problem = "invalid-field"

    def __init__(self, field: str, detail: str, errors: Any = None) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.members = {"field": field, **({"errors": errors} if errors else {})}


def read_body(request: Request, form: type[StrictSerializer]) -> dict[str, Any]:
    """Read the JSON object of a request. Raises UnableToReadBody with the first faulty field."""
    serializer = form(data=request.data)
    if not isinstance(request.data, Mapping):
        raise UnableToReadBody("", f"The body must be a JSON object with {', '.join(serializer.fields)}.")
    if strangers := sorted(set(request.data) - set(serializer.fields)):
        raise UnableToReadBody(strangers[0], f"nobody reads it; there is {', '.join(serializer.fields)}.")
    if not serializer.is_valid():
        field, detail = _first(serializer.errors)
        raise UnableToReadBody(field, detail, serializer.errors)
    return dict(serializer.validated_data)


def _first(errors: Any, path: str = "") -> tuple[str, str]:
    """Find the first fault of nested errors: its path, as `files.0.size`, and its sentence."""
    if isinstance(errors, Mapping):
        for name, inner in errors.items():
            if inner:
                return _first(inner, f"{path}.{name}" if path else str(name))
    if isinstance(errors, list):
        for place, inner in enumerate(errors):
            if isinstance(inner, str):
                return path, str(inner)
            if inner:
                return _first(inner, f"{path}.{place}")
    return path, str(errors)


class BytesParser(parsers.BaseParser):
    """Leaves the body of any media type alone: the view reads the stream."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        return stream


def stream_of(request: Request) -> Readable:
    """Return the body as a stream, with a known length or in chunks."""
    environ = request.META
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower() and environ.get("wsgi.input_terminated"):
        stream: Readable = environ["wsgi.input"]
        return stream
    return request._request
