"""The doors of gateways over HTTP: every format and media type, answered in the gateway's own way."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from django.utils import timezone
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from attribution.models import Generation, WaitingReport
from attribution.operations import model_names
from tests.attribution.operations.test_dialects import MESSAGES, SPAN, TRACE, event, payload, span, traces
from tests.worlds.programme import Programme

LITELLM, OTLP, EVENTS = "/api/v1/ingest/litellm", "/api/v1/otlp/v1/traces", "/api/v1/ingest/cloudevents"


@pytest.fixture
def live(indexed: Programme) -> Programme:
    """The programme at the API's own time, with a model version that has the name of the examples."""
    indexed.at = timezone.now()
    for pattern in ("house-1", "openai/house-1"):
        model_names.name_model(
            service=indexed.service,
            kind="exact",
            pattern=pattern,
            model_version=indexed.model_version,
            at=indexed.at,
        )
    return indexed


def send(programme: Programme, path: str, body: Any, media_type: str = "application/json", **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {programme.key}", **headers}
    return programme.api.post(path, data, content_type=media_type, headers=headers)


def now_seconds() -> float:
    return timezone.now().timestamp() - 60


def records(*names: str) -> list[dict[str, Any]]:
    return [payload(litellm_call_id=name, endTime=now_seconds()) for name in names]


def outcomes(answer: Any) -> list[str]:
    assert answer.status_code == 207, answer.content
    return [result["outcome"] for result in answer.json()["results"]]


# --- LiteLLM --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_each_log_format_of_litellm_is_taken(live: Programme, media_type: str) -> None:
    one, two, three, four = records("a", "b", "c", "d")
    assert outcomes(send(live, LITELLM, [one, two], media_type)) == ["stored", "stored"]
    assert outcomes(send(live, LITELLM, three, media_type)) == ["stored"]
    lines = b"\n".join(json.dumps(record).encode() for record in (one, three, four))
    assert outcomes(send(live, LITELLM, lines, media_type)) == ["known", "known", "stored"]
    packed = send(live, LITELLM, gzip.compress(lines), media_type, content_encoding="gzip")
    assert outcomes(packed) == ["known", "known", "known"]
    assert Generation.objects.count() == 4


def test_each_record_is_answered_alone(live: Programme) -> None:
    good, unknown, broken, embedding = records("a", "b", "c", "d")
    unknown["model"], embedding["call_type"] = "gpt-4o", "aembedding"
    del broken["model"]
    lines = [json.dumps(record) for record in (good, unknown)] + ["", "{cut"]
    lines += [json.dumps(record) for record in (broken, embedding)]
    answer = send(live, LITELLM, "\n".join(lines).encode())
    assert outcomes(answer) == ["stored", "waiting", "refused", "refused", "skipped"]
    results = answer.json()["results"]
    assert results[2]["problem"]["type"] == "/problems/malformed-line"
    assert results[2]["problem"]["line"] == 4
    assert results[3]["problem"] == {
        "type": "/problems/missing-field",
        "title": "A field is missing.",
        "detail": "model is missing: the name of the model that answered.",
        "field": "model",
        "line": 5,
    }
    assert results[4]["reason"] == "embeddings"
    assert answer.json()["counts"] == {"stored": 1, "waiting": 1, "refused": 2, "skipped": 1}
    assert WaitingReport.objects.get().model_name == "gpt-4o"


@pytest.mark.parametrize(("body", "status"), [(b"[]", 422), (b"7", 422), (b"{cut", 400), (b"", 422)])
def test_what_is_no_record_of_litellm_is_a_problem(live: Programme, body: bytes, status: int) -> None:
    answer = send(live, LITELLM, body)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")


@pytest.mark.parametrize("path", [LITELLM, OTLP, EVENTS])
def test_a_door_needs_a_key(live: Programme, path: str) -> None:
    answer = live.api.post(path, b"{}", content_type="application/json")
    assert answer.status_code == 401


# --- CloudEvents ------------------------------------------------------------------------------------------------------
def test_one_event_several_and_binary_mode(live: Programme) -> None:
    data = {"model": "house-1", "output": {"text": "peace"}}
    fresh = {"time": timezone.now().isoformat(), "data": data}
    one = send(live, EVENTS, event(**fresh), "application/cloudevents+json; charset=utf-8")
    assert outcomes(one) == ["stored"]
    several = [event(**fresh), event(id="18", **fresh), event(id="", **fresh), event(type="other", **fresh)]
    answer = send(live, EVENTS, several, "application/cloudevents-batch+json")
    assert outcomes(answer) == ["known", "stored", "refused", "skipped"]
    headers = {
        f"ce-{name}": item
        for name, item in {**event(**fresh), "id": "19"}.items()
        if name in {"specversion", "type", "source", "id", "time"}
    }
    assert outcomes(send(live, EVENTS, data, **headers)) == ["stored"]
    assert set(Generation.objects.values_list("external_id", flat=True)) == {"/shop 17", "/shop 18", "/shop 19"}


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ({}, "application/json"),
        ([], "application/cloudevents+json"),
        ({}, "application/cloudevents-batch+json"),
        ([], "application/cloudevents-batch+json"),
    ],
)
def test_what_is_no_event_is_a_problem(live: Programme, body: Any, media_type: str) -> None:
    answer = send(live, EVENTS, body, media_type)
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/invalid-batch"


def test_an_event_with_a_misspelt_field_is_refused_and_not_cut(live: Programme) -> None:
    data = {"model": "house-1", "output": {"text": "peace", "tokens": [1]}}
    answer = send(live, EVENTS, event(time=timezone.now().isoformat(), data=data), "application/cloudevents+json")
    assert answer.json()["results"][0]["problem"]["detail"] == "output takes only text, token_ids."


# --- OpenTelemetry ----------------------------------------------------------------------------------------------------
def recent(**changes: Any) -> dict[str, Any]:
    return span(MESSAGES, endTimeUnixNano=str(int(now_seconds() * 1e9)), **changes)


def test_traces_in_json_are_taken_and_refused_spans_are_counted(live: Programme) -> None:
    new = recent()
    answer = send(live, OTLP, traces(new))
    assert (answer.status_code, answer.json()) == (200, {})
    row = Generation.objects.get()
    assert (row.external_id, row.output_text) == (f"{TRACE}/{SPAN}", "peace")
    old = recent(span_id="aaaaaaaaaaaaaaaa", events=[]) | {"endTimeUnixNano": "1000000000000000000"}
    answer = send(live, OTLP, traces(new, old))
    partial = answer.json()["partialSuccess"]
    assert partial["rejectedSpans"] == "1"
    assert partial["errorMessage"] == f"{TRACE}/aaaaaaaaaaaaaaaa: occurred_at lies more than 35 days in the past."


def test_protobuf_is_answered_in_protobuf_errors_too(live: Programme) -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add()
    body = request.SerializeToString()
    answer = send(live, OTLP, body, "application/x-protobuf")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/x-protobuf")
    assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")
    answer = send(live, OTLP, b"\xff\xff", "application/x-protobuf")
    assert answer.status_code == 400
    assert Status.FromString(answer.content).message.startswith("The body is not the protobuf")
    answer = live.api.post(OTLP, body, content_type="application/x-protobuf")
    assert (answer.status_code, Status.FromString(answer.content).code) == (401, 16)
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("query", "accept"), [("", "application/x-protobuf"), ("?format=protobuf", "*/*")])
def test_json_is_answered_in_json_whatever_else_is_accepted(live: Programme, query: str, accept: str) -> None:
    answer = live.api.post(
        OTLP + query,
        json.dumps(traces(recent())),
        content_type="application/json",
        headers={"Authorization": f"Bearer {live.key}", "Accept": accept},
    )
    assert (answer.status_code, answer["Content-Type"], answer.json()) == (200, "application/json", {})


def test_json_that_holds_no_traces_is_a_problem_with_its_place(live: Programme) -> None:
    answer = send(live, OTLP, {"resourceSpans": [7]})
    assert answer.status_code == 400
    assert answer.json()["detail"] == "resourceSpans[0] must be an object."
