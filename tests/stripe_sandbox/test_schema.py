"""The request schema in front of the sandbox: that it is Stripe's, and how a form is read by it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from stripe_sandbox import schema
from stripe_sandbox.refusals import UnableToServe
from stripe_sandbox.routes import ROUTES
from tests.stripe_specification import specification


def _without_words(described: Any, *, names: bool = False) -> Any:
    if isinstance(described, list):
        return [_without_words(one) for one in described]
    if not isinstance(described, dict):
        return described
    return {
        key: _without_words(value, names=key == "properties")
        for key, value in described.items()
        if names or key not in {"description", "encoding", "style", "explode"}
    }


def test_what_is_shipped_is_stripes_own_specification() -> None:
    shipped = json.loads(gzip.decompress(schema.SPECIFICATION.read_bytes()))
    whole = specification()
    assert shipped["info"]["version"] == whole["info"]["version"]
    for path, methods in shipped["paths"].items():
        for method, described in methods.items():
            origin = whole["paths"][path][method]
            assert described["parameters"] == _without_words(origin.get("parameters", [])), (method, path)
            if method != "get":
                content = _without_words(origin.get("requestBody", {"content": {}})["content"])
                assert described["requestBody"]["content"] == content, (method, path)
    assert "MIT License" in (schema.SPECIFICATION.parent / "LICENSE").read_text()


def test_every_operation_that_has_a_schema_is_served_and_no_other() -> None:
    assert set(schema.operations()) == set(ROUTES)


@pytest.mark.parametrize(
    ("form", "nested"),
    [
        ([("a", "1")], {"a": "1"}),
        ([("m[k]", "1"), ("m[l]", "2")], {"m": {"k": "1", "l": "2"}}),
        ([("e[0]", "x"), ("e[1]", "y")], {"e": ["x", "y"]}),
        ([("e[]", "x"), ("e[]", "y")], {"e": ["x", "y"]}),
        ([("a[b][0][c]", "1")], {"a": {"b": [{"c": "1"}]}}),
    ],
)
def test_a_form_with_brackets_is_read_as_it_was_meant(form: list[tuple[str, str]], nested: dict[str, Any]) -> None:
    assert schema.nest(form) == nested


def test_strings_become_what_the_schema_asks_for() -> None:
    operation, args = schema.find("POST", "/v1/webhook_endpoints")
    assert args == {}
    read = operation.read([("url", "http://127.0.0.1/"), ("connect", "true"), ("enabled_events[0]", "*")])
    assert read == {"url": "http://127.0.0.1/", "connect": True, "enabled_events": ["*"]}
    listed, _ = schema.find("GET", "/v1/transfers")
    assert listed.read([("created[gte]", "12"), ("limit", "3")]) == {"created": {"gte": 12}, "limit": 3}
    assert listed.read([("created", "12")]) == {"created": 12}


def test_metadata_keys_that_look_like_numbers_stay_names() -> None:
    operation, args = schema.find("POST", "/v1/transfers/tr_1")
    assert args == {"transfer": "tr_1"}
    assert operation.read([("metadata[0]", "a"), ("metadata[1]", "b")]) == {"metadata": {"0": "a", "1": "b"}}
    assert operation.read([("metadata", "")]) == {"metadata": ""}


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ([("amount", "1"), ("currency", "usd")], "destination"),
        ([("amount", "1e3"), ("currency", "usd"), ("destination", "acct_1")], "amount"),
        ([("amount", ""), ("currency", "usd"), ("destination", "acct_1")], "amount"),
        ([("amount[x]", "1"), ("currency", "usd"), ("destination", "acct_1")], "amount"),
        ([("amount", "9" * 30), ("currency", "usd"), ("destination", "acct_1")], "amount"),
        ([("currency", "usd"), ("destination", "acct_1"), ("metadata[a][b]", "1")], "metadata[a]"),
    ],
)
def test_a_form_that_does_not_fit_names_what_is_wrong(form: list[tuple[str, str]], param: str) -> None:
    operation, _ = schema.find("POST", "/v1/transfers")
    with pytest.raises(UnableToServe) as caught:
        operation.read(form)
    assert caught.value.param == param


def test_an_address_that_is_not_stripes_is_not_found() -> None:
    for method, path in (("POST", "/v1/balance"), ("GET", "/v1/unknown"), ("POST", "/v2/core/accounts")):
        with pytest.raises(UnableToServe) as caught:
            schema.find(method, path)
        assert caught.value.status == 404
