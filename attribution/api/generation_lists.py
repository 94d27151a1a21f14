"""The list of a service's own generations, and the way from an external id to the id of a receipt."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from attribution.api.authentication import service_of
from attribution.api.cursors import PARAMETERS, UnableToPage, address_after, after_id_of, limit_of, moment_of
from attribution.api.problems import WritingView, problem_responses
from attribution.models import Generation, ModelService, ModelVersion, ServiceKey
from attribution.operations.candidates import EXTERNAL_ID_CHARACTERS_MAX, MODEL_VERSION_CHARACTERS_MAX
from attribution.queries.generations import generations_of


class ListedGenerationSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="By which the receipt is read.")
    external_id = serializers.CharField()
    model_version = serializers.CharField(source="model_version.name")
    modality = serializers.ChoiceField(Generation.Modality.choices, help_text="The kind of its output.")
    occurred_at = serializers.DateTimeField()
    received_at = serializers.DateTimeField()
    state = serializers.ChoiceField(
        Generation.State.choices,
        help_text="Of its attribution. The receipt tells whether it was accrued, refused or voided since.",
    )
    reason = serializers.CharField(source="error", help_text='Why it is unattributable; else "".')


class GenerationListSerializer(serializers.Serializer[Any]):
    results = ListedGenerationSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class GenerationListView(WritingView):
    scopes = {"GET": ServiceKey.Scope.GENERATIONS_READ.value}

    @property
    def throttle_scope(self) -> str:
        """Count reads with reads, so that a list takes nothing from the reports."""
        is_report = self.request is not None and self.request.method == "POST"
        return "report" if is_report else "read"

    def get_renderers(self) -> list[BaseRenderer]:
        """Write lists as all other lists; the quick renderer is for the answers to reports."""
        is_list = self.request is not None and self.request.method in ("GET", "HEAD")
        return [JSONRenderer()] if is_list else super().get_renderers()

    @extend_schema(
        operation_id="list_generations",
        summary="List generations",
        description=(
            "The service's own, the last reported first. With `external_id` it is the one of this id, or none. Needs "
            "the scope `generations:read`."
        ),
        tags=["generations"],
        parameters=[
            OpenApiParameter(
                "external_id",
                {"type": "string", "minLength": 1, "maxLength": EXTERNAL_ID_CHARACTERS_MAX},
                description="The service's own id of a generation.",
            ),
            OpenApiParameter("state", str, enum=Generation.State.values),
            OpenApiParameter(
                "model_version",
                {"type": "string", "minLength": 1, "maxLength": MODEL_VERSION_CHARACTERS_MAX},
                description="The name of a model version of the service.",
            ),
            OpenApiParameter("since", datetime, description="`occurred_at` from this moment on."),
            OpenApiParameter("until", datetime, description="`occurred_at` before this moment."),
            *PARAMETERS,
        ],
        responses={200: GenerationListSerializer, **problem_responses(400)},
        examples=[
            OpenApiExample(
                "One page",
                response_only=True,
                status_codes=["200"],
                value={
                    "results": [
                        {
                            "id": "0192f0c1-7d5c-7e57-9c5d-0d1f6b8f3c11",
                            "external_id": "g1",
                            "model_version": "sotu-1",
                            "modality": "text",
                            "occurred_at": "2026-10-03T10:00:00Z",
                            "received_at": "2026-10-03T10:00:02Z",
                            "state": "attributed",
                            "reason": "",
                        }
                    ],
                    "next": None,
                },
            )
        ],
    )
    def get(self, request: Request) -> Response:
        service, limit = service_of(request), limit_of(request)
        rows = generations_of(
            service,
            external_id=_text(request, "external_id", EXTERNAL_ID_CHARACTERS_MAX),
            state=_state(request),
            model_version=_version(request, service),
            since=moment_of(request, "since"),
            until=moment_of(request, "until"),
            before=after_id_of(request),
        )
        found = list(rows[: limit + 1])
        following = address_after(request, found[limit - 1].pk) if len(found) > limit else None
        return Response({"results": ListedGenerationSerializer(found[:limit], many=True).data, "next": following})


def _text(request: Request, name: str, characters_max: int) -> str | None:
    told = request.query_params.get(name)
    if told is not None and not 1 <= len(told) <= characters_max:
        raise UnableToPage(name, f"has 1 to {characters_max} characters, not {len(told)}.")
    return told


def _state(request: Request) -> str | None:
    told = request.query_params.get("state")
    if told is not None and told not in Generation.State.values:
        raise UnableToPage("state", f"is one of {', '.join(Generation.State.values)}, not {told[:20]!r}.")
    return told


def _version(request: Request, service: ModelService) -> ModelVersion | None:
    told = _text(request, "model_version", MODEL_VERSION_CHARACTERS_MAX)
    if told is None:
        return None
    found = ModelVersion.objects.filter(service=service, name=told).first()
    if found is None:
        # An empty list would hide a mistyped name.
        raise UnableToPage("model_version", f"names none of this service: {told[:40]!r}. List them by model-versions.")
    return found
