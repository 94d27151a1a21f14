"""Model versions of a service: registered, listed, retired and superseded by it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from attribution.api.authentication import HasScope, service_of
from attribution.api.cursors import PARAMETERS, page_of
from attribution.api.fields import read_body
from attribution.api.problems import StrictSerializer, WritingView, problem_responses
from attribution.models import AttributionIndex, ModelService, ModelVersion, ServiceKey
from attribution.operations import model_versions
from attribution.operations.factories import ALSO_TRACED, TRACEABLE
from attribution.operations.model_versions import UnableToRegisterModelVersion
from attribution.queries.model_versions import VersionSummary, summaries_of
from contributors.models import Consent

SCOPE = ServiceKey.Scope.MODELS_WRITE.value
SHA256 = r"^[0-9a-f]{64}$"


class ManifestSerializer(serializers.Serializer[Any]):
    sha256 = serializers.CharField()
    items = serializers.IntegerField()
    works = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class ServingIndexSerializer(serializers.Serializer[Any]):
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


TOKEN_CHECKS = ("checked at the report", "checked by the worker", "not checked")


class ModelVersionSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    state = serializers.ChoiceField(ModelVersion.State.choices)
    adapter = serializers.CharField()
    factory = serializers.CharField()
    purpose = serializers.ChoiceField(Consent.Scope.choices)
    base_model = serializers.CharField()
    licence = serializers.CharField()
    config = serializers.JSONField()
    checkpoint_sha256 = serializers.CharField(allow_null=True)
    training_started_at = serializers.DateTimeField(allow_null=True)
    trained_at = serializers.DateTimeField()
    context = serializers.IntegerField(  # type: ignore[assignment]
        allow_null=True,
        help_text="How many tokens the model reads; of longer prompts and outputs it reads the last ones.",
    )
    vocabulary = serializers.IntegerField(allow_null=True, help_text="Token ids from this number on are refused.")
    token_ids = serializers.ChoiceField(
        TOKEN_CHECKS,
        help_text="Where reported token ids are held against the text: at the report, by the worker, never.",
    )
    superseded_by = serializers.CharField(allow_null=True, help_text="The name of the version in its place.")
    manifest = ManifestSerializer(allow_null=True)
    index = ServingIndexSerializer(allow_null=True, help_text="The index by which new generations are attributed.")
    holds = serializers.CharField(
        allow_null=True, help_text="The reason for which reported generations wait; null where they are attributed."
    )


class ModelVersionsSerializer(serializers.Serializer[Any]):
    results = ModelVersionSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class CheckpointSerializer(StrictSerializer):
    upload = serializers.UUIDField(required=False, help_text="A completed upload of this service.")
    sha256 = serializers.RegexField(SHA256, required=False, help_text="The digest of a directory in the store.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise serializers.ValidationError('It is {"upload": id} or {"sha256": digest}.')
        return attrs


class NewModelVersionSerializer(StrictSerializer):
    name = serializers.CharField(max_length=100, help_text="Letters, digits and . _ : -; no slash.")
    adapter = serializers.CharField(
        max_length=40, help_text="The kind of model: causal_lm, diffusion, encoder, pushed."
    )
    factory = serializers.CharField(
        max_length=40, help_text="Loads the checkpoint: transformers, peft, encoder, pushed, or an own one."
    )
    purpose = serializers.ChoiceField(
        Consent.Scope.choices, help_text="The use that the training was: its manifest needs consent to this use."
    )
    trained_at = serializers.DateTimeField(help_text="The end of the training, with its offset.")
    training_started_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="Where it is given, consent must hold from then to `trained_at`."
    )
    base_model = serializers.CharField(max_length=200, required=False, allow_blank=True)
    licence = serializers.CharField(max_length=200, required=False, allow_blank=True)
    config = serializers.DictField(required=False)
    also_traced = serializers.ListField(
        child=serializers.ChoiceField(TRACEABLE),
        required=False,
        max_length=len(TRACEABLE),
        help_text="Kinds of layers that are traced beside the usual ones. It stands in `config`.",
    )
    checkpoint = CheckpointSerializer(
        required=False, allow_null=True, help_text="Null only with the factory pushed: features then come later."
    )


class SupersedeSerializer(StrictSerializer):
    by = serializers.CharField(max_length=100, help_text="The name of the version that runs in its place.")


class ModelVersionsView(WritingView):
    throttle_scope = "models"
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="list_model_versions",
        summary="List model versions",
        description=(
            "The service's own model versions, newest first, with training manifest and the index that attributes "
            "their generations. Any key of the service reads them."
        ),
        tags=["model versions"],
        parameters=[OpenApiParameter("name", str, description="Only the model version of this name."), *PARAMETERS],
        responses={200: ModelVersionsSerializer, **problem_responses(400)},
    )
    def get(self, request: Request) -> Response:
        rows = ModelVersion.objects.filter(service=service_of(request))
        if (name := request.query_params.get("name")) is not None:
            rows = rows.filter(name=name)
        found, following = page_of(request, rows.select_related("manifest", "superseded_by"), newest_first=True)
        return Response({"results": list(map(version_as_json, summaries_of(found))), "next": following})

    @extend_schema(
        operation_id="register_model_version",
        summary="Register a model version",
        description=(
            "The model is loaded at once: a checkpoint that its factory cannot load, or another adapter, is refused "
            "here. The same body again is answered with 200, another body under a known name with 409. Needs the scope "
            "`models:write`."
        ),
        tags=["model versions"],
        request=NewModelVersionSerializer,
        responses={
            200: ModelVersionSerializer,
            201: ModelVersionSerializer,
            **problem_responses(400, 409, 413, 415, 422),
        },
        examples=[
            OpenApiExample(
                "A fine-tune",
                request_only=True,
                value={
                    "name": "writer-2",
                    "adapter": "causal_lm",
                    "factory": "peft",
                    "purpose": "fine_tune",
                    "training_started_at": "2026-10-01T08:00:00Z",
                    "trained_at": "2026-10-02T17:30:00Z",
                    "base_model": "gpt2",
                    "licence": "apache-2.0",
                    "checkpoint": {"upload": "0192f0c1-7d5c-7e57-9c5d-0d1f6b8f3c11"},
                },
            )
        ],
    )
    def post(self, request: Request) -> Response:
        service, body = service_of(request), read_body(request, NewModelVersionSerializer)
        if (also := body.pop(ALSO_TRACED, None)) is not None:
            body["config"] = {**body.get("config", {}), ALSO_TRACED: sorted(set(also))}
        told = body.pop("checkpoint", None)
        named = {} if told is None else {name: str(value) for name, value in told.items()}
        checkpoint = model_versions.find_checkpoint(service=service, **named) if named else None
        known = ModelVersion.objects.filter(service=service, name=body["name"]).first()
        if known is not None:
            _check_same(known, body, None if checkpoint is None else checkpoint.digest)
        made = known or model_versions.register_model_version(
            service=service, checkpoint=checkpoint, at=timezone.now(), **body
        )
        return Response(version_as_json(summaries_of([made])[0]), status=200 if known else 201)


class ModelVersionView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes: dict[str, str] = {}

    @extend_schema(
        operation_id="get_model_version",
        summary="Read a model version",
        description="Any key of the service reads it.",
        tags=["model versions"],
        responses={200: ModelVersionSerializer, **problem_responses(404)},
    )
    def get(self, request: Request, name: str) -> Response:
        return Response(version_as_json(summaries_of([version_of(service_of(request), name)])[0]))


class RetireView(WritingView):
    throttle_scope = "models"
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="retire_model_version",
        summary="Retire a model version",
        description=(
            "No new generation of it is taken. Reported ones are still attributed. Needs the scope `models:write`."
        ),
        tags=["model versions"],
        request=None,
        responses={200: ModelVersionSerializer, **problem_responses(404, 409)},
    )
    def post(self, request: Request, name: str) -> Response:
        version = version_of(service_of(request), name)
        version = model_versions.retire_model_version(model_version=version, at=timezone.now())
        return Response(version_as_json(summaries_of([version])[0]))


class SupersedeView(WritingView):
    throttle_scope = "models"
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="supersede_model_version",
        summary="Retire a model version in favour of another",
        description="The successor needs its manifest. Needs the scope `models:write`.",
        tags=["model versions"],
        request=SupersedeSerializer,
        responses={200: ModelVersionSerializer, **problem_responses(400, 404, 409, 415, 422)},
    )
    def post(self, request: Request, name: str) -> Response:
        service, body = service_of(request), read_body(request, SupersedeSerializer)
        version = model_versions.supersede_model_version(
            model_version=version_of(service, name), successor=version_of(service, body["by"]), at=timezone.now()
        )
        return Response(version_as_json(summaries_of([version])[0]))


def version_of(service: ModelService, name: str) -> ModelVersion:
    """Find a version of the service by its name; one of another service is as unknown as one that is not there."""
    return get_object_or_404(ModelVersion.objects.select_related("service"), service=service, name=name)


def _check_same(known: ModelVersion, body: dict[str, Any], digest: bytes | None) -> None:
    """Refuse another body under a known name, with the fields that differ. Features may have come later."""
    told = {
        "base_model": "",
        "licence": "",
        "config": {},
        "training_started_at": None,
        **body,
    }
    differs = [name for name, value in told.items() if _comparable(getattr(known, name)) != _comparable(value)]
    if digest is not None and bytes(known.checkpoint_sha256 or b"") != digest:
        differs.append("checkpoint")
    if differs:
        raise UnableToRegisterModelVersion(
            f"{known.service.name} has a model version {known.name!r} with another {', '.join(sorted(differs))}.",
            field="name",
            status=409,
            differs=sorted(differs),
        )


def _comparable(value: Any) -> Any:
    return value.timestamp() if isinstance(value, datetime) else value


def _hex(digest: bytes | memoryview | None) -> str | None:
    return bytes(digest).hex() if digest else None


def _token_check(version: ModelVersion) -> str:
    if version.decoder:
        return "checked at the report"
    return "checked by the worker" if version.vocabulary is not None else "not checked"


def version_as_json(summary: VersionSummary) -> dict[str, Any]:
    version, manifest, index = summary.model_version, summary.manifest, summary.index
    return {
        "id": version.public_id,
        "name": version.name,
        "state": version.state,
        "adapter": version.adapter,
        "factory": version.factory,
        "purpose": version.purpose,
        "base_model": version.base_model,
        "licence": version.licence,
        "config": version.config,
        "checkpoint_sha256": _hex(version.checkpoint_sha256),
        "training_started_at": version.training_started_at,
        "trained_at": version.trained_at,
        "context": version.context,
        "vocabulary": version.vocabulary,
        "token_ids": _token_check(version),
        "superseded_by": version.superseded_by.name if version.superseded_by else None,
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
            "sha256": _hex(index.sha256),
            "audit": index.audit,
        },
        "holds": summary.holds or None,
    }
