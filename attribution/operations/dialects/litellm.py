"""LiteLLM's StandardLoggingPayload, as its callback `generic_api` sends it: one record a call. Pure: no database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attribution.operations.dialects.calls import (
    CACHED,
    EMBEDDINGS,
    FAILED,
    NO_CONTENT,
    NO_OUTPUT,
    OTHER_CALL,
    REDACTED,
    TOOL_CALL,
    Call,
    Fault,
    Item,
    Skip,
    UnableToReadRecord,
    missing,
    moment_of_seconds,
    prompt_of,
    several,
    text_of,
    token_ids_of,
)

# The text that LiteLLM writes in place of each other one where `turn_off_message_logging` is on.
REDACTION = "redacted-by-litellm"
# Parts of call_type, which begins with "a" for asynchronous calls.
GENERATIVE = ("completion", "responses", "anthropic_messages", "generate_content")


def read_record(record: Any) -> list[Item]:
    """Read one payload: a call for each choice, or the one reason why there is none."""
    if not isinstance(record, Mapping):
        return [Fault("invalid-field", "A record must be an object: LiteLLM's StandardLoggingPayload.")]
    external_id = _id(record)
    try:
        return _read(record, external_id)
    except UnableToReadRecord as error:
        return [Fault(error.problem, str(error), external_id, field=error.field)]


def _id(record: Mapping[str, Any]) -> str | None:
    """Return the proxy's own id of the call. The provider's `id` is the second choice: some providers reuse theirs."""
    for name in ("litellm_call_id", "id"):
        if isinstance(record.get(name), str) and record[name]:
            return str(record[name])
    return None


def _read(record: Mapping[str, Any], external_id: str | None) -> list[Item]:
    kind = str(record.get("call_type") or "")
    if record.get("status") == "failure":
        return [Skip(FAILED, external_id)]
    if "embedding" in kind:
        return [Skip(EMBEDDINGS, external_id)]
    if kind and not any(word in kind for word in GENERATIVE):
        return [Skip(OTHER_CALL, external_id)]
    if record.get("cache_hit") is True:
        return [Skip(CACHED, external_id)]
    if external_id is None:
        raise missing("litellm_call_id", "a text that names the call.")
    if record.get("response") is None:
        return [Skip(NO_CONTENT, external_id)]
    model = record.get("model")
    if not isinstance(model, str) or not model:
        raise missing("model", "the name of the model that answered.")
    outputs = outputs_of(record["response"])
    if any(REDACTION in text for text, _, _ in outputs):
        return [Skip(REDACTED, external_id)]
    if not outputs:
        return [Skip(NO_OUTPUT, external_id)]
    occurred_at = moment_of_seconds(record.get("endTime"), "endTime")
    prompt, gross = prompt_of(record.get("messages")), _gross(record.get("metadata"))
    found: list[Item] = []
    for number, (text, token_ids, called_tool) in enumerate(outputs):
        name = several(external_id, number, len(outputs))
        if not text and not token_ids:
            found.append(Skip(TOOL_CALL if called_tool else NO_OUTPUT, name))
        else:
            read = _prompt_token_ids(record["response"], number)
            found.append(Call(name, model, occurred_at, text, prompt, token_ids, read, gross))
    return found


def outputs_of(response: Any) -> list[tuple[str, list[int] | None, bool]]:
    """List (text, token ids, whether a tool was called) for each choice. Raises UnableToReadRecord.

    Reads chat and text completions (`choices`), answers of the Responses API (`output`), and Anthropic's (`content`).
    """
    if isinstance(response, str):
        return [(response, None, False)]
    if not isinstance(response, Mapping):
        raise UnableToReadRecord("response", "must be an object or a text.")
    choices = response.get("choices")
    if isinstance(choices, Sequence) and not isinstance(choices, str):
        return [_choice(choice, response) for choice in choices if isinstance(choice, Mapping)]
    parts = response.get("output", response.get("content"))
    if isinstance(parts, Sequence) and not isinstance(parts, str):
        blocks = [part for part in parts if isinstance(part, Mapping)]
        text = "".join(
            text_of(block.get("content", block.get("text")))
            for block in blocks
            if block.get("type", "message") in {"message", "text", "output_text"}
        )
        called_tool = any("call" in str(block.get("type")) or block.get("type") == "tool_use" for block in blocks)
        return [(text, None, called_tool)] if blocks else []
    raise UnableToReadRecord("response", "must have choices, output or content.")


def _choice(choice: Mapping[str, Any], response: Mapping[str, Any]) -> tuple[str, list[int] | None, bool]:
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    text = choice["text"] if isinstance(choice.get("text"), str) else text_of(message.get("content"))
    extra = (choice.get("provider_specific_fields"), message.get("provider_specific_fields"))
    called_tool = bool(message.get("tool_calls") or message.get("function_call"))
    return text, token_ids_of("token_ids", choice, message, *extra), called_tool


def _prompt_token_ids(response: Any, number: int) -> list[int] | None:
    """Find the tokens of the prompt: vLLM writes them beside the choices of a chat, and on a choice of a completion."""
    if not isinstance(response, Mapping) or not isinstance(response.get("choices"), Sequence):
        return None
    choice = response["choices"][number]
    places = [holder for holder in (choice, response) if isinstance(holder, Mapping)]
    extra = [holder.get("provider_specific_fields") for holder in places]
    return token_ids_of("prompt_token_ids", *places, *extra)


def _gross(metadata: Any) -> Any:
    """Find the amount that the caller states for the report: `metadata.tributary_gross` of its request."""
    if not isinstance(metadata, Mapping):
        return None
    for place in (metadata.get("requester_metadata"), metadata.get("spend_logs_metadata"), metadata):
        if isinstance(place, Mapping) and place.get("tributary_gross") is not None:
            return place["tributary_gross"]
    return None
