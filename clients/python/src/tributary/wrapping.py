"""Reports of an OpenAI client's completions, read from its answers by their fields alone.

It works with the `openai` package, synchronous and asynchronous, and with any client of the same form. Nothing here
reaches the caller: an answer that cannot be read is logged one time and not reported.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tributary.errors import InvalidInput

log = logging.getLogger("tributary")

METHODS = ("create", "parse")
MARK = "_tributary_reports"


@dataclass
class _Seen:
    """One output of an answer: the text so far, and the token ids where the server returns them."""

    text: list[str] = field(default_factory=list)
    token_ids: list[int] | None = None


@dataclass
class _Watch:
    """The translation of answers into reports."""

    report: Callable[..., str]
    model_versions: str | Mapping[str, str] | Callable[[str], str | None] | None
    gross: Callable[[Any], Any] | None
    logged: set[str] = field(default_factory=set)

    def answered(self, asked: Mapping[str, Any], answer: Any) -> None:
        """Report a whole answer: a chat completion or a response, parsed or raw."""
        try:
            if hasattr(answer, "http_response") and callable(getattr(answer, "parse", None)):
                answer = answer.parse()
            if hasattr(answer, "choices"):
                seen = {choice.index: _of_choice(choice) for choice in answer.choices}
                self._tell(asked, answer, seen)
            elif hasattr(answer, "output"):
                self._tell(asked, answer, {0: _Seen([_text_of_response(answer)], None)})
            else:
                raise TypeError(f"{type(answer).__name__} is neither a chat completion nor a response")
        except Exception as error:
            self._unread(error)

    def streamed(self, asked: Mapping[str, Any], first: Any, seen: dict[int, _Seen]) -> None:
        """Report the outputs of a stream that ended, whole or not."""
        try:
            if first is not None and seen:
                self._tell(asked, first, seen)
        except Exception as error:
            self._unread(error)

    def _tell(self, asked: Mapping[str, Any], answer: Any, seen: Mapping[int, _Seen]) -> None:
        model = str(getattr(answer, "model", None) or asked.get("model") or "")
        version = self._version(model, str(asked.get("model") or model))
        if version is None:
            return
        gross = self.gross(answer) if self.gross is not None else None
        name = getattr(answer, "id", None)
        for index, output in sorted(seen.items()):
            text = "".join(output.text)
            if not text and not output.token_ids:
                continue
            self.report(
                model_version=version,
                external_id=f"{name}-{index}" if name and index else name,
                prompt=_prompt_of(asked),
                output=text,
                token_ids=output.token_ids,
                gross=gross if index == min(seen) else None,
            )

    def _version(self, model: str, asked: str) -> str | None:
        if self.model_versions is None:
            return model
        if isinstance(self.model_versions, str):
            return self.model_versions
        if callable(self.model_versions):
            return self.model_versions(model)
        # The mapping may name the model as it was asked for or as it answered.
        return self.model_versions.get(model, self.model_versions.get(asked))

    def _unread(self, error: Exception) -> None:
        words = f"{type(error).__name__}: {error}"
        if words not in self.logged and len(self.logged) < 20:
            self.logged.add(words)
            log.warning("An answer of the wrapped client was not reported: %s", words)


def wrap_openai(
    client: Any,
    report: Callable[..., str],
    *,
    model_versions: str | Mapping[str, str] | Callable[[str], str | None] | None = None,
    gross: Callable[[Any], Any] | None = None,
) -> None:
    """Wrap `chat.completions` and `responses` of a client in place. Raises InvalidInput for another object."""
    completions = getattr(getattr(client, "chat", None), "completions", None)
    responses = getattr(client, "responses", None)
    found = [resource for resource in (completions, responses) if callable(getattr(resource, "create", None))]
    if not found:
        raise InvalidInput(
            f"{type(client).__name__} has neither chat.completions.create nor responses.create", field="openai_client"
        )
    watch = _Watch(report, model_versions, gross)
    for resource in found:
        for name in METHODS:
            method = getattr(resource, name, None)
            if callable(method) and not hasattr(method, MARK):
                setattr(resource, name, _watched(method, watch))


def _watched(method: Callable[..., Any], watch: _Watch) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        answer = method(*args, **kwargs)
        if inspect.isawaitable(answer):
            return _later(answer, kwargs, watch)
        return _observed(answer, kwargs, watch)

    setattr(call, MARK, True)
    call.__doc__ = method.__doc__
    return call


async def _later(answer: Any, asked: Mapping[str, Any], watch: _Watch) -> Any:
    return _observed(await answer, asked, watch)


def _observed(answer: Any, asked: Mapping[str, Any], watch: _Watch) -> Any:
    if asked.get("stream") is True and (hasattr(answer, "__iter__") or hasattr(answer, "__aiter__")):
        return WatchedStream(answer, asked, watch)
    watch.answered(asked, answer)
    return answer


class WatchedStream:
    """A stream of chunks, passed on unchanged. It reports when the stream ends, fails or is closed."""

    def __init__(self, stream: Any, asked: Mapping[str, Any], watch: _Watch) -> None:
        self._stream = stream
        self._asked = asked
        self._watch = watch
        self._first: Any = None
        self._seen: dict[int, _Seen] = {}
        self._is_told = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> WatchedStream:
        return self

    def __next__(self) -> Any:
        try:
            chunk = next(self._stream)
        except BaseException:
            self._tell()
            raise
        self._note(chunk)
        return chunk

    def __aiter__(self) -> WatchedStream:
        return self

    async def __anext__(self) -> Any:
        try:
            chunk = await self._stream.__anext__()
        except BaseException:
            self._tell()
            raise
        self._note(chunk)
        return chunk

    def __enter__(self) -> WatchedStream:
        self._stream.__enter__()
        return self

    def __exit__(self, *details: Any) -> Any:
        self._tell()
        return self._stream.__exit__(*details)

    async def __aenter__(self) -> WatchedStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *details: Any) -> Any:
        self._tell()
        return await self._stream.__aexit__(*details)

    def close(self) -> Any:
        self._tell()
        return self._stream.close()

    def _note(self, chunk: Any) -> None:
        try:
            if hasattr(chunk, "choices"):
                self._first = self._first or chunk
                for choice in chunk.choices:
                    _add_delta(self._seen.setdefault(choice.index, _Seen()), choice)
            else:
                self._note_event(chunk)
        except Exception as error:
            self._watch._unread(error)

    def _note_event(self, event: Any) -> None:
        kind = getattr(event, "type", "")
        if kind == "response.created":
            self._first = event.response
        elif kind == "response.output_text.delta":
            self._seen.setdefault(0, _Seen()).text.append(event.delta)
        elif kind in {"response.completed", "response.incomplete"}:
            self._first = event.response
            self._seen = {0: _Seen([_text_of_response(event.response)])}

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._watch.streamed(self._asked, self._first, self._seen)


def _of_choice(choice: Any) -> _Seen:
    seen = _Seen(token_ids=_ids(getattr(choice, "token_ids", None)))
    _add_message(seen, choice.message)
    return seen


def _add_delta(seen: _Seen, choice: Any) -> None:
    _add_message(seen, choice.delta)
    ids = _ids(getattr(choice, "token_ids", None))
    if ids is not None:
        seen.token_ids = (seen.token_ids or []) + ids


def _add_message(seen: _Seen, message: Any) -> None:
    """Add the text of a message, and the arguments of its tool calls, which the model wrote too."""
    if getattr(message, "content", None):
        seen.text.append(message.content)
    for call in getattr(message, "tool_calls", None) or ():
        arguments = getattr(getattr(call, "function", None), "arguments", None)
        if arguments:
            seen.text.append(arguments)


def _ids(value: Any) -> list[int] | None:
    return [int(token) for token in value] if value else None


def _text_of_response(response: Any) -> str:
    """Join the texts and the tool arguments of a response's output items."""
    parts: list[str] = []
    for item in response.output:
        if getattr(item, "arguments", None):
            parts.append(item.arguments)
        contents = getattr(item, "content", None) or ()
        parts += [content.text for content in contents if getattr(content, "type", "") == "output_text"]
    return "".join(parts)


def _prompt_of(asked: Mapping[str, Any]) -> str:
    """Join the texts of the messages, or of the input, in their order."""
    given = asked.get("messages", asked.get("input"))
    parts = [asked["instructions"]] if isinstance(asked.get("instructions"), str) else []
    if isinstance(given, str):
        return "\n".join([*parts, given])
    for message in given or ():
        content = message.get("content") if isinstance(message, Mapping) else getattr(message, "content", None)
        if isinstance(content, str):
            parts.append(content)
        else:
            parts += [part["text"] for part in content or () if isinstance(part, Mapping) and "text" in part]
    return "\n".join(parts)
