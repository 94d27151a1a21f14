"""The real `openai` package against a small server of the same API: whole and streamed, with and without asyncio."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from clients.python.tests.servers import KEY, QUICK, Reply, Request, Server, serving
from tributary import InvalidInput, Tributary

openai = pytest.importorskip("openai")

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Speak plainly."},
    {"role": "user", "content": [{"type": "text", "text": "The state of the union?"}]},
]
PROMPT = "Speak plainly.\nThe state of the union?"
WORDS = ["Peace", " and", " harvests."]
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"year":1869}'}}


def completion(request: Request, model: str) -> dict[str, Any]:
    asked = request.json
    contents: list[dict[str, Any]] = [
        {"role": "assistant", "content": "".join(WORDS)} for _ in range(asked.get("n") or 1)
    ]
    if asked.get("tools"):
        contents = [{"role": "assistant", "content": None, "tool_calls": [CALL]}]
    ids = {"token_ids": [5, 6, 7]} if "return_token_ids" in asked else {}
    choices = [
        {"index": index, "message": message, "finish_reason": "stop", "logprobs": None, **ids}
        for index, message in enumerate(contents)
    ]
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": choices}


def chunks(model: str) -> list[bytes]:
    made = []
    for place, word in enumerate(WORDS):
        delta = {"content": word, **({"role": "assistant"} if place == 0 else {})}
        choice = {"index": 0, "delta": delta, "finish_reason": None, "token_ids": [place]}
        made.append({"id": "chatcmpl-2", "object": "chat.completion.chunk", "created": 1, "model": model})
        made[-1]["choices"] = [choice]
    return [b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in made] + [b"data: [DONE]\n\n"]


def response(model: str, text: str = "") -> dict[str, Any]:
    content = {"type": "output_text", "text": text or "".join(WORDS), "annotations": []}
    message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [content]}
    fixed = {"object": "response", "created_at": 1, "status": "completed", "parallel_tool_calls": False}
    return {**fixed, "id": "resp-1", "model": model, "output": [message], "tool_choice": "auto", "tools": []}


def events(model: str) -> list[bytes]:
    made: list[dict[str, Any]] = [{"type": "response.created", "response": {**response(model), "output": []}}]
    where = {"item_id": "m1", "output_index": 0, "content_index": 0, "logprobs": []}
    made += [{"type": "response.output_text.delta", "delta": word, **where} for word in WORDS]
    made += [{"type": "response.completed", "response": response(model)}]
    lines = enumerate(made)
    return [
        b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps({**event, "sequence_number": n}).encode())
        for n, event in lines
    ]


@pytest.fixture
def provider() -> Iterator[Server]:
    def reply(request: Request) -> Reply:
        asked = request.json
        is_chat = request.path.endswith("/chat/completions")
        if asked.get("stream"):
            parts = chunks(asked["model"]) if is_chat else events(asked["model"])
            return Reply(parts=parts, headers={"Content-Type": "text/event-stream"})
        return Reply(200, completion(request, asked["model"]) if is_chat else response(asked["model"]))

    with serving() as server:
        server.reply = reply
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Tributary]:
    with Tributary(server.url, KEY, backoff=QUICK, interval_seconds=0.02) as client:
        yield client


def reported(client: Tributary, server: Server) -> list[dict[str, Any]]:
    assert client.flush(5)
    return [generation for request in server.received for generation in request.json["generations"]]


def wrapped(client: Tributary, provider: Server, **options: Any) -> Any:
    return client.wrap(openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1", max_retries=0), **options)


def wrapped_async(client: Tributary, provider: Server, **options: Any) -> Any:
    return client.wrap(openai.AsyncOpenAI(api_key="k", base_url=f"{provider.url}/v1", max_retries=0), **options)


def test_a_chat_completion_is_reported(client: Tributary, provider: Server, server: Server) -> None:
    answer = wrapped(client, provider).chat.completions.create(model="sotu-1", messages=MESSAGES)
    assert answer.choices[0].message.content == "Peace and harvests."
    (generation,) = reported(client, server)
    assert generation["external_id"] == "chatcmpl-1"
    assert generation["model_version"] == "sotu-1"
    assert generation["prompt"] == {"text": PROMPT}
    assert generation["output"] == {"text": "Peace and harvests."}


def test_token_ids_of_the_server_are_reported(client: Tributary, provider: Server, server: Server) -> None:
    openai_client = wrapped(client, provider)
    openai_client.chat.completions.create(model="m", messages=MESSAGES, extra_body={"return_token_ids": True})
    (generation,) = reported(client, server)
    assert generation["output"]["token_ids"] == [5, 6, 7]


def test_every_choice_is_a_generation_and_the_gross_is_charged_once(
    client: Tributary, provider: Server, server: Server
) -> None:
    openai_client = wrapped(client, provider, gross=lambda answer: ("0.05", "USD"))
    openai_client.chat.completions.create(model="m", messages=MESSAGES, n=3)
    found = reported(client, server)
    assert [generation["external_id"] for generation in found] == ["chatcmpl-1", "chatcmpl-1-1", "chatcmpl-1-2"]
    assert [generation.get("gross") for generation in found] == [{"amount": "0.05", "currency": "USD"}, None, None]


def test_arguments_of_tools_are_output_too(client: Tributary, provider: Server, server: Server) -> None:
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}]
    wrapped(client, provider).chat.completions.create(model="m", messages=MESSAGES, tools=tools)
    (generation,) = reported(client, server)
    assert generation["output"]["text"] == '{"year":1869}'


def test_a_stream_passes_unchanged_and_is_reported_at_its_end(
    client: Tributary, provider: Server, server: Server
) -> None:
    stream = wrapped(client, provider).chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert [chunk.choices[0].delta.content for chunk in stream] == WORDS
    (generation,) = reported(client, server)
    assert generation["output"] == {"text": "Peace and harvests.", "token_ids": [0, 1, 2]}
    assert generation["external_id"] == "chatcmpl-2"


def test_a_stream_that_is_left_early_is_reported_as_far_as_it_came(
    client: Tributary, provider: Server, server: Server
) -> None:
    with wrapped(client, provider).chat.completions.create(model="m", messages=MESSAGES, stream=True) as stream:
        assert next(stream).choices[0].delta.content == "Peace"
        assert stream.response.status_code == 200
    (generation,) = reported(client, server)
    assert generation["output"]["text"] == "Peace"


def test_the_stream_helper_is_reported(client: Tributary, provider: Server, server: Server) -> None:
    openai_client = wrapped(client, provider)
    with openai_client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        assert stream.get_final_completion().choices[0].message.content == "Peace and harvests."
    (generation,) = reported(client, server)
    assert generation["output"]["text"] == "Peace and harvests."


def test_raw_and_parsed_answers_are_reported(client: Tributary, provider: Server, server: Server) -> None:
    openai_client = wrapped(client, provider)
    raw = openai_client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert raw.parse().choices[0].message.content == "Peace and harvests."
    openai_client.chat.completions.parse(model="m", messages=MESSAGES)
    assert [g["output"]["text"] for g in reported(client, server)] == ["Peace and harvests."] * 2


def test_a_response_is_reported_whole_and_streamed(client: Tributary, provider: Server, server: Server) -> None:
    openai_client = wrapped(client, provider)
    answer = openai_client.responses.create(model="m", input="The state?", instructions="Speak plainly.")
    assert answer.output_text == "Peace and harvests."
    stream = openai_client.responses.create(model="m", input=[{"role": "user", "content": "And now?"}], stream=True)
    assert sum(event.type == "response.output_text.delta" for event in stream) == 3
    whole, streamed = reported(client, server)
    assert (whole["prompt"]["text"], whole["output"]["text"]) == ("Speak plainly.\nThe state?", "Peace and harvests.")
    assert (streamed["prompt"]["text"], streamed["output"]["text"]) == ("And now?", "Peace and harvests.")
    assert whole["external_id"] == "resp-1"


def test_the_asynchronous_client_is_reported_too(client: Tributary, provider: Server, server: Server) -> None:
    async def use() -> None:
        async with wrapped_async(client, provider) as openai_client:
            answer = await openai_client.chat.completions.create(model="m", messages=MESSAGES)
            assert answer.choices[0].message.content == "Peace and harvests."
            stream = await openai_client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            assert [chunk.choices[0].delta.content async for chunk in stream] == WORDS
            async with await openai_client.responses.create(model="m", input="x", stream=True) as stream:
                async for event in stream:
                    if event.type == "response.output_text.delta":
                        break

    asyncio.run(use())
    texts = [generation["output"]["text"] for generation in reported(client, server)]
    assert texts == ["Peace and harvests.", "Peace and harvests.", "Peace"]


@pytest.mark.parametrize(
    ("model_versions", "wanted"),
    [
        ("sotu-1", ["sotu-1"]),
        ({"m": "sotu-2"}, ["sotu-2"]),
        ({"other": "sotu-2"}, []),
        (lambda name: f"{name}-v3", ["m-v3"]),
        (lambda name: None, []),
    ],
)
def test_models_are_mapped_to_model_versions(
    client: Tributary, provider: Server, server: Server, model_versions: Any, wanted: list[str]
) -> None:
    openai_client = wrapped(client, provider, model_versions=model_versions)
    openai_client.chat.completions.create(model="m", messages=MESSAGES)
    assert [generation["model_version"] for generation in reported(client, server)] == wanted


def test_an_error_of_the_provider_reaches_the_caller_as_it_is(
    client: Tributary, provider: Server, server: Server
) -> None:
    provider.reply = lambda request: Reply(400, {"error": {"message": "no such model"}})
    with pytest.raises(openai.BadRequestError, match="no such model"):
        wrapped(client, provider).chat.completions.create(model="m", messages=MESSAGES)
    assert reported(client, server) == []


def test_a_failure_of_the_report_never_reaches_the_caller(
    client: Tributary, provider: Server, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(answer: Any) -> Any:
        raise KeyError("price")

    openai_client = wrapped(client, provider, gross=fail)
    with caplog.at_level(logging.WARNING, logger="tributary"):
        for _ in range(2):
            assert openai_client.chat.completions.create(model="m", messages=MESSAGES).id == "chatcmpl-1"
    assert reported(client, server) == []
    assert sum("was not reported" in record.message for record in caplog.records) == 1


def test_wrapping_again_reports_once(client: Tributary, provider: Server, server: Server) -> None:
    openai_client = client.wrap(wrapped(client, provider))
    openai_client.chat.completions.create(model="m", messages=MESSAGES)
    assert len(reported(client, server)) == 1


def test_any_client_of_the_same_form_is_wrapped(client: Tributary, server: Server) -> None:
    message = SimpleNamespace(content="Peace.")
    answer = SimpleNamespace(id="a1", model="m", choices=[SimpleNamespace(index=0, message=message)])
    other = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=lambda **asked: answer)))
    client.wrap(other).chat.completions.create(model="m", messages=MESSAGES)
    assert [generation["output"]["text"] for generation in reported(client, server)] == ["Peace."]


def test_another_object_is_refused(client: Tributary) -> None:
    with pytest.raises(InvalidInput, match="has neither"):
        client.wrap(object())
