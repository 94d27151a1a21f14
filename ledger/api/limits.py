"""The limits of a service's charges in a month: read, set and removed by the service."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from attribution.api.authentication import HasScope, service_of
from attribution.api.fields import read_body
from attribution.api.problems import StrictSerializer, WritingView, problem_responses
from attribution.models import ServiceKey
from ledger.models import SpendLimit
from ledger.money import ASSETS, format_amount
from ledger.operations import limits
from ledger.queries.limits import LimitOfMonth, limits_of

READ, WRITE = ServiceKey.Scope.USAGE_READ.value, ServiceKey.Scope.LIMITS_WRITE.value
CURRENCY = OpenApiParameter("currency", str, OpenApiParameter.PATH, enum=list(ASSETS), description="ISO 4217.")


class LimitSerializer(serializers.Serializer[Any]):
    currency = serializers.CharField()
    limit = serializers.CharField()
    thresholds = serializers.ListField(child=serializers.IntegerField(), help_text="Per cent; 100 is always one.")
    at_limit = serializers.ChoiceField(
        SpendLimit.AtLimit.choices, help_text="`refuse`: new reports get the problem limit-reached."
    )
    contacts = serializers.ListField(child=serializers.CharField())
    month = serializers.CharField(help_text="This month, YYYY-MM, in UTC.")
    accrued = serializers.CharField(help_text="Charged in it so far.")
    alerted = serializers.ListField(child=serializers.IntegerField(), help_text="Thresholds told in this month.")
    refuses = serializers.BooleanField(help_text="Whether new reports in this currency are refused now.")


class LimitsSerializer(serializers.Serializer[Any]):
    results = LimitSerializer(many=True)


class NewLimitSerializer(StrictSerializer):
    limit = serializers.RegexField(
        r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$", help_text='More than zero, as a decimal string: "250.00".'
    )
    thresholds = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=100),
        required=False,
        max_length=limits.THRESHOLDS_MAX,
        help_text="Per cent of the limit; by default 50, 80 and 100.",
    )
    at_limit = serializers.ChoiceField(SpendLimit.AtLimit.choices, required=False, help_text="By default `alert`.")
    contacts = serializers.ListField(
        child=serializers.EmailField(max_length=254),
        required=False,
        max_length=limits.CONTACTS_MAX,
        help_text="Addresses that get the alerts, beside the programme's finance.",
    )


class LimitsView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": READ}

    @extend_schema(
        operation_id="list_limits",
        summary="Read your limits",
        description="The limits of a month's charges, with the charges so far. Needs the scope `usage:read`.",
        tags=["money"],
        responses={200: LimitsSerializer, **problem_responses()},
    )
    def get(self, request: Request) -> Response:
        found = limits_of(service_of(request), at=timezone.now())
        return Response({"results": [_as_json(row) for row in found]})


class LimitView(WritingView):
    throttle_scope = "models"
    scopes = {"PUT": WRITE, "DELETE": WRITE}

    @extend_schema(
        operation_id="set_limit",
        summary="Set a limit",
        description=(
            "Each threshold is told once a month: by mail to your contacts and to finance, and by the webhook "
            "`limit.threshold`. A limit counts charges as they are accrued, some time after the report. With `refuse`, "
            "reports that are accepted until then are charged, so that a month may end above its limit. A higher limit "
            "opens the way at once. Needs the scope `limits:write`."
        ),
        tags=["money"],
        parameters=[CURRENCY],
        request=NewLimitSerializer,
        responses={200: LimitSerializer, **problem_responses(400, 413, 415, 422)},
        examples=[
            OpenApiExample(
                "Alerts at 50 and 90 per cent, then a stop",
                request_only=True,
                value={
                    "limit": "250.00",
                    "thresholds": [50, 90],
                    "at_limit": "refuse",
                    "contacts": ["billing@example.org"],
                },
            )
        ],
    )
    def put(self, request: Request, currency: str) -> Response:
        service, body, at = service_of(request), read_body(request, NewLimitSerializer), timezone.now()
        limits.set_limit(service=service, currency=currency, amount=body.pop("limit"), at=at, **body)
        (row,) = [each for each in limits_of(service, at=at) if each.limit.currency == currency]
        return Response(_as_json(row))

    @extend_schema(
        operation_id="remove_limit",
        summary="Remove a limit",
        description="Reports are taken again. Needs the scope `limits:write`.",
        tags=["money"],
        parameters=[CURRENCY],
        responses={204: None, **problem_responses(404)},
    )
    def delete(self, request: Request, currency: str) -> Response:
        limit = SpendLimit.objects.filter(service=service_of(request), currency=currency).first()
        if limit is None:
            raise NotFound("There is no limit in this currency.")
        limits.remove_limit(limit=limit, at=timezone.now())
        return Response(status=204)


def _as_json(row: LimitOfMonth) -> dict[str, Any]:
    limit = row.limit
    return {
        "currency": limit.currency,
        "limit": format_amount(limit.amount, limit.currency),
        "thresholds": limit.thresholds,
        "at_limit": limit.at_limit,
        "contacts": limit.contacts,
        "month": f"{row.month:%Y-%m}",
        "accrued": format_amount(row.spent, limit.currency),
        "alerted": list(row.told),
        "refuses": row.is_stopped,
    }
