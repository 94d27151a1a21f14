"""Generations in spans: the three ways in use to write a model's prompt and output on one. Pure: no database.

* numbered attributes: `gen_ai.prompt.0.content`, `gen_ai.completion.0.content` (OpenLLMetry and others);
* messages: `gen_ai.input.messages`, `gen_ai.output.messages`, as JSON or structured, on the span or one of its events
  (the semantic conventions of OpenTelemetry);
* OpenInference: `llm.input_messages.0.message.content`, `llm.output_messages.0.message.content`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from attribution.operations.dialects.calls import (
    EMBEDDINGS,
    FAILED,
    NO_CONTENT,
    NO_OUTPUT,
    OTHER_CALL,
    OUTER,
    TOOL_CALL,
    Call,
    Fault,
    Item,
    Skip,
    UnableToReadRecord,
    joined,
    missing,
    prompt_of,
    several,
    text_of,
)
from attribution.operations.dialects.spans import Span

# The answer's name of the model tells more than the request's: a router may choose.
MODEL_NAMES = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
# Our own additions, for facts that no convention names.
TOKEN_IDS, PROMPT_TOKEN_IDS = "tributary.output.token_ids", "tributary.prompt.token_ids"
GROSS_AMOUNT, GROSS_CURRENCY = "tributary.gross.amount", "tributary.gross.currency"
GENERATIVE = frozenset({"chat", "completion", "text_completion", "generate_content", "llm", "unknown", ""})
# Spans around calls of a model, which are none themselves.
AROUND = frozenset(
    {"chain", "tool", "agent", "retriever", "guardrail", "evaluator", "prompt", "execute_tool", "invoke_agent"}
    | {"create_agent", "invoke_workflow"}
)
SECOND = 1_000_000_000
Output = tuple[str, bool]


def read_spans(spans: Sequence[Span]) -> list[Item]:
    """Read every span that tells of a call of a model; all other spans are passed over without a word."""
    found = {span.span_id: items for span in spans if (items := _items(span))}
    return [item for items in _without_outer(spans, found).values() for item in items]


def _without_outer(spans: Sequence[Span], found: dict[str, list[Item]]) -> dict[str, list[Item]]:
    """Skip a span with the same output as one inside it: two instrumentations wrap one call."""
    parents = {span.span_id: span.parent_id for span in spans}
    outputs = {span_id: [item.output for item in items if isinstance(item, Call)] for span_id, items in found.items()}
    for span_id in list(found):
        seen, parent = {span_id}, parents[span_id]
        while parent in parents and parent not in seen:
            if outputs.get(parent) and outputs[parent] == outputs[span_id]:
                found[parent] = [Skip(OUTER, item.external_id) for item in found[parent]]
                outputs[parent] = []
            seen.add(parent)
            parent = parents[parent]
    return found


def _items(span: Span) -> list[Item]:
    given = _with_events(span)
    kind = _kind(given)
    if kind is None or kind in AROUND:
        return []
    external_id = f"{span.trace_id}/{span.span_id}"
    if span.is_error:
        return [Skip(FAILED, external_id)]
    if kind.startswith("embedding"):
        return [Skip(EMBEDDINGS, external_id)]
    if kind not in GENERATIVE:
        return [Skip(OTHER_CALL, external_id)]
    try:
        return _calls(span, given, external_id)
    except UnableToReadRecord as error:
        return [Fault(error.problem, str(error), external_id, field=error.field)]


def _with_events(span: Span) -> dict[str, Any]:
    """Join the span's attributes with those of its events: content often stands on an event."""
    found: dict[str, Any] = {}
    for _, attributes in span.events:
        found.update({name: value for name, value in attributes.items() if name.startswith("gen_ai.")})
    return {**found, **span.attributes}


def _kind(given: Mapping[str, Any]) -> str | None:
    """Name the kind of call that the span tells of; None for a span that tells of no call of a model."""
    if (kind := given.get("openinference.span.kind")) is not None:
        return str(kind).lower()
    for name in ("gen_ai.operation.name", "llm.request.type"):
        if given.get(name) is not None:
            return str(given[name]).lower()
    is_call = any(name.startswith(("gen_ai.", "llm.")) for name in given)
    return "" if is_call else None


def _calls(span: Span, given: Mapping[str, Any], external_id: str) -> list[Item]:
    outputs = _outputs(given)
    if outputs is None:
        return [Skip(NO_CONTENT, external_id)]
    if not outputs:
        return [Skip(NO_OUTPUT, external_id)]
    if len(span.trace_id) != 32 or len(span.span_id) != 16:
        raise UnableToReadRecord("spanId", "and traceId must be 16 and 32 hexadecimal digits.")
    model = next((given[name] for name in MODEL_NAMES if given.get(name)), None)
    if not isinstance(model, str):
        raise missing("gen_ai.request.model", f"a span of a model names it in {' or '.join(MODEL_NAMES)}.")
    occurred_at = _moment(span.end_nanos)
    token_ids, read = _token_ids(given, TOKEN_IDS), _token_ids(given, PROMPT_TOKEN_IDS)
    if token_ids is not None and len(outputs) != 1:
        raise UnableToReadRecord(TOKEN_IDS, f"must belong to one output; the span has {len(outputs)}.")
    prompt, gross = _prompt(given), _gross(given)
    found: list[Item] = []
    for number, (text, called_tool) in enumerate(outputs):
        name = several(external_id, number, len(outputs))
        if not text and not token_ids:
            found.append(Skip(TOOL_CALL if called_tool else NO_OUTPUT, name))
        else:
            found.append(Call(name, model, occurred_at, text, prompt, token_ids, read, gross))
    return found


def _moment(nanos: int) -> datetime:
    if nanos <= 0:
        raise missing("endTimeUnixNano", "the nanoseconds since 1970 at which the span ended.")
    try:
        return datetime.fromtimestamp(nanos // SECOND, UTC).replace(microsecond=nanos % SECOND // 1000)
    except (ValueError, OverflowError, OSError):
        raise UnableToReadRecord("endTimeUnixNano", f"is no moment: {nanos}.") from None


# --- the dialects -----------------------------------------------------------------------------------------------------
def _outputs(given: Mapping[str, Any]) -> list[Output] | None:
    """List (text, whether a tool was called) for each output; None where the span has no content at all."""
    if (messages := given.get("gen_ai.output.messages")) is not None:
        return [_message(message) for message in _list(messages, "gen_ai.output.messages")]
    if numbered := _numbered(given, "gen_ai.completion."):
        return [(text_of(_parsed(item.get("content"))), _calls_tool(item)) for item in numbered]
    if numbered := _numbered(given, "llm.output_messages."):
        return [(_openinference(item), _calls_tool(item)) for item in numbered]
    if numbered := _numbered(given, "llm.choices."):
        return [(text_of(item.get("completion.text")), False) for item in numbered]
    return None


def _prompt(given: Mapping[str, Any]) -> str:
    if (messages := given.get("gen_ai.input.messages")) is not None:
        system = given.get("gen_ai.system_instructions")
        before = prompt_of(_list(system, "gen_ai.system_instructions")) if system is not None else ""
        return joined([before, prompt_of(_list(messages, "gen_ai.input.messages"))])
    if numbered := _numbered(given, "gen_ai.prompt."):
        return joined(text_of(_parsed(item.get("content"))) for item in numbered)
    if numbered := _numbered(given, "llm.input_messages."):
        return joined(_openinference(item) for item in numbered)
    return joined(text_of(item.get("prompt.text")) for item in _numbered(given, "llm.prompts."))


def _numbered(given: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    """Gather `<prefix><number>.<rest>` by number: one mapping of the rests for each, in order."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in given.items():
        if name.startswith(prefix):
            number, _, rest = name.removeprefix(prefix).partition(".")
            if number.isascii() and number.isdigit() and rest:
                found.setdefault(int(number), {})[rest] = value
    return [found[number] for number in sorted(found)]


def _openinference(item: Mapping[str, Any]) -> str:
    if isinstance(item.get("message.content"), str):
        return str(item["message.content"])
    parts = _numbered(item, "message.contents.")
    return "".join(text_of(part.get("message_content.text")) for part in parts)


def _calls_tool(item: Mapping[str, Any]) -> bool:
    return any("tool_calls" in name or "function_call" in name for name in item)


def _message(message: Any) -> Output:
    """Read a message of the conventions: its parts of the type text, or `content` as older libraries write it."""
    if not isinstance(message, Mapping):
        raise UnableToReadRecord("gen_ai.output.messages", "must be a list of objects with role and parts.")
    parts = message.get("parts")
    if not isinstance(parts, Sequence) or isinstance(parts, str):
        return text_of(message.get("content")), bool(message.get("tool_calls"))
    blocks = [part for part in parts if isinstance(part, Mapping)]
    text = "".join(text_of(part) for part in blocks if part.get("type", "text") == "text")
    return text, any(part.get("type") == "tool_call" for part in blocks)


def _list(value: Any, field: str) -> Sequence[Any]:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise UnableToReadRecord(field, "is not JSON: the library that wrote it may have cut it.") from None
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UnableToReadRecord(field, "must be a list of messages.")
    return value


def _parsed(content: Any) -> Any:
    """Return the parts of a content that is the JSON of a list of parts, and every other content as it is."""
    if isinstance(content, str) and content.startswith('[{"'):
        try:
            parts = orjson.loads(content)
        except orjson.JSONDecodeError:
            return content
        is_parts = isinstance(parts, list) and all(isinstance(part, Mapping) and "type" in part for part in parts)
        return [part for part in parts if part["type"] == "text"] if is_parts else content
    return content


# --- our own attributes -----------------------------------------------------------------------------------------------
def _token_ids(given: Mapping[str, Any], name: str) -> list[int] | None:
    found = given.get(name)
    if found is not None and not (isinstance(found, list) and all(type(token) is int for token in found)):
        raise UnableToReadRecord(name, "must be a list of integers.")
    return found


def _gross(given: Mapping[str, Any]) -> dict[str, Any] | None:
    if given.get(GROSS_AMOUNT) is None and given.get(GROSS_CURRENCY) is None:
        return None
    return {"amount": given.get(GROSS_AMOUNT), "currency": given.get(GROSS_CURRENCY)}
