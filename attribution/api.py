"""What a model service calls: report generations, look up its model versions.

Each view makes one domain call and translates. The serializers document requests and answers; reading a batch through
them would take 2 ms a generation, so that `operations.report_generations` judges the parsed JSON itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from kombu.exceptions import OperationalError
from rest_framework import exceptions, parsers, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from attribution import queries, tasks
from attribution.authentication import HasScope, Principal, service_of
from attribution.features import FEATURES_MAX
from attribution.models import AttributionIndex, ModelVersion, ServiceKey
from attribution.operations import ReportResult, UnableToReport, report_generations
from attribution.operations.candidates import (
    EXTERNAL_ID_CHARACTERS_MAX,
    MODEL_VERSION_CHARACTERS_MAX,
    OUTPUT_BYTES_MAX,
    PROMPT_BYTES_MAX,
    TOKEN_ID_MAX,
    TOKEN_IDS_MAX,
)
from attribution.operations.reports import BATCH_MAX

PAGE_MAX = 100
FEATURES_TEXT_MAX = 4 * -(-4 * FEATURES_MAX // 3)

# Every problem that one generation of a batch can have, with its title: /problems/<slug> in the answer.
PROBLEMS: Mapping[str, str] = {
    "body-differs": "This external id was reported before with another body.",
    "date-out-of-range": "The generation lies too far in the past, or in the future.",
    "features-not-allowed": "The key may not report features: it lacks the scope features:write.",
    "foreign-features": "The features were computed for another index than the one that serves.",
    "invalid-amount": "The amount is not a positive decimal string.",
    "invalid-currency": "The currency is not a code of ISO 4217.",
    "invalid-features": "The features are not finite float32 numbers in base64, or not as many as the index takes.",
    "invalid-field": "A field does not have the form it must have.",
    "malformed-text": "A text cannot be stored as UTF-8.",
    "missing-features": "The model version is attributed by features that the service reports, and there are none.",
    "missing-field": "A field is missing.",
    "no-manifest": "The model version has no training manifest, so that nobody can be credited.",
    "retired-model-version": "The model version is retired.",
    "text-too-long": "A text is too long.",
    "too-many-tokens": "There are too many token ids.",
    "unexpected-features": "No index of the model version takes features.",
    "unknown-field": "There is a field that nobody reads.",
    "unknown-model-version": "The service has no model version of this name.",
}

log = structlog.get_logger(__name__)


# --- what the documents say -------------------------------------------------------------------------------------------
class StrictSerializer(serializers.Serializer[Any]):
    """An object that takes no other fields than its own."""


class StrictSerializerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    target_class = "attribution.api.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**schema, "additionalProperties": False}


class ServiceKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "attribution.authentication.ServiceKeyAuthentication"
    name = "serviceKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "trib_<prefix>_<secret>"}


class ProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457 problem details. A type of problem may have members of its own."""

    type = serializers.CharField(help_text="A relative address that names the kind of problem.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(required=False)


PROBLEM_JSON = "application/problem+json"


def problem_responses(*statuses: int) -> dict[tuple[int, str], OpenApiResponse]:
    """What any operation may answer in place of its result."""
    meanings = {
        400: "The body is not JSON, or a parameter is not valid.",
        401: "No valid key was given.",
        403: "The key lacks the scope.",
        404: "There is nothing here for this key.",
        406: "Only JSON is spoken here.",
        409: "It contradicts what is stored.",
        410: "It was here, and is kept in an archive.",
        413: "The request is too large.",
        415: "The body must be application/json.",
        422: "The request as a whole cannot be carried out.",
        429: "Too many requests; Retry-After says when to come back.",
    }
    everywhere = (401, 403, 406, 429)
    return {
        (status, PROBLEM_JSON): OpenApiResponse(ProblemSerializer, meanings[status])
        for status in sorted({*statuses, *everywhere})
    }


class PromptSerializer(StrictSerializer):
    text = serializers.CharField(
        max_length=PROMPT_BYTES_MAX, allow_blank=True, trim_whitespace=False,
        help_text=f"At most {PROMPT_BYTES_MAX} bytes of UTF-8. Read by the model, never scored.",
    )  # fmt: skip


class OutputSerializer(StrictSerializer):
    text = serializers.CharField(
        max_length=OUTPUT_BYTES_MAX, allow_blank=True, trim_whitespace=False,
        help_text=f"At most {OUTPUT_BYTES_MAX} bytes of UTF-8.",
    )  # fmt: skip
    token_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=TOKEN_ID_MAX), max_length=TOKEN_IDS_MAX, required=False,
        allow_null=True, help_text="The output's own tokens. Without them the text is tokenised again.",
    )  # fmt: skip


class FeaturesSerializer(StrictSerializer):
    index = serializers.UUIDField(
        help_text="The index that they were computed for, by the id that model versions name."
    )
    values = serializers.CharField(
        max_length=FEATURES_TEXT_MAX,
        help_text=f"Base64 of little-endian float32, member after member; at most {FEATURES_MAX} numbers, all finite.",
    )


class GrossSerializer(StrictSerializer):
    amount = serializers.RegexField(
        r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$", help_text='More than zero, as a decimal string: "0.05".'
    )
    currency = serializers.RegexField(r"^[A-Z]{3}$", help_text="ISO 4217.")


class GenerationSerializer(StrictSerializer):
    external_id = serializers.CharField(
        min_length=1, max_length=EXTERNAL_ID_CHARACTERS_MAX, help_text="The service's own id: the idempotency key."
    )
    model_version = serializers.CharField(max_length=MODEL_VERSION_CHARACTERS_MAX)
    occurred_at = serializers.DateTimeField(help_text="With its offset; at most 35 days old and not in the future.")
    prompt = PromptSerializer(required=False)
    output = OutputSerializer()
    features = FeaturesSerializer(
        required=False, allow_null=True,
        help_text="What the service computed where its model runs, for an index that takes it. Needs features:write.",
    )  # fmt: skip
    gross = GrossSerializer(
        required=False, allow_null=True, help_text="What was charged, under a plan that shares revenue."
    )


class ReportSerializer(StrictSerializer):
    generations = serializers.ListField(child=GenerationSerializer(), min_length=1, max_length=BATCH_MAX)


class ItemProblemSerializer(serializers.Serializer[Any]):
    type = serializers.ChoiceField([f"/problems/{slug}" for slug in PROBLEMS])
    title = serializers.CharField()
    detail = serializers.CharField()
    field = serializers.CharField(required=False, help_text="Which field is meant.")
    differs = serializers.ListField(
        child=serializers.ChoiceField(["model_version", "occurred_at", "prompt", "output", "gross"]), required=False,
        help_text="Which parts differ from what was reported before.",
    )  # fmt: skip


class ReportResultSerializer(serializers.Serializer[Any]):
    external_id = serializers.CharField(allow_null=True, help_text="Null when the one given cannot be one.")
    status = serializers.ChoiceField([200, 201, 409, 422])
    id = serializers.UUIDField(required=False)
    problem = ItemProblemSerializer(required=False)


class ReportedSerializer(serializers.Serializer[Any]):
    results = ReportResultSerializer(many=True)


class ManifestSerializer(serializers.Serializer[Any]):
    sha256 = serializers.CharField()
    items = serializers.IntegerField()
    works = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class IndexSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    attributor = serializers.ChoiceField(AttributionIndex.Attributor.choices)
    method = serializers.CharField()
    feature_shape = serializers.ListField(
        child=serializers.IntegerField(), allow_null=True,
        help_text="Ensemble members and numbers of each that `features` must have; null where the index takes none.",
    )  # fmt: skip
    state = serializers.CharField()
    weight_ppb = serializers.IntegerField(help_text="The part of the pool that goes by attribution, in 10^-9.")
    sha256 = serializers.CharField(allow_null=True)
    audit = serializers.JSONField(allow_null=True)


class ModelVersionSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    state = serializers.ChoiceField(ModelVersion.State.choices)
    adapter = serializers.CharField()
    checkpoint_sha256 = serializers.CharField()
    trained_at = serializers.DateTimeField()
    manifest = ManifestSerializer(allow_null=True)
    index = IndexSerializer(allow_null=True, help_text="The index by which new generations are attributed.")


class ModelVersionsSerializer(serializers.Serializer[Any]):
    model_versions = ModelVersionSerializer(many=True)


# --- views ----------------------------------------------------------------------------------------------------------
class UnableToRead(Exception):
    """The request's body is larger than a full batch can be."""

    status = 413
    problem = "request-too-large"


class ShallowJSONParser(parsers.JSONParser):
    """JSON no deeper than the parser can follow."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise exceptions.ParseError("The JSON is nested too deeply.") from None


class WritingView(APIView):
    """What a service sends a body to: judged by its length before it is read."""

    permission_classes = (HasScope,)
    parser_classes = (ShallowJSONParser,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        bytes_max = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if int(request.META.get("CONTENT_LENGTH") or 0) > bytes_max:
            raise UnableToRead(f"A request takes at most {bytes_max} bytes.")


class GenerationsView(WritingView):
    throttle_scope = "report"
    scopes = {"POST": ServiceKey.Scope.GENERATIONS_WRITE.value}

    @extend_schema(
        operation_id="report_generations",
        summary="Report generations",
        description=(
            "Up to 1,000 at once, always as a list. Every generation is judged alone and answered in the order given: "
            "201 stored; 200 stored before with the same body; 409 stored before with another body, `differs` names "
            "the parts; 422 refused, `problem` says why. Nothing is lost by a bad neighbour, and repeating a report "
            "is safe. Needs the scope `generations:write`."
        ),
        tags=["generations"],
        request=ReportSerializer,
        responses={
            207: ReportedSerializer,
            **problem_responses(400, 413, 415, 422),
        },
        examples=[
            OpenApiExample(
                "One generation",
                request_only=True,
                value={
                    "generations": [
                        {
                            "external_id": "g1",
                            "model_version": "sotu-1",
                            "occurred_at": "2026-10-03T10:00:00Z",
                            "prompt": {"text": "My fellow citizens,"},
                            "output": {"text": " the state of the union is strong.", "token_ids": [17, 4]},
                            "gross": {"amount": "0.05", "currency": "USD"},
                        }
                    ]
                },
            ),
            OpenApiExample(
                "One stored, one that differs",
                response_only=True,
                status_codes=["207"],
                value={
                    "results": [
                        {"external_id": "g1", "status": 201, "id": "0192f0c1-7d5c-7e57-9c5d-0d1f6b8f3c11"},
                        {
                            "external_id": "g2",
                            "status": 409,
                            "problem": {
                                "type": "/problems/body-differs",
                                "title": PROBLEMS["body-differs"],
                                "detail": "This external id was reported before with another body.",
                                "differs": ["output"],
                            },
                        },
                    ]
                },
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        principal: Any = request.user
        assert isinstance(principal, Principal), "A view that HasScope guards has a principal."
        results = report_generations(
            service=principal.service,
            generations=_generations_of(request.data),
            may_push_features=ServiceKey.Scope.FEATURES_WRITE.value in principal.scopes,
            at=timezone.now(),
        )
        if any(result.status == 201 for result in results):
            transaction.on_commit(_hint)
        return Response({"results": [_as_json(result) for result in results]}, status=207)


class ModelVersionsView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": ServiceKey.Scope.GENERATIONS_READ.value}

    @extend_schema(
        operation_id="list_model_versions",
        summary="List model versions",
        description=(
            "The service's own model versions, newest first, with training manifest and the index that attributes "
            "their generations. Needs the scope `generations:read`."
        ),
        tags=["model versions"],
        parameters=[OpenApiParameter("name", str, description="Only the model version of this name.")],
        responses={200: ModelVersionsSerializer, **problem_responses()},
    )
    def get(self, request: Request) -> Response:
        found = queries.model_versions_of(service_of(request), name=request.query_params.get("name"), limit=PAGE_MAX)
        return Response({"model_versions": [_version_as_json(version) for version in found]})


def _generations_of(body: Any) -> list[Any]:
    if not isinstance(body, Mapping) or set(body) != {"generations"} or not isinstance(body["generations"], list):
        raise UnableToReport('The body must be {"generations": [...]}.')
    return body["generations"]


def _hint() -> None:
    """Tell a worker that there is something to do. The sweep finds it anyway, so that a lost hint loses nothing."""
    try:
        tasks.attribute_received.apply_async(retry=False, expires=tasks.HINT_EXPIRES_SECONDS)
    except OperationalError as error:
        log.warning("no hint was sent", error=str(error))


def _as_json(result: ReportResult) -> dict[str, Any]:
    answer: dict[str, Any] = {"external_id": result.external_id, "status": result.status}
    if result.refusal is None:
        return {**answer, "id": result.id}
    slug = result.refusal.problem
    problem = {"type": f"/problems/{slug}", "title": PROBLEMS[slug], "detail": str(result.refusal)}
    return {**answer, "problem": {**problem, **result.refusal.members}}


def _version_as_json(version: queries.VersionSummary) -> dict[str, Any]:
    manifest, index = version.manifest, version.index
    return {
        "name": version.model_version.name,
        "state": version.model_version.state,
        "adapter": version.model_version.adapter,
        "checkpoint_sha256": bytes(version.model_version.checkpoint_sha256).hex(),
        "trained_at": version.model_version.trained_at,
        "manifest": manifest
        and {
            "sha256": bytes(manifest.sha256).hex(),
            "items": manifest.n_items,
            "works": manifest.n_works,
            "created_at": manifest.created_at,
        },
        "index": index
        and {
            "id": index.public_id,
            "attributor": index.attributor,
            "method": index.method,
            "feature_shape": index.feature_shape,
            "state": index.state,
            "weight_ppb": index.weight_ppb,
            "sha256": bytes(index.sha256).hex() if index.sha256 else None,
            "audit": index.audit,
        },
    }
