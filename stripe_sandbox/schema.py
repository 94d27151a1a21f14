"""Stripe's own request schema in front of the sandbox: requests that Stripe would refuse never pass this module.

`stripe_schema/requests.json.gz` is cut from Stripe's OpenAPI specification (MIT, see LICENSE beside it). A form is
untyped, so values are first read as the type that the schema asks for; then the whole request is validated.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from stripe_sandbox import refusals
from stripe_sandbox.refusals import UnableToServe

Schema = Mapping[str, Any]
SPECIFICATION = Path(__file__).parent / "stripe_schema" / "requests.json.gz"
DEPTH_MAX = 8


@dataclass(frozen=True)
class Operation:
    """One method on one path of the specification."""

    method: str
    path: str
    schema: Schema

    @cached_property
    def validator(self) -> Draft7Validator:
        return Draft7Validator(self.schema)

    def read(self, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """The typed parameters of a form or query string. Raises UnableToServe (400) as Stripe would."""
        params = coerce(nest(pairs), self.schema)
        for error in self.validator.iter_errors(params):
            raise refusal(error)
        return dict(params)


def _closed(schema: Any) -> Any:
    """Stripe refuses unknown parameters at every depth; its specification says so only at the root."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: {name: _closed(one) for name, one in value.items()} if key == "properties" else _closed(value)
        for key, value in schema.items()
    }
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def _operation(method: str, path: str, described: Schema) -> Operation:
    query = [one for one in described["parameters"] if one["in"] == "query"]
    if method == "get":
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {one["name"]: one["schema"] for one in query},
            "required": [one["name"] for one in query if one.get("required")],
        }
    else:
        content = described["requestBody"]["content"]
        schema = next(iter(content.values()))["schema"] if content else {"type": "object", "properties": {}}
    # The specification in hand is older than the SDK, which may name its own, newer version.
    schema.get("properties", {}).get("api_version", {}).pop("enum", None)
    return Operation(method.upper(), path, _closed(schema))


@lru_cache(maxsize=1)
def operations() -> dict[tuple[str, str], Operation]:
    """Every operation that is served, by method and the path as the specification writes it."""
    specification = json.loads(gzip.decompress(SPECIFICATION.read_bytes()))
    return {
        (method.upper(), path): _operation(method, path, described)
        for path, methods in specification["paths"].items()
        for method, described in methods.items()
    }


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    paths = sorted({path for _, path in operations()}, key=lambda path: (path.count("{"), path))
    return [(re.compile("^" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + "$"), path) for path in paths]


def find(method: str, path: str) -> tuple[Operation, dict[str, str]]:
    """Find the operation of a concrete path, and the parameters in the path. Raises UnableToServe (404)."""
    for pattern, template in _patterns():
        if (matched := pattern.match(path)) and (operation := operations().get((method, template))):
            return operation, matched.groupdict()
    raise refusals.no_such_url(method, path)


def nest(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Nest `a[b][0]=c` as {"a": {"b": ["c"]}}; `a[]=c` appends. Raises UnableToServe when too deep or contradictory."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        head, keys = name.split("[", 1)[0], re.findall(r"\[([^\]]*)\]", name)
        if len(keys) > DEPTH_MAX:
            raise refusals.unknown_parameter(name[:100])
        place = root
        *outer, last = [head, *keys]
        for key in outer:
            below = place.setdefault(key or str(len(place)), {})
            if not isinstance(below, dict):
                raise UnableToServe(f"Invalid hash: {head} was given both a value and keys", param=head)
            place = below
        place[last or str(len(place))] = value
    return {name: _lists(value) for name, value in root.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(key.isdecimal() for key in value):
        return [_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _lists(one) for key, one in value.items()}


# Schemas live as long as the process, so their identity is a sound key.
_validators: dict[int, Draft7Validator] = {}


def _fits(value: Any, schema: Schema) -> bool:
    validator = _validators.get(id(schema)) or _validators.setdefault(id(schema), Draft7Validator(schema))
    return bool(validator.is_valid(value))


def coerce(value: Any, schema: Schema) -> Any:
    """Read the strings in `value` as the types of the schema. Unreadable ones stay unchanged and fail validation."""
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            read = coerce(value, option)
            if _fits(read, option):
                return read
        return value
    if isinstance(value, str):
        return _scalar(value, schema.get("type"))
    if isinstance(value, dict) and schema.get("type") == "object":
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        return {
            key: coerce(one, properties.get(key) or (others if isinstance(others, dict) else {}))
            for key, one in value.items()
        }
    if isinstance(value, list) and schema.get("type") == "array":
        return [coerce(one, schema["items"]) for one in value]
    if isinstance(value, list) and schema.get("type") == "object":
        # Keys that are all digits (metadata[0]=x) are names here, and no list.
        return coerce({str(index): one for index, one in enumerate(value)}, schema)
    return value


def _scalar(value: str, wanted: str | None) -> Any:
    if wanted == "integer" and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if wanted == "number" and re.fullmatch(r"-?\d{1,18}(\.\d+)?", value):
        return float(value)
    if wanted == "boolean" and value in {"true", "false"}:
        return value == "true"
    return value


def refusal(error: ValidationError) -> UnableToServe:
    """Build Stripe's answer to a request that its schema does not allow."""
    path = [str(part) for part in error.absolute_path]
    name = path[0] + "".join(f"[{part}]" for part in path[1:]) if path else ""
    inside = f"{name}[{{}}]" if name else "{}"
    match error.validator:
        case "additionalProperties":
            unknown = sorted(set(error.instance) - set(error.schema.get("properties", {})))
            return refusals.unknown_parameter(inside.format(unknown[0]))
        case "required":
            missing = [one for one in error.validator_value if one not in error.instance]
            return refusals.missing_parameter(inside.format(missing[0]))
        case "type" if error.validator_value == "integer":
            return refusals.invalid_integer(name, error.instance)
        case "type":
            return UnableToServe(f"Invalid {error.validator_value}: {name} is of another type", param=name)
        case "enum":
            allowed = ", ".join(str(one) for one in error.validator_value[:40] if one)
            return UnableToServe(f"Invalid {name}: must be one of {allowed}", param=name)
        case "maxLength":
            return UnableToServe(f"Invalid string: must be at most {error.validator_value} characters", param=name)
        case _:
            return UnableToServe(f"Invalid {name or 'request'}: {error.message[:200]}", param=name)
