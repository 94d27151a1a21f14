"""Every act of staff writes a line of the audit log: each staff address that accepts a form reaches the log."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from people import actor

APPS = ("people", "contributors", "attribution", "ledger", "payouts", "config")
WRITERS = (actor.audit, actor.Actor, actor.logged)
# Staff addresses that accept a form and do nothing that stays, with the reason.
NO_ACT: dict[str, str] = {}


def staff_addresses() -> dict[str, Callable[..., Any]]:
    """The view of each address below console/ that accepts POST, by its full name."""
    return {
        name: view
        for name, route, view in _patterns(get_resolver().url_patterns, "", "")
        if route.lstrip("^").startswith("console/") and not route.startswith("console/tables/") and _accepts_post(view)
    }


def _patterns(patterns: list[Any], prefix: str, space: str) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{space}{pattern.namespace}:" if pattern.namespace else space
            yield from _patterns(pattern.url_patterns, route, inner)
        elif isinstance(pattern, URLPattern):
            yield f"{space}{pattern.name}", route, pattern.callback


def _accepts_post(view: Any) -> bool:
    """Whether the decorators of a view let POST through; a view without any lets everything through."""
    while view is not None:
        for cell in view.__closure__ or ():
            methods = cell.cell_contents
            if isinstance(methods, list | tuple) and methods and set(methods) <= {"GET", "HEAD", "POST"}:
                return "POST" in methods
        view = getattr(view, "__wrapped__", None)
    return True


def reaches_the_log(function: Any, seen: set[Any] | None = None) -> bool:
    """Whether a function of the product names the audit log, itself or through the functions that it names."""
    seen = set() if seen is None else seen
    layers = [function]
    while hasattr(layers[-1], "__wrapped__"):
        layers.append(layers[-1].__wrapped__)
    bare = layers[-1]
    if bare in seen:
        return False
    seen.add(bare)
    if any(layer.__qualname__.startswith("logged.") for layer in layers):
        return True
    tree = ast.parse(textwrap.dedent(inspect.getsource(bare)))
    for node in ast.walk(tree):
        named = _resolved(node, bare.__globals__)
        if any(named is writer for writer in WRITERS):
            return True
        if isinstance(named, FunctionType) and named.__module__.split(".")[0] in APPS and reaches_the_log(named, seen):
            return True
    return False


def _resolved(node: ast.AST, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = names.get(node.value.id)
        return getattr(module, node.attr, None) if isinstance(module, ModuleType) else None
    return None


def test_the_walk_finds_the_staff_addresses() -> None:
    assert {"ledger:close_period", "payouts:approve", "people:change_roles", "attribution:revoke_key"} <= set(
        staff_addresses()
    )
    assert "ledger:trial_balance" not in staff_addresses()


def test_a_function_that_logs_nothing_is_noticed() -> None:
    assert not reaches_the_log(importlib.import_module("ledger.queries.books").period)


@pytest.mark.parametrize("name", sorted(staff_addresses()))
def test_a_staff_address_that_takes_a_form_writes_a_line(name: str) -> None:
    assert name in NO_ACT or reaches_the_log(staff_addresses()[name])


def test_no_address_is_excused_that_is_gone() -> None:
    assert NO_ACT.keys() <= staff_addresses().keys()
