"""The API's reference as a page: the OpenAPI document, written out by the server for people. No script, no CDN."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator

from attribution.api.problems import PROBLEMS

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: str
    is_required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as the page shows it."""

    method: str
    path: str
    anchor: str
    summary: str
    description: str
    parameters: list[Field]
    fields: list[Field]
    responses: list[tuple[str, str]]


def reference(request: HttpRequest) -> HttpResponse:
    return render(request, "public/api.html", {"operations": _operations(), "problems": sorted(PROBLEMS.items())})


@functools.cache
def _operations() -> list[Operation]:
    document: Mapping[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    schemas = document.get("components", {}).get("schemas", {})
    return [
        _operation(method, path, described, schemas)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
        if method in METHODS
    ]


def _operation(method: str, path: str, described: Mapping[str, Any], schemas: Mapping[str, Any]) -> Operation:
    body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    parameters = [
        Field(
            given["name"], _kind(given["schema"], schemas), given.get("required", False), given.get("description", "")
        )
        for given in described.get("parameters", [])
    ]
    responses = [(status, answer.get("description", "")) for status, answer in sorted(described["responses"].items())]
    return Operation(
        method=method.upper(),
        path=path,
        anchor=described["operationId"],
        summary=described.get("summary", described["operationId"]),
        description=described.get("description", ""),
        parameters=parameters,
        fields=_fields(body, schemas) if body else [],
        responses=responses,
    )


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any], prefix: str = "") -> list[Field]:
    """Every field of a body, nested ones by their path: `generations[].output.text`."""
    schema = _resolved(schema, schemas)
    if schema.get("type") == "array":
        return _fields(schema["items"], schemas, f"{prefix}[]")
    found: list[Field] = []
    for name, inner in schema.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        required = name in schema.get("required", ())
        found.append(Field(path, _kind(inner, schemas), required, inner.get("description", "")))
        found.extend(_fields(inner, schemas, path))
    return found


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    schema = _resolved(schema, schemas)
    kind = schema.get("type", "value")
    kind = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    for wrapper in ("allOf", "oneOf", "anyOf"):
        if wrapper in schema:
            return _resolved(schema[wrapper][0], schemas)
    reference = schema.get("$ref")
    return _resolved(schemas[reference.rsplit("/", 1)[1]], schemas) if reference else schema
