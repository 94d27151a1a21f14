"""All pages of the product, found from the URLconf: their addresses, filled from the links of other pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.urls import Resolver404, URLPattern, URLResolver, get_resolver, resolve

# Calls of programs, checks of the installation, and the tables that Django's own admin draws.
NOT_OURS = ("api/v1/", "webhooks/", "console/tables/", "livez", "readyz", "metrics")


@dataclass(frozen=True)
class Pattern:
    """A named address of the URLconf that a browser may ask for."""

    name: str
    route: str
    has_parameters: bool


def patterns() -> dict[str, Pattern]:
    """Every named address that answers GET and may be a page, by its full name."""
    return {
        found.name: found
        for found, view in _walk(get_resolver().url_patterns, "", "")
        if not found.route.startswith(NOT_OURS) and _accepts_get(view)
    } | {"attribution:reference": Pattern("attribution:reference", "api/v1/docs", False)}


def _walk(found: list[Any], prefix: str, space: str) -> Iterator[tuple[Pattern, Callable[..., Any]]]:
    for pattern in found:
        route = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$")
        if isinstance(pattern, URLResolver):
            inner = f"{space}{pattern.namespace}:" if pattern.namespace else space
            yield from _walk(pattern.url_patterns, route, inner)
        elif isinstance(pattern, URLPattern) and pattern.name:
            has_parameters = bool(pattern.pattern.converters) or "(?P<" in route
            yield Pattern(f"{space}{pattern.name}", route, has_parameters), pattern.callback


def _accepts_get(view: Any) -> bool:
    """Whether the decorators of a view let GET through; a view without any lets everything through."""
    while view is not None:
        for cell in view.__closure__ or ():
            methods = cell.cell_contents
            if isinstance(methods, list | tuple) and methods and set(methods) <= {"GET", "HEAD", "POST"}:
                return "GET" in methods
        view = getattr(view, "__wrapped__", None)
    return True


def name_of(address: str) -> str | None:
    """Name the pattern that answers at a path; None for an address of another site or of no page."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path.startswith("/"):
        return None
    try:
        return resolve(parts.path).view_name
    except Resolver404:
        return None
