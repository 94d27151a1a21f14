"""Model versions of a service, listed for it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from attribution.api.authentication import HasScope, service_of
from attribution.api.problems import problem_responses
from attribution.models import AttributionIndex, ModelVersion, ServiceKey
from attribution.queries.model_versions import VersionSummary, model_versions_of

PAGE_MAX = 100


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
        child=serializers.IntegerField(),
        allow_null=True,
        help_text="Ensemble members and numbers of each that `features` must have; null where the index takes none.",
    )
    state = serializers.CharField()
    weight_ppb = serializers.IntegerField(help_text="The part of the pool that goes by attribution, in 10^-9.")
    sha256 = serializers.CharField(allow_null=True)
    audit = serializers.JSONField(allow_null=True)


class ModelVersionSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    state = serializers.ChoiceField(ModelVersion.State.choices)
    adapter = serializers.CharField()
    checkpoint_sha256 = serializers.CharField(allow_null=True)
    trained_at = serializers.DateTimeField()
    manifest = ManifestSerializer(allow_null=True)
    index = IndexSerializer(allow_null=True, help_text="The index by which new generations are attributed.")


class ModelVersionsSerializer(serializers.Serializer[Any]):
    model_versions = ModelVersionSerializer(many=True)


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
        found = model_versions_of(service_of(request), name=request.query_params.get("name"), limit=PAGE_MAX)
        return Response({"model_versions": [_version_as_json(version) for version in found]})


def _hex(digest: bytes | None) -> str | None:
    return bytes(digest).hex() if digest else None


def _version_as_json(version: VersionSummary) -> dict[str, Any]:
    manifest, index = version.manifest, version.index
    return {
        "name": version.model_version.name,
        "state": version.model_version.state,
        "adapter": version.model_version.adapter,
        "checkpoint_sha256": _hex(version.model_version.checkpoint_sha256),
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
