"""The door of LiteLLM's callback `generic_api`: payloads as an array, as lines, or one a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, parsers
from rest_framework.request import Request
from rest_framework.response import Response

from attribution.api.bodies import (
    NDJSON,
    Lines,
    QuickJSONRenderer,
    parse_json,
    parse_lines,
    read_body,
)
from attribution.api.gateways.answers import EXPLAINED, GatewayView, RecordsTakenSerializer, as_json
from attribution.api.problems import problem_responses
from attribution.operations.candidates import MalformedLine
from attribution.operations.dialects.calls import Fault, Item
from attribution.operations.dialects.litellm import read_record
from attribution.operations.gateways import UnableToTakeRecords

RECORD = {"type": "object", "additionalProperties": {}}
RECORDS = {"oneOf": [RECORD, {"type": "array", "items": RECORD, "minItems": 1}]}


class LiteLLMParser(parsers.BaseParser):
    """One JSON document or lines of JSON. LiteLLM declares both as application/json."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        body = read_body(stream, parser_context)
        try:
            return parse_json(body)
        except exceptions.ParseError:
            lines = parse_lines(body)
            if any(isinstance(line, dict) for line in lines):
                return lines
            raise


class LiteLLMLinesParser(LiteLLMParser):
    media_type = NDJSON


class LiteLLMView(GatewayView):
    door = "litellm"
    parser_classes = (LiteLLMParser, LiteLLMLinesParser)
    renderer_classes = (QuickJSONRenderer,)

    @extend_schema(
        operation_id="ingest_litellm",
        summary="Take records of LiteLLM",
        description=(
            "For the callback `generic_api` of an unchanged LiteLLM proxy, in each `log_format`: `json_array`, "
            "`ndjson` or `single`. The `litellm_call_id` becomes the external id, and `model` the name to look up. "
            f"{EXPLAINED} A request may state one: `metadata.tributary_gross`, as "
            '`{"amount": "0.05", "currency": "USD"}`. Needs the scope `generations:write`.'
        ),
        tags=["gateways"],
        request={"application/json": RECORDS, NDJSON: RECORD},
        responses={207: RecordsTakenSerializer, **problem_responses(400, 413, 415, 422)},
    )
    def post(self, request: Request) -> Response:
        body = request.data
        if isinstance(body, Mapping):
            records: list[Any] = [body]
        elif isinstance(body, list):
            records = body
        else:
            raise UnableToTakeRecords("The body must be a record of LiteLLM, a list of records, or one a line.")
        if not records or records == [{}]:
            raise UnableToTakeRecords("The body holds no record.")
        return Response(as_json(self.take(request, _items(records))), status=207)


def _items(records: list[Any]) -> list[Item]:
    numbers = records.numbers if isinstance(records, Lines) else None
    found: list[Item] = []
    for place, record in enumerate(records):
        if isinstance(record, MalformedLine):
            found.append(Fault("malformed-line", record.detail, line=record.number))
            continue
        for item in read_record(record):
            if isinstance(item, Fault) and numbers:
                item = Fault(item.problem, item.detail, item.external_id, item.field, numbers[place])
            found.append(item)
    return found
