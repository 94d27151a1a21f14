"""The roots of sealed months and their chain, for anybody: a page and JSON, without an account.

A payee, an auditor or a newspaper that keeps a copy of them can tell later whether a month was changed.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from ledger import proof
from ledger.models import Period
from ledger.queries import books

SHORT_CACHE_SECONDS = 300


def _sealed() -> list[Period]:
    return list(books.sealed_periods())


@require_safe
@cache_control(public=True, max_age=SHORT_CACHE_SECONDS)
def roots(request: HttpRequest) -> HttpResponse:
    return render(request, "public/roots.html", {"periods": _sealed()[::-1], "no_root": proof.NO_ROOT})


@require_safe
@cache_control(public=True, max_age=SHORT_CACHE_SECONDS)
def roots_json(request: HttpRequest) -> JsonResponse:
    """Every sealed month, oldest first: root = sha256(previous || tree), each previous the root before it."""
    periods = [
        {
            "period": period.code,
            "tree": period.tree_hex,
            "previous": period.previous_hex,
            "root": period.root_hex,
            "sealed_at": period.sealed_at.isoformat() if period.sealed_at else None,
        }
        for period in _sealed()
    ]
    answer = JsonResponse(
        {"format": "tributary-roots-1", "rule": "root = sha256(previous || tree)", "periods": periods},
        json_dumps_params={"indent": 1},
    )
    # Anybody's page may read it: there is nothing in it that is not public.
    answer["Access-Control-Allow-Origin"] = "*"
    return answer
