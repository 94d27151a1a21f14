"""The common form of one reported call, whichever gateway reports it and in which format. Pure: no database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# The reasons for which a reported call is no generation: each is counted and shown on the page of the service.
SKIPS: Mapping[str, str] = {
    "embeddings": "The call made embeddings and no output.",
    "failed-call": "The call failed.",
    "from-cache": "A cache answered; the model generated nothing.",
    "no-content": "The record holds no content: the gateway does not capture it.",
    "no-output": "The model gave no output.",
    "other-call": "The call is of another kind than a generation of text.",
    "other-event": "The event is of another type.",
    "outer-span": "A span inside this one reports the same generation.",
    "redacted": "The gateway removed the content.",
    "tool-call": "The output is a tool call without text or token ids.",
}
EMBEDDINGS, FAILED, CACHED, NO_CONTENT = "embeddings", "failed-call", "from-cache", "no-content"
NO_OUTPUT, OTHER_CALL, OTHER_EVENT, OUTER = "no-output", "other-call", "other-event", "outer-span"
REDACTED, TOOL_CALL = "redacted", "tool-call"


@dataclass(frozen=True, slots=True)
class Call:
    """One output of a model, as a gateway tells it. `model` is the gateway's name of the model."""

    external_id: str
    model: str
    occurred_at: datetime
    output: str
    prompt: str = ""
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    # {"amount", "currency"} as the caller gave it for the report; the gateway's own cost is never taken for it.
    gross: Any = None
    # Prompt, output and gross as a service itself reports them; they take the place of the fields above.
    reported: Mapping[str, Any] | None = None

    def generation(self, model_version: str) -> dict[str, Any]:
        """Return the generation, in the form that a service reports it itself."""
        named = {
            "external_id": self.external_id,
            "model_version": model_version,
            "occurred_at": self.occurred_at.isoformat(),
        }
        if self.reported is not None:
            return {**self.reported, **named}
        output: dict[str, Any] = {"text": self.output}
        if self.token_ids is not None:
            output["token_ids"] = self.token_ids
        prompt: dict[str, Any] = {"text": self.prompt}
        if self.prompt_token_ids is not None:
            prompt["token_ids"] = self.prompt_token_ids
        body: dict[str, Any] = {**named, "prompt": prompt, "output": output}
        if self.gross is not None:
            body["gross"] = self.gross
        return body


@dataclass(frozen=True, slots=True)
class Skip:
    """A record that is no generation, and the reason (SKIPS)."""

    reason: str
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that cannot be read: a problem with its field or line."""

    problem: str
    detail: str
    external_id: str | None = None
    field: str | None = None
    line: int | None = None


Item = Call | Skip | Fault


class UnableToReadRecord(Exception):
    """A field of a record is missing or has another form than its format allows."""

    def __init__(self, field: str, expected: str, *, problem: str = "invalid-field") -> None:
        super().__init__(f"{field} {expected}")
        self.field = field
        self.problem = problem


def missing(field: str, expected: str) -> UnableToReadRecord:
    return UnableToReadRecord(field, f"is missing: {expected}", problem="missing-field")


# --- parts of several formats -----------------------------------------------------------------------------------------
def text_of(content: Any) -> str:
    """Join the texts of a message's content: a string, or a list of strings and parts with `text` or `content`."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        found = content.get("text", content.get("content"))
        return found if isinstance(found, str) else ""
    if isinstance(content, Sequence):
        return "".join(text_of(part) for part in content)
    return ""


def prompt_of(messages: Any) -> str:
    """Join the texts of a conversation, or of a list of prompts, with an empty line between two messages."""
    if isinstance(messages, str):
        return messages
    if isinstance(messages, Mapping):
        inner = messages.get("messages")
        return prompt_of(inner) if inner is not None else text_of(messages.get("parts") or messages.get("content"))
    if isinstance(messages, Sequence):
        return joined(prompt_of(message) for message in messages)
    return ""


def joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text)


def token_ids_of(name: str, *places: Any) -> list[int] | None:
    """Find the token ids that vLLM adds (`return_token_ids`) in the first place that has any by this name."""
    for place in places:
        if isinstance(place, Mapping):
            found = place.get(name)
            if isinstance(found, list) and all(type(token) is int for token in found):
                return found
    return None


def several(external_id: str, number: int, of: int) -> str:
    """Name one of several outputs of a call. A single output has the name of its call."""
    return external_id if of == 1 else f"{external_id}#{number}"


def moment_of_seconds(value: Any, field: str) -> datetime:
    """Read seconds since 1970. Raises UnableToReadRecord."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnableToReadRecord(field, "must be a number of seconds since 1970.")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise UnableToReadRecord(field, f"is no moment: {value}.") from None
