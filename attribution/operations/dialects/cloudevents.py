"""CloudEvents 1.0 of the type `tributary.generation.v1`. Pure: no database.

The data is a generation as POST /api/v1/generations takes it, without `external_id` and `occurred_at` (the event's own
id, source and time take their place), and with `model` in place of `model_version`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from attribution.operations.dialects.calls import (
    OTHER_EVENT,
    Call,
    Fault,
    Item,
    Skip,
    UnableToReadRecord,
    missing,
)

TYPE = "tributary.generation.v1"
FIELDS = frozenset({"model", "prompt", "output", "gross"})


def event_of_headers(headers: Mapping[str, str], data: Any) -> dict[str, Any]:
    """Make the event of a request in binary mode: its attributes are the headers `ce-...`, its data is the body."""
    found: dict[str, Any] = {
        name.lower().removeprefix("ce-"): value for name, value in headers.items() if name.lower().startswith("ce-")
    }
    return {**found, "data": data}


def read_event(event: Any, *, at: datetime) -> Item:
    """Read one event. `at` is the moment of receipt, which an event without a time occurred at."""
    if not isinstance(event, Mapping):
        return Fault("invalid-field", "An event must be an object.")
    external_id = None
    try:
        source, name = _attribute(event, "source"), _attribute(event, "id")
        external_id = f"{source} {name}"
        if _attribute(event, "specversion") != "1.0":
            raise UnableToReadRecord("specversion", 'must be "1.0".')
        if _attribute(event, "type") != TYPE:
            return Skip(OTHER_EVENT, external_id)
        return _call(external_id, _data(event), _time(event, at))
    except UnableToReadRecord as error:
        return Fault(error.problem, str(error), external_id, field=error.field)


def _attribute(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise missing(name, "every CloudEvent has id, source, specversion and type, each a text.")
    return value


def _time(event: Mapping[str, Any], at: datetime) -> datetime:
    if event.get("time") is None:
        return at
    try:
        found = datetime.fromisoformat(str(event["time"]).upper())
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise UnableToReadRecord("time", "must be a moment of RFC 3339 with its offset, as 2026-10-03T10:00:00Z.")
    return found.astimezone(UTC)


def _data(event: Mapping[str, Any]) -> Any:
    if "data_base64" not in event:
        return event.get("data")
    try:
        return orjson.loads(base64.b64decode(str(event["data_base64"]), validate=True))
    except (binascii.Error, ValueError, orjson.JSONDecodeError):
        raise UnableToReadRecord("data_base64", "must be the base64 of a JSON document.") from None


def _call(external_id: str, data: Any, occurred_at: datetime) -> Call:
    if not isinstance(data, Mapping):
        raise missing("data", "an object with model and output.")
    if unknown := sorted(set(data) - FIELDS):
        raise UnableToReadRecord(
            f"data.{unknown[0]}", f"is unknown: data takes {', '.join(sorted(FIELDS))}.", problem="unknown-field"
        )
    reported = dict(data)
    model = reported.pop("model", None)
    if not isinstance(model, str) or not model:
        raise missing("data.model", "the name of the model.")
    return Call(external_id, model, occurred_at, "", reported=reported)
