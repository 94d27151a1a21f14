"""Webhook endpoints of a service: registered, listed, removed; their deliveries with every attempt, sent again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from attribution.api.authentication import HasScope, UnableToAct, principal_of, service_of
from attribution.api.problems import StrictSerializer, WritingView, problem_responses
from attribution.models import ServiceKey
from people.models import WebhookDelivery, WebhookEndpoint
from people.operations import webhooks
from people.queries.webhooks import deliveries_of, endpoint_of, endpoints_of

PAGE = 50
SCOPE = ServiceKey.Scope.WEBHOOKS_WRITE.value
# The scope that reads the contents of an event over the API.
READ_BY = {
    "receipts.accrued": ServiceKey.Scope.GENERATIONS_READ.value,
    "generations.unattributable": ServiceKey.Scope.GENERATIONS_READ.value,
    "index.evaluated": ServiceKey.Scope.GENERATIONS_READ.value,
    "consent.changed": ServiceKey.Scope.WORKS_READ.value,
    "work.withdrawn": ServiceKey.Scope.GENERATIONS_READ.value,
    "limit.threshold": ServiceKey.Scope.USAGE_READ.value,
}


class NewEndpointSerializer(StrictSerializer):
    url = serializers.CharField(max_length=500, help_text="An address that begins with https://.")
    events = serializers.ListField(
        child=serializers.ChoiceField(WebhookEndpoint.FOR_SERVICES), min_length=1, max_length=20
    )


class EndpointSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    url = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField())
    active = serializers.BooleanField()
    stopped_because = serializers.CharField(help_text="Empty while it is active.")
    waiting = serializers.IntegerField(help_text="Messages that wait to be sent.")
    failed = serializers.IntegerField(help_text="Messages with no try left; send them again.")
    created_at = serializers.DateTimeField()


class MadeEndpointSerializer(EndpointSerializer):
    secret = serializers.CharField(help_text="Signs the messages. No later answer shows it.")


class EndpointsSerializer(serializers.Serializer[Any]):
    results = EndpointSerializer(many=True)


class AttemptSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    status = serializers.IntegerField(allow_null=True)
    milliseconds = serializers.IntegerField()
    answer = serializers.CharField()


class DeliverySerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    message_id = serializers.UUIDField(help_text="The header webhook-id: the same at every try.")
    event = serializers.CharField()
    body = serializers.CharField(help_text="The signed text.")
    state = serializers.ChoiceField(WebhookDelivery.State.choices)
    tries = serializers.IntegerField()
    next_at = serializers.DateTimeField(allow_null=True)
    attempts = AttemptSerializer(many=True)


class DeliveriesSerializer(serializers.Serializer[Any]):
    results = DeliverySerializer(many=True)
    next = serializers.CharField(allow_null=True)


def owner_of(request: Request) -> str:
    return f"service:{service_of(request).pk}"


def _found(request: Request, public_id: UUID) -> WebhookEndpoint:
    endpoint = endpoint_of(owner_of(request), public_id)
    if endpoint is None:
        raise NotFound("This service has no such webhook endpoint.")
    return endpoint


class WebhookEndpointsView(WritingView):
    throttle_scope = "read"
    scopes = {"GET": SCOPE, "POST": SCOPE}

    @extend_schema(
        operation_id="list_webhook_endpoints",
        summary="List webhook endpoints",
        description="The service's endpoints, the newest first. Needs the scope `webhooks:write`.",
        tags=["webhooks"],
        responses={200: EndpointsSerializer, **problem_responses()},
    )
    def get(self, request: Request) -> Response:
        return Response({"results": [endpoint_as_json(endpoint) for endpoint in endpoints_of(owner_of(request))]})

    @extend_schema(
        operation_id="register_webhook_endpoint",
        summary="Register a webhook endpoint",
        description=(
            "Messages follow Standard Webhooks: the headers `webhook-id`, `webhook-timestamp` and `webhook-signature` "
            "(v1, HMAC-SHA256 with the secret). An answer 2xx within 10 seconds takes a message. Any other is tried "
            "again nine times over three days; then the endpoint is stopped, and its messages can be sent again. "
            "An answer 410 stops it at once. Needs the scope `webhooks:write`, and the scope that reads the events: "
            "`works:read` for consents, `generations:read` for all others."
        ),
        tags=["webhooks"],
        request=NewEndpointSerializer,
        responses={201: MadeEndpointSerializer, **problem_responses(400, 413, 415, 422)},
    )
    def post(self, request: Request) -> Response:
        url, events = _asked(request.data)
        for event in events:
            # A message tells no more than the same key could read.
            needed = READ_BY.get(event)
            if needed is not None and needed not in principal_of(request).scopes:
                raise UnableToAct(needed)
        endpoint, secret = webhooks.register_endpoint(
            owner=owner_of(request), url=url, events=events, at=timezone.now()
        )
        return Response({**endpoint_as_json(endpoint), "secret": secret}, status=201)


def _asked(body: Any) -> tuple[str, list[str]]:
    """Read the body by hand, so that each refusal names its field."""
    if not isinstance(body, dict):
        raise webhooks.UnableToRegisterEndpoint('The body must be {"url": "https://...", "events": [...]}.')
    if unknown := sorted(set(body) - {"url", "events"}):
        raise webhooks.UnableToRegisterEndpoint(f"There is no field {unknown[0]}; there are url and events.")
    url, events = body.get("url"), body.get("events")
    if not isinstance(url, str):
        raise webhooks.UnableToRegisterEndpoint("url: name the address as a text.")
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise webhooks.UnableToRegisterEndpoint("events: name the events as a list of texts.")
    return url, events


class WebhookEndpointView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": SCOPE, "DELETE": SCOPE}

    @extend_schema(
        operation_id="read_webhook_endpoint",
        summary="Read a webhook endpoint",
        tags=["webhooks"],
        responses={200: EndpointSerializer, **problem_responses(404)},
    )
    def get(self, request: Request, public_id: UUID) -> Response:
        return Response(endpoint_as_json(_found(request, public_id)))

    @extend_schema(
        operation_id="remove_webhook_endpoint",
        summary="Remove a webhook endpoint",
        description="Messages that wait for it are given up.",
        tags=["webhooks"],
        responses={204: None, **problem_responses(404)},
    )
    def delete(self, request: Request, public_id: UUID) -> Response:
        webhooks.remove_endpoint(endpoint=_found(request, public_id), at=timezone.now())
        return Response(status=204)


class WebhookSecretView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="rotate_webhook_secret",
        summary="Replace the secret of a webhook endpoint",
        description="For a day messages carry the signatures of both secrets.",
        tags=["webhooks"],
        request=None,
        responses={200: MadeEndpointSerializer, **problem_responses(404)},
    )
    def post(self, request: Request, public_id: UUID) -> Response:
        endpoint = _found(request, public_id)
        secret = webhooks.rotate_secret(endpoint=endpoint, at=timezone.now())
        return Response({**endpoint_as_json(endpoint), "secret": secret})


class WebhookResumeView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="resume_webhook_endpoint",
        summary="Resume a stopped webhook endpoint",
        description="New messages are sent again; failed ones are sent by a replay of each.",
        tags=["webhooks"],
        request=None,
        responses={200: EndpointSerializer, **problem_responses(404)},
    )
    def post(self, request: Request, public_id: UUID) -> Response:
        webhooks.resume_endpoint(endpoint=_found(request, public_id), at=timezone.now())
        return Response(endpoint_as_json(_found(request, public_id)))


class WebhookDeliveriesView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": SCOPE}

    @extend_schema(
        operation_id="list_webhook_deliveries",
        summary="List the deliveries of a webhook endpoint",
        description=f"Up to {PAGE} a page, the newest first, each with every attempt. They are kept for 30 days.",
        tags=["webhooks"],
        parameters=[OpenApiParameter("cursor", int, description="From `next` of the page before.")],
        responses={200: DeliveriesSerializer, **problem_responses(400, 404)},
    )
    def get(self, request: Request, public_id: UUID) -> Response:
        endpoint = _found(request, public_id)
        cursor = request.query_params.get("cursor")
        if cursor is not None and (not cursor.isdecimal() or int(cursor) >= 2**63):
            raise ValidationError("cursor: take it from `next` of the page before.")
        rows = list(deliveries_of(endpoint, before=int(cursor) if cursor else None)[: PAGE + 1])
        address = reverse("attribution:webhook_deliveries", args=[public_id])
        following = f"{address}?cursor={rows[PAGE - 1].pk}" if len(rows) > PAGE else None
        return Response({"results": [_delivery_as_json(row) for row in rows[:PAGE]], "next": following})


class WebhookReplayView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="replay_webhook_delivery",
        summary="Send a message again",
        description="With the same id and body. Delivered messages can be sent again, too.",
        tags=["webhooks"],
        request=None,
        responses={202: DeliverySerializer, **problem_responses(404, 409)},
    )
    def post(self, request: Request, public_id: UUID, delivery_id: UUID) -> Response:
        endpoint = _found(request, public_id)
        delivery = deliveries_of(endpoint).filter(public_id=delivery_id).first()
        if delivery is None:
            raise NotFound("This endpoint has no such delivery.")
        webhooks.replay(delivery=delivery, at=timezone.now())
        return Response(_delivery_as_json(deliveries_of(endpoint).get(pk=delivery.pk)), status=202)


def endpoint_as_json(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": endpoint.public_id,
        "url": endpoint.url,
        "events": endpoint.events,
        "active": endpoint.is_active,
        "stopped_because": endpoint.stopped_because,
        "waiting": getattr(endpoint, "waiting", 0),
        "failed": getattr(endpoint, "failed", 0),
        "created_at": endpoint.created_at,
    }


def _delivery_as_json(delivery: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": delivery.public_id,
        "message_id": delivery.message.public_id,
        "event": delivery.message.event,
        "body": delivery.message.body,
        "state": delivery.state,
        "tries": delivery.tries,
        "next_at": delivery.next_at if delivery.state == WebhookDelivery.State.PENDING else None,
        "attempts": [
            {"at": row.at, "status": row.status, "milliseconds": row.milliseconds, "answer": row.answer}
            for row in delivery.attempts.all()
        ],
    }
