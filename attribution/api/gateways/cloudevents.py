"""The door of CloudEvents over HTTP: one event (structured or binary mode) or a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from attribution.api.bodies import QuickJSONRenderer, ShallowJSONParser
from attribution.api.gateways.answers import EXPLAINED, GatewayView, RecordsTakenSerializer, as_json
from attribution.api.problems import problem_responses
from attribution.operations.dialects.cloudevents import TYPE, event_of_headers, read_event
from attribution.operations.gateways import UnableToTakeRecords

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


class StructuredParser(ShallowJSONParser):
    media_type = STRUCTURED


class BatchParser(ShallowJSONParser):
    media_type = BATCH


class CloudEventsView(GatewayView):
    door = "cloudevents"
    parser_classes = (StructuredParser, BatchParser, ShallowJSONParser)
    renderer_classes = (QuickJSONRenderer,)

    @extend_schema(
        operation_id="ingest_cloudevents",
        summary="Take CloudEvents",
        description=(
            f"Events of the type `{TYPE}`, version 1.0: one as `{STRUCTURED}`, several as `{BATCH}`, or one in binary "
            "mode (attributes as `ce-...` headers, data as `application/json`). The data has `model` and `output`, and "
            "may have `prompt` and `gross`, each as in a reported generation. The external id is the event's `source` "
            f"and `id` with a space between; its `time` is the moment of the generation. {EXPLAINED} Needs the scope "
            "`generations:write`."
        ),
        tags=["gateways"],
        request={
            STRUCTURED: OpenApiTypes.OBJECT,
            BATCH: {"type": "array", "items": {"type": "object", "additionalProperties": {}}, "minItems": 1},
            "application/json": OpenApiTypes.OBJECT,
        },
        responses={207: RecordsTakenSerializer, **problem_responses(400, 413, 415, 422)},
    )
    def post(self, request: Request) -> Response:
        at = timezone.now()
        items = [read_event(event, at=at) for event in _events(request)]
        return Response(as_json(self.take(request, items)), status=207)


def _events(request: Request) -> list[Any]:
    body = request.data
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type == BATCH:
        if not isinstance(body, list) or not body:
            raise UnableToTakeRecords(f"The body of {BATCH} must be a list of events.")
        return body
    if media_type == STRUCTURED:
        if not isinstance(body, Mapping):
            raise UnableToTakeRecords(f"The body of {STRUCTURED} must be one event.")
        return [body]
    if "ce-specversion" not in request.headers:
        raise UnableToTakeRecords(
            f"The body is no event: send {STRUCTURED}, {BATCH}, or the headers ce-specversion, ce-type, ce-source and "
            "ce-id beside the data."
        )
    return [event_of_headers(dict(request.headers), body)]
