"""Formats of gateways, as pure functions: each record becomes calls, one skip with its reason, or one fault."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from attribution.operations.dialects.calls import SKIPS, Call, Fault, Item, Skip
from attribution.operations.dialects.cloudevents import event_of_headers, read_event
from attribution.operations.dialects.litellm import read_record
from attribution.operations.dialects.opentelemetry import read_spans
from attribution.operations.dialects.spans import UnableToReadTraces, spans_of_json, spans_of_protobuf

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"


def only(items: list[Item]) -> Item:
    (item,) = items
    return item


# --- LiteLLM --------------------------------------------------------------------------------------------------------
def payload(**changes: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "litellm_call_id": "58d8182d",
        "call_type": "acompletion",
        "status": "success",
        "cache_hit": None,
        "endTime": 1796040000.5,
        "model": "openai/house-1",
        "model_group": "house-model",
        "response_cost": 0.25,
        "metadata": {"requester_metadata": {}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Fellow "}, {"type": "text", "text": "citizens"}]},
        ],
        "response": {"choices": [{"index": 0, "message": {"role": "assistant", "content": "peace"}}]},
        **changes,
    }


def choices(*choices: dict[str, Any]) -> dict[str, Any]:
    return {"response": {"choices": list(choices)}}


def test_a_record_of_litellm_is_a_call_and_its_cost_is_no_gross() -> None:
    assert read_record(payload()) == [
        Call(
            "58d8182d",
            "openai/house-1",
            datetime(2026, 11, 30, 12, 0, 0, 500_000, tzinfo=UTC),
            "peace",
            "Be brief.\n\nFellow citizens",
        )
    ]


def test_several_choices_are_several_generations() -> None:
    found = read_record(payload(**choices({"message": {"content": "peace"}}, {"message": {"content": "war"}})))
    assert [(item.external_id, getattr(item, "output", None)) for item in found] == [
        ("58d8182d#0", "peace"),
        ("58d8182d#1", "war"),
    ]


def test_the_callers_amount_is_its_gross() -> None:
    gross = {"amount": "0.05", "currency": "USD"}
    found = only(read_record(payload(metadata={"requester_metadata": {"tributary_gross": gross}})))
    assert isinstance(found, Call)
    assert found.gross == gross


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": "peace"}, "token_ids": [17, 4]},
        {"message": {"content": "peace", "provider_specific_fields": {"token_ids": [17, 4]}}},
        {"text": "peace", "provider_specific_fields": {"token_ids": [17, 4]}},
    ],
)
def test_token_ids_of_vllm_are_taken(choice: dict[str, Any]) -> None:
    found = only(read_record(payload(**choices(choice))))
    assert isinstance(found, Call)
    assert (found.output, found.token_ids) == ("peace", [17, 4])


@pytest.mark.parametrize(
    "response",
    [
        {"choices": [{"message": {"content": "peace"}}], "prompt_token_ids": [1, 2]},
        {"choices": [{"text": "peace", "prompt_token_ids": [1, 2]}]},
        {"choices": [{"text": "peace", "provider_specific_fields": {"prompt_token_ids": [1, 2]}}]},
    ],
)
def test_token_ids_of_the_prompt_are_taken(response: dict[str, Any]) -> None:
    found = only(read_record(payload(response=response)))
    assert isinstance(found, Call)
    assert found.generation("house")["prompt"] == {"text": "Be brief.\n\nFellow citizens", "token_ids": [1, 2]}


@pytest.mark.parametrize(
    ("response", "output"),
    [
        ({"choices": [{"text": "peace"}]}, "peace"),
        ("peace", "peace"),
        ({"output": [{"type": "message", "content": [{"type": "output_text", "text": "peace"}]}]}, "peace"),
        ({"content": [{"type": "text", "text": "pea"}, {"type": "text", "text": "ce"}]}, "peace"),
    ],
)
def test_every_shape_of_an_answer_is_read(response: Any, output: str) -> None:
    found = only(read_record(payload(response=response)))
    assert isinstance(found, Call)
    assert found.output == output


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "failure", "response": None}, "failed-call"),
        ({"call_type": "aembedding"}, "embeddings"),
        ({"call_type": "aimage_generation"}, "other-call"),
        ({"cache_hit": True}, "from-cache"),
        ({"response": None}, "no-content"),
        (choices(), "no-output"),
        (choices({"message": {"content": ""}}), "no-output"),
        (choices({"message": {"content": None, "tool_calls": [{"id": "1"}]}}), "tool-call"),
        (choices({"message": {"content": "redacted-by-litellm"}}), "redacted"),
    ],
)
def test_a_record_that_is_no_generation_is_skipped_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    found = only(read_record(payload(**changes)))
    assert found == Skip(reason, "58d8182d")
    assert reason in SKIPS


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (payload(litellm_call_id=None, id=""), "litellm_call_id"),
        (payload(model=None), "model"),
        (payload(endTime="yesterday"), "endTime"),
        (payload(endTime=1e300), "endTime"),
        (payload(response=7), "response"),
        (payload(response={}), "response"),
    ],
)
def test_a_record_that_cannot_be_read_names_its_field(record: dict[str, Any], field: str) -> None:
    found = only(read_record(record))
    assert isinstance(found, Fault)
    assert found.field == field
    assert field in found.detail
    assert only(read_record(["no record"])) == Fault(
        "invalid-field", "A record must be an object: LiteLLM's StandardLoggingPayload."
    )


# --- OpenTelemetry ----------------------------------------------------------------------------------------------------
def value(given: Any) -> dict[str, Any]:
    if isinstance(given, bool):
        return {"boolValue": given}
    if isinstance(given, int):
        return {"intValue": str(given)}
    if isinstance(given, list):
        return {"arrayValue": {"values": [value(item) for item in given]}}
    if isinstance(given, dict):
        return {"kvlistValue": {"values": [{"key": key, "value": value(item)} for key, item in given.items()]}}
    return {"stringValue": given}


def attributes(given: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": value(item)} for name, item in given.items()]


def span(given: dict[str, Any], *, span_id: str = SPAN, parent: str = "", **more: Any) -> dict[str, Any]:
    return {
        "traceId": TRACE,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": "chat house-1",
        "endTimeUnixNano": "1796040000500000000",
        "attributes": attributes(given),
        **more,
    }


def traces(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def read(*spans: dict[str, Any]) -> list[Item]:
    return read_spans(spans_of_json(traces(*spans)))


NUMBERED = {
    "gen_ai.request.model": "house-1",
    "llm.request.type": "chat",
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be brief.",
    "gen_ai.prompt.1.content": json.dumps([{"type": "text", "text": "Fellow citizens"}]),
    "gen_ai.completion.0.content": "peace",
}
INPUTS = [{"role": "user", "parts": [{"type": "text", "content": "Fellow citizens"}]}]
OUTPUTS = [{"role": "assistant", "parts": [{"type": "text", "content": "peace"}], "finish_reason": "stop"}]
MESSAGES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "house",
    "gen_ai.response.model": "house-1",
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
    "gen_ai.input.messages": json.dumps(INPUTS),
    "gen_ai.output.messages": json.dumps(OUTPUTS),
}
OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "house-1",
    "llm.input_messages.0.message.content": "Be brief.",
    "llm.input_messages.1.message.contents.0.message_content.type": "text",
    "llm.input_messages.1.message.contents.0.message_content.text": "Fellow citizens",
    "llm.output_messages.0.message.content": "peace",
}
STRUCTURED = {**MESSAGES, "gen_ai.input.messages": INPUTS, "gen_ai.output.messages": OUTPUTS}


@pytest.mark.parametrize("given", [NUMBERED, MESSAGES, OPENINFERENCE, STRUCTURED])
def test_each_dialect_tells_the_same_call(given: dict[str, Any]) -> None:
    found = only(read(span(given)))
    assert found == Call(
        f"{TRACE}/{SPAN}",
        "house-1",
        datetime(2026, 11, 30, 12, 0, 0, 500_000, tzinfo=UTC),
        "peace",
        "Be brief.\n\nFellow citizens",
    )


def test_protobuf_and_json_tell_the_same() -> None:
    given = {**STRUCTURED, "tributary.output.token_ids": [17, 4], "tributary.prompt.token_ids": [1], "ok": True}
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans.add()
    made.trace_id, made.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    made.end_time_unix_nano = 1796040000500000000
    for name, item in given.items():
        pair = made.attributes.add(key=name)
        _fill(pair.value, item)
    assert read_spans(spans_of_protobuf(request.SerializeToString())) == read(span(given))


def _fill(target: Any, given: Any) -> None:
    if isinstance(given, bool):
        target.bool_value = given
    elif isinstance(given, int):
        target.int_value = given
    elif isinstance(given, list):
        for item in given:
            _fill(target.array_value.values.add(), item)
    elif isinstance(given, dict):
        for name, item in given.items():
            _fill(target.kvlist_value.values.add(key=name).value, item)
    else:
        target.string_value = given


def test_content_on_an_event_is_found() -> None:
    given = {name: item for name, item in MESSAGES.items() if "messages" not in name}
    content = {name: item for name, item in MESSAGES.items() if "messages" in name}
    event = {"name": "gen_ai.client.inference.operation.details", "attributes": attributes(content)}
    found = only(read(span(given, events=[event])))
    assert isinstance(found, Call)
    assert found.output == "peace"


@pytest.mark.parametrize(
    ("given", "more", "reason"),
    [
        ({"gen_ai.operation.name": "embeddings"}, {}, "embeddings"),
        ({"openinference.span.kind": "RERANKER"}, {}, "other-call"),
        (MESSAGES, {"status": {"code": 2}}, "failed-call"),
        ({"gen_ai.operation.name": "chat", "gen_ai.request.model": "house-1"}, {}, "no-content"),
        ({**MESSAGES, "gen_ai.output.messages": "[]"}, {}, "no-output"),
        ({**NUMBERED, "gen_ai.completion.0.content": ""}, {}, "no-output"),
        (
            {**MESSAGES, "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"tool_call","id":"1"}]}]'},
            {},
            "tool-call",
        ),
    ],
)
def test_a_span_that_is_no_generation_is_skipped_with_its_reason(
    given: dict[str, Any], more: dict[str, Any], reason: str
) -> None:
    assert read(span(given, **more)) == [Skip(reason, f"{TRACE}/{SPAN}")]


def test_spans_around_calls_and_of_other_things_are_passed_over() -> None:
    assert read(span({"http.request.method": "GET"}), span({"openinference.span.kind": "CHAIN"})) == []
    assert read(span({"gen_ai.operation.name": "invoke_agent"})) == []


def test_two_instrumentations_of_one_call_count_once() -> None:
    outer, inner = span(OPENINFERENCE, span_id="aaaaaaaaaaaaaaaa"), span(MESSAGES, parent="bbbbbbbbbbbbbbbb")
    between = span({"http.request.method": "POST"}, span_id="bbbbbbbbbbbbbbbb", parent="aaaaaaaaaaaaaaaa")
    found = read(outer, between, inner)
    assert found[0] == Skip("outer-span", f"{TRACE}/aaaaaaaaaaaaaaaa")
    assert isinstance(found[1], Call)
    other = span({**MESSAGES, "gen_ai.output.messages": json.dumps(["x"])}, parent="aaaaaaaaaaaaaaaa")
    assert [type(item) for item in read(outer, other)] == [Call, Fault]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({**MESSAGES, "gen_ai.output.messages": '[{"role": "assis'}, "gen_ai.output.messages"),
        ({**MESSAGES, "gen_ai.response.model": None, "gen_ai.request.model": ""}, "gen_ai.request.model"),
        ({**MESSAGES, "tributary.output.token_ids": ["a"]}, "tributary.output.token_ids"),
    ],
)
def test_a_span_that_cannot_be_read_names_its_attribute(given: dict[str, Any], field: str) -> None:
    found = only(read(span(given)))
    assert isinstance(found, Fault)
    assert found.field == field


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "must be an object with resourceSpans"),
        ({"resourceSpans": {}}, "resourceSpans must be a list"),
        ({"resourceSpans": [{"scopeSpans": [7]}]}, "resourceSpans[0].scopeSpans[0] must be an object"),
        (traces(span({}, endTimeUnixNano="soon")), "spans[0].endTimeUnixNano must be an integer"),
    ],
)
def test_traces_that_are_none_are_refused_with_the_place(body: Any, words: str) -> None:
    with pytest.raises(UnableToReadTraces) as refused:
        spans_of_json(body)
    assert words in str(refused.value)
    with pytest.raises(UnableToReadTraces):
        spans_of_protobuf(b"\xff\xff\xff")


# --- CloudEvents ------------------------------------------------------------------------------------------------------
def event(**changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": "tributary.generation.v1",
        "source": "/shop",
        "id": "17",
        "time": "2026-11-30T11:00:00+01:00",
        "data": {"model": "house-1", "output": {"text": "peace", "token_ids": [17]}},
        **changes,
    }


def test_an_event_is_a_call_with_the_generation_as_a_service_reports_it() -> None:
    found = read_event(event(), at=AT)
    assert isinstance(found, Call)
    assert found.generation("house") == {
        "external_id": "/shop 17",
        "model_version": "house",
        "occurred_at": "2026-11-30T10:00:00+00:00",
        "output": {"text": "peace", "token_ids": [17]},
    }
    packed = base64.b64encode(json.dumps(event()["data"]).encode()).decode()
    without = {name: item for name, item in event(data_base64=packed).items() if name != "data"}
    assert read_event(without, at=AT) == found
    untimed = read_event(event(time=None), at=AT)
    assert isinstance(untimed, Call)
    assert untimed.occurred_at == AT


def test_headers_in_binary_mode_make_the_same_event() -> None:
    headers = {f"Ce-{name.capitalize()}": item for name, item in event().items() if name != "data"}
    assert event_of_headers({**headers, "Content-Type": "application/json"}, event()["data"]) == event()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ""}, "id"),
        ({"source": None}, "source"),
        ({"specversion": "0.3"}, "specversion"),
        ({"time": "2026-11-30T11:00:00"}, "time"),
        ({"data": None}, "data"),
        ({"data": {"output": {"text": "peace"}}}, "data.model"),
        ({"data": {"model": "house-1", "ouput": {}}}, "data.ouput"),
        ({"data_base64": "%"}, "data_base64"),
    ],
)
def test_an_event_that_cannot_be_read_names_its_attribute(changes: dict[str, Any], field: str) -> None:
    found = read_event(event(**changes), at=AT)
    assert isinstance(found, Fault)
    assert found.field == field


def test_an_event_of_another_type_is_skipped() -> None:
    assert read_event(event(type="com.example.order"), at=AT) == Skip("other-event", "/shop 17")
