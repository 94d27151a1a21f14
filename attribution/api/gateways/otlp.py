"""The door of OTLP/HTTP: traces of OpenTelemetry, in JSON or protobuf, answered in the same encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from rest_framework import parsers, renderers
from rest_framework.request import Request
from rest_framework.response import Response

from attribution.api.bodies import QuickJSONRenderer, ShallowJSONParser, read_body
from attribution.api.gateways.answers import GatewayView
from attribution.api.problems import problem_responses
from attribution.models import GatewayTally
from attribution.operations.dialects.opentelemetry import read_spans
from attribution.operations.dialects.spans import spans_of_json, spans_of_protobuf
from attribution.operations.gateways import RecordResult

PROTOBUF = "application/x-protobuf"
ERRORS_TOLD = 10
# google.rpc.Code, by the status of the answer.
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 413: 3, 415: 3, 422: 3, 429: 8, 503: 14}
UNKNOWN = 2


class ProtobufParser(parsers.BaseParser):
    media_type = PROTOBUF

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        return read_body(stream, parser_context)


class ProtobufRenderer(renderers.BaseRenderer):
    media_type = PROTOBUF
    format = "protobuf"
    charset = None
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        """Render a made message; anything else is an error that `handle_exception` makes a Status of."""
        return data if isinstance(data, bytes) else b""


class TracesView(GatewayView):
    door = "otlp"
    parser_classes = (ShallowJSONParser, ProtobufParser)
    renderer_classes = (QuickJSONRenderer, ProtobufRenderer)

    @extend_schema(
        operation_id="ingest_otlp_traces",
        summary="Take traces of OpenTelemetry",
        description=(
            "OTLP/HTTP, JSON or protobuf. Reads generations from spans with numbered attributes (`gen_ai.prompt.0.…`, "
            "`gen_ai.completion.0.…`), with `gen_ai.input.messages` and `gen_ai.output.messages`, or of OpenInference "
            "(`llm.output_messages.0.…`); every other span is accepted and passed over. The external id is the trace "
            "id and the span id with a slash between. `gen_ai.response.model`, or else `gen_ai.request.model`, is the "
            "name to look up. Token ids are read from `tributary.output.token_ids` and `tributary.prompt.token_ids`, "
            "an amount from `tributary.gross.amount` and `tributary.gross.currency`. Refused spans are counted in "
            "`partialSuccess`, with the reasons. Needs the scope `generations:write`."
        ),
        tags=["gateways"],
        request={"application/json": OpenApiTypes.OBJECT, PROTOBUF: OpenApiTypes.BINARY},
        responses={
            (200, "application/json"): OpenApiTypes.OBJECT,
            (200, PROTOBUF): OpenApiTypes.BINARY,
            **problem_responses(400, 413, 415, 422),
        },
    )
    def post(self, request: Request) -> HttpResponse:
        body: Any = request.data
        if _speaks_protobuf(request):
            # An export of nothing has no bytes at all.
            spans = spans_of_protobuf(body if isinstance(body, bytes) else b"")
        else:
            spans = spans_of_json(body)
        results = self.take(request, read_spans(spans))
        refused = [result for result in results if result.outcome == GatewayTally.Outcome.REFUSED]
        if _speaks_protobuf(request):
            return _bytes(_response(refused).SerializeToString(), 200)
        partial = {"rejectedSpans": str(len(refused)), "errorMessage": _words(refused)}
        return Response({"partialSuccess": partial} if refused else {})

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        """Choose the encoding of the request for its answer, as OTLP demands. Its Accept header does not count."""
        renderer = ProtobufRenderer() if _speaks_protobuf(request) else QuickJSONRenderer()
        return renderer, renderer.media_type

    def handle_exception(self, exc: Exception) -> Response:
        """Answer an error as the encoding of the request demands: a Status in protobuf, a problem in JSON."""
        response = super().handle_exception(exc)
        if not _speaks_protobuf(self.request):
            return response
        detail = response.data.get("detail", "") if isinstance(response.data, Mapping) else ""
        status = Status(code=CODES.get(response.status_code, UNKNOWN), message=str(detail))
        made = _bytes(status.SerializeToString(), response.status_code)
        for name, value in response.items():
            if name.lower() not in {"content-type", "content-length"}:
                made[name] = value
        return made  # type: ignore[return-value]


def _speaks_protobuf(request: Any) -> bool:
    return str(request.META.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower() == PROTOBUF


def _bytes(body: bytes, status: int) -> HttpResponse:
    return HttpResponse(body, status=status, content_type=PROTOBUF)


def _response(refused: Sequence[RecordResult]) -> ExportTraceServiceResponse:
    made = ExportTraceServiceResponse()
    if refused:
        made.partial_success.rejected_spans = len(refused)
        made.partial_success.error_message = _words(refused)
    return made


def _words(refused: Sequence[RecordResult]) -> str:
    """Name the first refused spans with their reasons; exporters log this sentence."""
    told = [f"{result.external_id}: {result.words}" for result in refused[:ERRORS_TOLD]]
    more = len(refused) - len(told)
    return " | ".join([*told, *([f"and {more} more"] if more > 0 else [])])
