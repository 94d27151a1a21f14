"""One generation as the API takes it, built from plain values; and the list of those that the service reported."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Union

from tributary.errors import InvalidInput
from tributary.transport import Transport

Gross = Union["tuple[str | Decimal, str]", Mapping[str, str]]
"""The charged amount: ("0.05", "USD")."""
PATH = "/api/v1/generations"


class Generations:
    """`client.generations`: the service's own, with the state of their attribution."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        state: str | None = None,
        model_version: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield generations, the last reported first; they occurred from `since` on and before `until`. Raises
        ProblemError, and InvalidInput for a datetime without a time zone.

        `state` is received, attributed or unattributable.
        """
        return self._transport.pages(
            PATH,
            state=state,
            model_version=model_version,
            since=None if since is None else _moment(since, "since"),
            until=None if until is None else _moment(until, "until"),
        )

    def find(self, *, external_id: str) -> dict[str, Any] | None:
        """Find the generation of an external id; None where none was reported. Raises ProblemError and InvalidInput."""
        answer = self._transport.get(PATH, external_id=_text(external_id, "external_id"))
        found: Sequence[dict[str, Any]] = answer["results"]
        return found[0] if found else None


def new_external_id() -> str:
    """Make an id of which no two are the same."""
    return uuid.uuid4().hex


def encoded(
    *,
    external_id: str,
    model_version: str,
    output: str | Mapping[str, Any],
    prompt: str | Mapping[str, Any] | None,
    token_ids: Sequence[int] | None,
    occurred_at: datetime | None,
    gross: Gross | None,
    features: Mapping[str, Any] | None,
) -> bytes:
    """Encode a generation as JSON in one line. Raises InvalidInput, which names the field."""
    body: dict[str, Any] = {
        "external_id": external_id,
        "model_version": _text(model_version, "model_version"),
        "occurred_at": _moment(occurred_at),
        "output": _output(output, token_ids),
    }
    if prompt is not None:
        body["prompt"] = {"text": prompt} if isinstance(prompt, str) else _mapping(prompt, "prompt")
    if gross is not None:
        body["gross"] = _gross(gross)
    if features is not None:
        body["features"] = _mapping(features, "features")
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"this cannot be written as JSON: {error}") from None


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"a text is needed, not {value!r:.80}", field=name)
    return value


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"a mapping is needed, not {type(value).__name__}", field=name)
    return dict(value)


def _moment(value: datetime | None, name: str = "occurred_at") -> str:
    if value is None:
        value = datetime.now(timezone.utc)
    if not isinstance(value, datetime):
        raise InvalidInput(f"a datetime is needed, not {type(value).__name__}", field=name)
    if value.tzinfo is None:
        raise InvalidInput("the datetime has no time zone; pass one such as timezone.utc", field=name)
    return value.isoformat()


def _output(output: str | Mapping[str, Any], token_ids: Sequence[int] | None) -> dict[str, Any]:
    body: dict[str, Any] = {"text": output} if isinstance(output, str) else _mapping(output, "output")
    if token_ids is not None:
        try:
            body["token_ids"] = [int(token) for token in token_ids]
        except (TypeError, ValueError):
            raise InvalidInput("whole numbers are needed", field="token_ids") from None
    return body


def _gross(gross: Gross) -> dict[str, str]:
    if isinstance(gross, Mapping):
        gross = (gross.get("amount", ""), gross.get("currency", ""))
    amount: Any
    try:
        amount, currency = gross
    except (TypeError, ValueError):
        raise InvalidInput('give (amount, currency), as ("0.05", "USD")', field="gross") from None
    if isinstance(amount, float):
        raise InvalidInput('a float is not exact; give a text or a Decimal, as "0.05"', field="gross.amount")
    return {"amount": f"{amount:f}" if isinstance(amount, Decimal) else str(amount), "currency": str(currency)}
