"""Voids of generations by the service that reported them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from attribution.api.authentication import service_of
from attribution.api.problems import StrictSerializer, WritingView, problem_responses
from attribution.models import Generation, ServiceKey
from ledger.api.receipts import EntrySerializer
from ledger.models import Void
from ledger.operations import corrections
from ledger.queries import receipt


class VoidSerializer(StrictSerializer):
    reason = serializers.ChoiceField(Void.Reason.choices, help_text="Why the generation is voided.")
    detail = serializers.CharField(
        max_length=300, required=False, allow_blank=True, help_text="In your own words; it stands on receipts."
    )


class VoidedSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(["voided"])
    reason = serializers.ChoiceField(Void.Reason.choices)
    detail = serializers.CharField()
    voided_at = serializers.DateTimeField()
    entry = EntrySerializer(allow_null=True, help_text="The reversal; null where nothing had been accrued.")


class UnableToReadVoid(Exception):
    """The body differs from the documented form."""

    status = 422
    problem = "invalid-field"


class VoidView(WritingView):
    throttle_scope = "report"
    scopes = {"POST": ServiceKey.Scope.GENERATIONS_WRITE.value}

    @extend_schema(
        operation_id="void_generation",
        summary="Void a generation",
        description=(
            "Take back a generation of this service that was a test, was refunded, or was reported by mistake. It "
            "earns nothing from then on: before it is accrued it never will be; afterwards its earnings are "
            "reversed, also when its month is closed or its contributors are paid: then it is recovered from "
            "their later earnings. "
            "The same request again answers as before; another reason is a conflict. It cannot be undone: report the "
            "generation again under another external id. Needs the scope `generations:write`."
        ),
        tags=["generations"],
        parameters=[OpenApiParameter("generation_id", uuid.UUID, OpenApiParameter.PATH)],
        request=VoidSerializer,
        responses={200: VoidedSerializer, **problem_responses(400, 404, 409, 413, 415, 422)},
        examples=[
            OpenApiExample("Refunded", request_only=True, value={"reason": "refunded", "detail": "Order 1234"}),
        ],
    )
    def post(self, request: Request, generation_id: uuid.UUID) -> Response:
        reason, detail = _void_of(request.data)
        generation = Generation.objects.filter(pk=generation_id, service=service_of(request)).first()
        if generation is None:
            raise NotFound("This service has no such generation.")
        void = corrections.void_generation(generation=generation, reason=reason, detail=detail, at=timezone.now())
        found = receipt.receipt_for_service(generation_id, generation.service_id)
        assert found is not None
        entry = found.standing.taken_back
        return Response(
            {
                "id": str(generation_id),
                "state": "voided",
                "reason": void.reason,
                "detail": void.detail,
                "voided_at": void.voided_at,
                "entry": (
                    {"id": entry.pk, "hash": bytes(entry.hash).hex(), "period": entry.period.code} if entry else None
                ),
            }
        )


def _void_of(body: Any) -> tuple[str, str]:
    if not isinstance(body, Mapping) or "reason" not in body or set(body) - {"reason", "detail"}:
        raise UnableToReadVoid('The body must be {"reason": "test", "detail": "..."}; the detail may be left out.')
    reason, detail = body["reason"], body.get("detail", "")
    if not isinstance(reason, str) or not isinstance(detail, str):
        raise UnableToReadVoid("reason and detail are texts.")
    try:
        detail.encode()
    except UnicodeEncodeError:
        raise UnableToReadVoid("The detail cannot be stored as UTF-8.") from None
    return reason, detail
