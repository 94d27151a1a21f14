"""A service's usage by month, its balance and its invoices, as JSON and CSV."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from attribution.api.authentication import HasScope, service_of
from attribution.api.problems import problem_responses
from attribution.models import ServiceKey
from ledger.money import format_amount
from ledger.queries import usage
from people.presentation import csv
from people.queries.programme import programme

PAGE = 100
_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")
MONTH = OpenApiParameter("month", str, required=True, description="YYYY-MM, in UTC.", pattern=_MONTH.pattern)


class UnableToReadMonth(Exception):
    """The month has not the form YYYY-MM."""

    status = 400
    problem = "invalid-month"


class UsageRowSerializer(serializers.Serializer[Any]):
    model_version = serializers.CharField()
    state = serializers.CharField(help_text="The state of these generations now, as on their receipts.")
    generations = serializers.IntegerField()
    currency = serializers.CharField(allow_null=True, help_text="Null where nothing was charged.")
    accrued = serializers.CharField(help_text="The sum charged for them, exact.")


class UsageSerializer(serializers.Serializer[Any]):
    month = serializers.CharField()
    results = UsageRowSerializer(many=True)


class BalanceRowSerializer(serializers.Serializer[Any]):
    currency = serializers.CharField()
    deposit = serializers.CharField(help_text="Paid in advance and not used by an invoice.")
    unbilled = serializers.CharField(help_text="Accrued and not invoiced yet.")
    receivable = serializers.CharField(help_text="Invoiced and not paid yet.")
    available = serializers.CharField(help_text="The deposit less unbilled and receivable; negative where you owe.")


class BalanceSerializer(serializers.Serializer[Any]):
    results = BalanceRowSerializer(many=True)


class InvoiceRowSerializer(serializers.Serializer[Any]):
    entry = serializers.IntegerField()
    kind = serializers.CharField()
    reference = serializers.CharField(help_text="The invoice's number, or the reference of the payment.")
    posted_at = serializers.DateTimeField()
    currency = serializers.CharField()
    amount = serializers.CharField(help_text="Positive: invoiced. Negative: paid, settled or written off.")
    open_after = serializers.CharField(help_text="Owed on invoices after this movement.")


class IssuerSerializer(serializers.Serializer[Any]):
    legal_name = serializers.CharField(help_text="The programme's legal entity.")
    address = serializers.ListField(child=serializers.CharField(), help_text="Its lines; empty where none is entered.")
    country = serializers.CharField(help_text="ISO 3166; empty where none is entered.")
    tax_number = serializers.CharField(help_text="Empty where none is entered.")


class InvoicesSerializer(serializers.Serializer[Any]):
    issuer = IssuerSerializer()
    results = InvoiceRowSerializer(many=True)
    next = serializers.CharField(allow_null=True)


def _span(request: Request) -> tuple[str, datetime, datetime]:
    given = request.query_params.get("month", "")
    found = _MONTH.fullmatch(given)
    if found is None:
        raise UnableToReadMonth(f"month: name it as YYYY-MM, such as {timezone.now():%Y-%m}; not {given[:20]!r}.")
    year, month = int(found[1]), int(found[2])
    return (
        given,
        datetime(year, month, 1, tzinfo=UTC),
        datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC),
    )


def _rows(request: Request) -> tuple[str, list[dict[str, Any]]]:
    month, since, before = _span(request)
    found = usage.usage(service_of(request).pk, since=since, before=before)
    return month, [
        {
            "model_version": row.model_version,
            "state": row.state,
            "generations": row.generations,
            "currency": row.currency or None,
            "accrued": format_amount(row.accrued, row.currency) if row.currency else "0",
        }
        for row in found
    ]


class UsageView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": ServiceKey.Scope.USAGE_READ.value}

    @extend_schema(
        operation_id="read_usage",
        summary="Read the usage of a month",
        description="Your generations of a month by model version, state and currency. Needs the scope `usage:read`.",
        tags=["money"],
        parameters=[MONTH],
        responses={200: UsageSerializer, **problem_responses(400)},
    )
    def get(self, request: Request) -> Response:
        month, rows = _rows(request)
        return Response({"month": month, "results": rows})


class UsageCsvView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": ServiceKey.Scope.USAGE_READ.value}

    @extend_schema(
        operation_id="download_usage",
        summary="Read the usage of a month as CSV",
        description="The rows of `GET /api/v1/usage`, for a spreadsheet. Needs the scope `usage:read`.",
        tags=["money"],
        parameters=[MONTH],
        responses={(200, "text/csv"): OpenApiResponse(str, "The table."), **problem_responses(400)},
    )
    def get(self, request: Request) -> HttpResponse:
        month, rows = _rows(request)
        columns = ("model_version", "state", "generations", "currency", "accrued")
        table = csv.text_parts(columns, ([row[name] for name in columns] for row in rows))
        name = f"usage-{month}.csv"
        return HttpResponse(
            "".join(table),
            content_type=csv.CONTENT_TYPE,
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


class BalanceView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": ServiceKey.Scope.USAGE_READ.value}

    @extend_schema(
        operation_id="read_balance",
        summary="Read your balance",
        description="Deposit, unbilled and receivable by currency, exact. Needs the scope `usage:read`.",
        tags=["money"],
        responses={200: BalanceSerializer, **problem_responses()},
    )
    def get(self, request: Request) -> Response:
        names = ("deposit", "unbilled", "receivable", "available")
        return Response(
            {
                "results": [
                    {
                        "currency": row.currency,
                        **{name: format_amount(getattr(row, name), row.currency) for name in names},
                    }
                    for row in usage.service_balances(service_of(request).pk)
                ]
            }
        )


class InvoicesView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": ServiceKey.Scope.USAGE_READ.value}

    @extend_schema(
        operation_id="list_invoices",
        summary="List invoices and payments",
        description=f"Up to {PAGE} movements a page, the newest first. Needs the scope `usage:read`.",
        tags=["money"],
        parameters=[OpenApiParameter("cursor", int, description="From `next` of the page before.")],
        responses={200: InvoicesSerializer, **problem_responses(400)},
    )
    def get(self, request: Request) -> Response:
        cursor = request.query_params.get("cursor")
        if cursor is not None and (not re.fullmatch(r"[0-9]{1,18}", cursor)):
            raise ValidationError("cursor: take it from `next` of the page before.")
        before = int(cursor) if cursor else None
        rows = list(usage.bills(service_of(request).pk, before_entry=before, limit=PAGE + 1))
        following = f"{request.path}?cursor={rows[PAGE - 1].entry_id}" if len(rows) > PAGE else None
        issuer = programme()
        return Response(
            {
                "issuer": {
                    "legal_name": issuer.payer,
                    "address": issuer.address_lines,
                    "country": issuer.country,
                    "tax_number": issuer.tax_number,
                },
                "results": [
                    {
                        "entry": row.entry_id,
                        "kind": row.kind,
                        "reference": row.reference,
                        "posted_at": row.posted_at,
                        "currency": row.currency,
                        "amount": format_amount(row.amount, row.currency),
                        "open_after": format_amount(row.open_after, row.currency),
                    }
                    for row in rows[:PAGE]
                ],
                "next": following,
            }
        )
