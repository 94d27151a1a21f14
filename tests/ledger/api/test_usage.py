"""A service reads its usage, its balance and its invoices: its own alone, exact, and as the books say."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from attribution.operations import model_services
from ledger.money import format_amount
from ledger.operations import corrections, verbs
from tests.worlds.programme import AT, Programme

pytestmark = pytest.mark.django_db
CENT = 10_000_000


def read(programme: Programme, path: str, *, service: int = 0, scopes: tuple[str, ...] = ("usage:read",)) -> Any:
    key = model_services.issue_key(service=programme.services[service], scopes=list(scopes), at=timezone.now())[1]
    return programme.api.get(path, headers={"Authorization": f"Bearer {key}"})


def test_usage_counts_each_generation_once_with_its_charge(accrued: Programme) -> None:
    unread = accrued.generate(2)
    voided = accrued.generations[0]
    corrections.void_generation(generation=voided, reason="refunded", detail="", at=AT)
    rows = read(accrued, "/api/v1/usage?month=2026-10").json()["results"]
    found = {(row["state"], row["currency"]): (row["generations"], row["accrued"]) for row in rows}
    assert found[("received", None)] == (len(unread), "0")
    assert found[("voided", None)] == (1, "0")
    price = accrued.plan.price if accrued.plan is not None else 0
    assert price is not None
    assert found[("accrued", "USD")] == (29, format_amount(29 * price, "USD"))
    assert read(accrued, "/api/v1/usage?month=2026-10", service=1).json()["results"] == []
    assert read(accrued, "/api/v1/usage?month=2026-09").json()["results"] == []


def test_the_table_holds_the_same_rows_for_a_spreadsheet(accrued: Programme) -> None:
    answer = read(accrued, "/api/v1/usage.csv?month=2026-10")
    assert answer["Content-Disposition"] == 'attachment; filename="usage-2026-10.csv"'
    (row,) = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig")))
    (same,) = read(accrued, "/api/v1/usage?month=2026-10").json()["results"]
    assert row == {name: str(value) for name, value in same.items()}


@pytest.mark.parametrize("month", ["", "2026", "2026-13", "2026-10-01", "10/2026", "２０２６-10"])
def test_a_month_that_is_none_is_refused_in_words(accrued: Programme, month: str) -> None:
    answer = read(accrued, f"/api/v1/usage?month={month}")
    assert answer.status_code == 400
    assert "YYYY-MM" in answer.json()["detail"]


def test_the_balance_follows_prepayment_use_invoice_and_payment(accrued: Programme) -> None:
    service = accrued.services[0]
    used = 30 * 50_000_000
    steps: list[tuple[str, dict[str, Any], tuple[int, int, int]]] = [
        ("prefund_service", {"amount": 100 * CENT, "reference": "wire 1"}, (100 * CENT, used, 0)),
        ("invoice_service", {"reference": "INV-1"}, (100 * CENT, 0, used)),
        ("apply_deposit", {"reference": "INV-1"}, (0, 0, used - 100 * CENT)),
        ("collect", {"amount": used - 100 * CENT, "reference": "wire 2"}, (0, 0, 0)),
    ]
    for place, (verb, facts, expected) in enumerate(steps):
        verbs.post_verb(verb=verb, service=service, currency="USD", at=AT + timedelta(minutes=place), **facts)
        (row,) = read(accrued, "/api/v1/balance").json()["results"]
        deposit, unbilled, receivable = expected
        assert (row["deposit"], row["unbilled"], row["receivable"]) == tuple(
            format_amount(units, "USD") for units in expected
        )
        assert row["available"] == format_amount(deposit - unbilled - receivable, "USD")
    bills = read(accrued, "/api/v1/invoices").json()
    assert [row["kind"] for row in bills["results"]] == ["collect", "apply_deposit", "invoice_service"]
    assert bills["results"][0]["open_after"] == format_amount(0, "USD")
    assert bills["next"] is None
    assert set(bills["issuer"]) == {"legal_name", "address", "country", "tax_number"}
    assert bills["issuer"]["legal_name"]
    assert read(accrued, "/api/v1/balance", service=1).json()["results"] == []
    assert read(accrued, "/api/v1/invoices", service=1).json()["results"] == []


@pytest.mark.parametrize("path", ["usage?month=2026-10", "usage.csv?month=2026-10", "balance", "invoices"])
def test_money_takes_its_own_scope(accrued: Programme, path: str) -> None:
    answer = read(accrued, f"/api/v1/{path}", scopes=("generations:read",))
    assert answer.status_code == 403
    assert answer.json()["scope"] == "usage:read"
