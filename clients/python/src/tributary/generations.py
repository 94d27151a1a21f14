"""One generation as the API takes it, built from plain values."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Union

from tributary.errors import InvalidInput

Gross = Union["tuple[str | Decimal, str]", Mapping[str, str]]
"""The charged amount: ("0.05", "USD")."""


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
        "model_version": filled_text(model_version, "model_version"),
        "occurred_at": moment_text(occurred_at),
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


def filled_text(value: Any, name: str) -> str:
    """Return a text that is not empty. Raises InvalidInput."""
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"a text is needed, not {value!r:.80}", field=name)
    return value


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"a mapping is needed, not {type(value).__name__}", field=name)
    return dict(value)


def moment_text(value: datetime | None, name: str = "occurred_at") -> str:
    """Write a moment, by default now. Raises InvalidInput for one without a time zone."""
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
