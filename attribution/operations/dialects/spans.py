"""Spans of OpenTelemetry as OTLP/HTTP carries them, in JSON or protobuf, in one plain form. Pure: no database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ERROR = 2
# Deeper values than any instrumentation makes would only fill the stack.
DEPTH_MAX = 16
PLAIN = ("stringValue", "boolValue", "doubleValue", "bytesValue")


class UnableToReadTraces(Exception):
    """The body is no export request of traces."""

    status = 400
    problem = "malformed-traces"


@dataclass(frozen=True, slots=True)
class Span:
    """One span: ids in hexadecimal, its end in nanoseconds since 1970, its attributes by name."""

    trace_id: str
    span_id: str
    parent_id: str
    end_nanos: int
    is_error: bool
    attributes: Mapping[str, Any]
    events: Sequence[tuple[str, Mapping[str, Any]]] = field(default=())


# --- protobuf ---------------------------------------------------------------------------------------------------------
def spans_of_protobuf(body: bytes) -> list[Span]:
    """Read an ExportTraceServiceRequest. Raises UnableToReadTraces."""
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise UnableToReadTraces("The body is not the protobuf of an ExportTraceServiceRequest.") from None
    return [
        Span(
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            end_nanos=span.end_time_unix_nano,
            is_error=span.status.code == ERROR,
            attributes=_attributes(span.attributes),
            events=[(event.name, _attributes(event.attributes)) for event in span.events],
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value, 0) for pair in pairs}


def _value(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or depth > DEPTH_MAX:
        return None
    if kind == "array_value":
        return [_value(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value, depth + 1) for pair in value.kvlist_value.values}
    return getattr(value, kind)


# --- JSON -------------------------------------------------------------------------------------------------------------
def spans_of_json(body: Any) -> list[Span]:
    """Read the JSON form: lowerCamelCase names, ids in hexadecimal, 64-bit numbers as strings.

    Raises UnableToReadTraces, which names the place.
    """
    if not isinstance(body, Mapping):
        raise UnableToReadTraces("The body must be an object with resourceSpans.")
    return [
        _span(span, where)
        for resource, path in _objects(body, "resourceSpans", "")
        for scope, path in _objects(resource, "scopeSpans", path)
        for span, where in _objects(scope, "spans", path)
    ]


def _objects(holder: Mapping[str, Any], name: str, path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    found = holder.get(name, [])
    if not isinstance(found, list):
        raise UnableToReadTraces(f"{path}{name} must be a list.")
    for number, item in enumerate(found):
        where = f"{path}{name}[{number}]"
        if not isinstance(item, Mapping):
            raise UnableToReadTraces(f"{where} must be an object.")
        yield item, f"{where}."


def _span(span: Mapping[str, Any], where: str) -> Span:
    status = span.get("status")
    code = status.get("code") if isinstance(status, Mapping) else None
    return Span(
        trace_id=str(span.get("traceId") or "").lower(),
        span_id=str(span.get("spanId") or "").lower(),
        parent_id=str(span.get("parentSpanId") or "").lower(),
        end_nanos=_integer(span.get("endTimeUnixNano", 0), f"{where}endTimeUnixNano"),
        is_error=code in {ERROR, "STATUS_CODE_ERROR"},
        attributes=_json_attributes(span, where),
        events=[
            (str(event.get("name") or ""), _json_attributes(event, place))
            for event, place in _objects(span, "events", where)
        ],
    )


def _json_attributes(holder: Mapping[str, Any], where: str) -> dict[str, Any]:
    pairs = _objects(holder, "attributes", where)
    return {str(pair.get("key")): _json_value(pair.get("value"), f"{place}value", 0) for pair, place in pairs}


def _json_value(value: Any, where: str, depth: int) -> Any:
    if not isinstance(value, Mapping) or depth > DEPTH_MAX:
        return None
    if "intValue" in value:
        return _integer(value["intValue"], f"{where}.intValue")
    inner = value.get("arrayValue", value.get("kvlistValue"))
    if isinstance(inner, Mapping):
        pairs = _objects(inner, "values", f"{where}.")
        if "arrayValue" in value:
            return [_json_value(item, place, depth + 1) for item, place in pairs]
        return {str(pair.get("key")): _json_value(pair.get("value"), place, depth + 1) for pair, place in pairs}
    return next(
        (value[name] for name in ("stringValue", "boolValue", "doubleValue", "bytesValue") if name in value), None
    )


def _integer(value: Any, where: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise UnableToReadTraces(f"{where} must be an integer, or its digits as a string.") from None
