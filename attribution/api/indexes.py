"""Indexes of a service's model versions: their builds, their state, their evaluations."""

from __future__ import annotations

import uuid
from typing import Any

from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from attribution.api.authentication import HasScope, UnableToAct, principal_of, service_of
from attribution.api.cursors import UnableToPage
from attribution.api.fields import read_body
from attribution.api.model_versions import CheckpointSerializer, version_of
from attribution.api.problems import StrictSerializer, WritingView, problem_responses
from attribution.models import AttributionIndex, ModelVersion, ServiceKey
from attribution.operations import builds, evaluation_reports, evaluations, model_versions
from attribution.operations.factories import PUSHED
from attribution.queries.indexes import agreement, build_progress
from attribution.queries.model_versions import why_held

SCOPE = ServiceKey.Scope.MODELS_WRITE.value
READS = (ServiceKey.Scope.GENERATIONS_READ.value, SCOPE)


class ProgressSerializer(serializers.Serializer[Any]):
    stage = serializers.CharField()
    done = serializers.IntegerField()
    of = serializers.IntegerField()


class EvaluationSerializer(serializers.Serializer[Any]):
    passed = serializers.BooleanField()
    made = serializers.ChoiceField(["here", "service"], help_text="The place where the models were retrained.")
    lds = serializers.FloatField(help_text="Rank correlation of paid shares with retrained models, own generations.")
    lower = serializers.FloatField(help_text="The 5 % bound, from which the weight follows.")
    upper = serializers.FloatField(help_text="The 95 % bound.")
    weight = serializers.FloatField(help_text="The part of each pool that goes by attribution.")
    coalitions = serializers.IntegerField()
    rule = serializers.IntegerField(help_text="The rule of shares: 1 sums of holders, 2 items, then sums.")
    at = serializers.DateTimeField(allow_null=True)


class IndexSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    url = serializers.URLField()
    state = serializers.ChoiceField(AttributionIndex.State.choices)
    model_version = serializers.CharField()
    attributor = serializers.ChoiceField(AttributionIndex.Attributor.choices)
    serving = serializers.BooleanField()
    sha256 = serializers.CharField(allow_null=True)
    feature_shape = serializers.ListField(child=serializers.IntegerField(), allow_null=True)
    progress = ProgressSerializer(allow_null=True, help_text="Of the build or the evaluation that workers make.")
    reason = serializers.CharField(allow_null=True, help_text="An error, or the reason for which generations wait.")
    evaluation = EvaluationSerializer(allow_null=True)


class NewIndexSerializer(StrictSerializer):
    attributor = serializers.ChoiceField(AttributionIndex.Attributor.choices, required=False)
    left_out = serializers.ListField(
        child=serializers.CharField(max_length=200), required=False, help_text="Names of layers that are not traced."
    )
    config = serializers.DictField(required=False, help_text="Other fields of the configuration, such as damping.")
    features = CheckpointSerializer(
        required=False, help_text="The features of the items, for a pushed version that was registered without them."
    )


class NewEvaluationSerializer(StrictSerializer):
    report = serializers.DictField(
        required=False,
        help_text="Of a model that runs at its service: index_sha256, coalitions (their number), queries and utilities "
        "by own_generations and held_out, recipe; lds, lower, upper, weight are checked where they are given.",
    )


class CoalitionsSerializer(serializers.Serializer[Any]):
    index_sha256 = serializers.CharField()
    seed = serializers.IntegerField()
    holders = serializers.DictField(
        help_text="Holder -> ranges of the ordinals of its items, each from the first to before the second."
    )
    coalitions = serializers.ListField(child=serializers.ListField(child=serializers.UUIDField()))


class IndexesView(WritingView):
    throttle_scope = "models"
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="build_index",
        summary="Build an index",
        description=(
            "The workers build it; its address shows the progress. Generations are attributed only once it is "
            "evaluated. Without `attributor` it is the one of the adapter: midpoint, encoder or pushed. Needs the "
            "scope `models:write`."
        ),
        tags=["indexes"],
        request=NewIndexSerializer,
        responses={202: IndexSerializer, **problem_responses(400, 404, 409, 415, 422)},
    )
    def post(self, request: Request, name: str) -> Response:
        service, body = service_of(request), read_body(request, NewIndexSerializer)
        version = version_of(service, name)
        if told := body.get("features"):
            if version.factory != PUSHED:
                raise model_versions.UnableToRegisterModelVersion(
                    f"{version.name} runs here; only a version of the factory {PUSHED} has features.", field="features"
                )
            named = {kind: str(value) for kind, value in told.items()}
            checkpoint = model_versions.find_checkpoint(service=service, **named)
            version = model_versions.hand_over_features(model_version=version, checkpoint=checkpoint)
        config = {**body.get("config", {}), "attributor": body.get("attributor") or usual_attributor(version)}
        if left_out := body.get("left_out"):
            config["left_out"] = left_out
        index = builds.queue_build(model_version=version, config=config, at=timezone.now())
        return Response(index_as_json(request, index), status=202)


class IndexView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes: dict[str, str] = {}

    @extend_schema(
        operation_id="get_index",
        summary="Read the state of an index",
        description="Needs the scope `generations:read` or `models:write`.",
        tags=["indexes"],
        responses={200: IndexSerializer, **problem_responses(404)},
    )
    def get(self, request: Request, id: uuid.UUID) -> Response:
        principal = principal_of(request)
        if not principal.scopes & set(READS):
            raise UnableToAct(READS[0])
        return Response(index_as_json(request, _index_of(request, id)))


class CoalitionsView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": SCOPE}

    @extend_schema(
        operation_id="get_coalitions",
        summary="Read the coalitions of an evaluation",
        description=(
            "The halves of the holders, each of which is one retraining, for a model that runs at its service. They "
            "follow from the index. Needs the scope `models:write`."
        ),
        tags=["indexes"],
        parameters=[OpenApiParameter("count", int, description=f"How many; by default {evaluations.COALITIONS}.")],
        responses={200: CoalitionsSerializer, **problem_responses(400, 404, 422)},
    )
    def get(self, request: Request, id: uuid.UUID) -> Response:
        told = request.query_params.get("count", str(evaluations.COALITIONS))
        if not (told.isascii() and told.isdigit() and len(told) < 6):
            raise UnableToPage("count", "is a whole number.")
        found = evaluation_reports.coalitions_of(index=_index_of(request, id), count=int(told))
        return Response(
            {
                "index_sha256": found.index_sha256,
                "seed": found.seed,
                "holders": found.holders,
                "coalitions": found.coalitions,
            }
        )


class EvaluationsView(WritingView):
    throttle_scope = "models"
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="evaluate_index",
        summary="Evaluate an index",
        description=(
            "`{}` lets the workers retrain the model. A model that runs at its service (attributors pushed and "
            "encoder) is retrained there, and `report` brings the utilities of the retrained models: agreement, bounds "
            "and weight are computed here from them. Needs the scope `models:write`."
        ),
        tags=["indexes"],
        request=NewEvaluationSerializer,
        responses={201: IndexSerializer, 202: IndexSerializer, **problem_responses(400, 404, 409, 413, 415, 422)},
    )
    def post(self, request: Request, id: uuid.UUID) -> Response:
        index, body = _index_of(request, id), read_body(request, NewEvaluationSerializer)
        if "report" in body:
            index = evaluation_reports.report_evaluation(index=index, report=body["report"], at=timezone.now())
            return Response(index_as_json(request, index), status=201)
        index = evaluations.queue_audit(index=index, at=timezone.now())
        return Response(index_as_json(request, index), status=202)


def usual_attributor(version: ModelVersion) -> str:
    """Name the attributor of a version for which none was chosen: models without gradients here have their own."""
    own = {AttributionIndex.Attributor.ENCODER.value, AttributionIndex.Attributor.PUSHED.value}
    return version.adapter if version.adapter in own else AttributionIndex.Attributor.MIDPOINT.value


def _index_of(request: Request, id: uuid.UUID) -> AttributionIndex:
    rows = AttributionIndex.objects.select_related("model_version__manifest")
    return get_object_or_404(rows, model_version__service=service_of(request), public_id=id)


def index_as_json(request: Request, index: AttributionIndex) -> dict[str, Any]:
    progress, stage = build_progress(index), None
    if progress is not None:
        stage = {"stage": progress.stage, "done": progress.done, "of": progress.steps}
    elif index.audit_queued_at is not None:
        stage = {"stage": "evaluation", "done": 0, "of": 1}
    error = progress.error if progress is not None else ""
    return {
        "id": index.public_id,
        "url": request.build_absolute_uri(reverse("attribution:index", args=[index.public_id])),
        "state": index.state,
        "model_version": index.model_version.name,
        "attributor": index.attributor,
        "serving": index.serving,
        "sha256": bytes(index.sha256).hex() if index.sha256 else None,
        "feature_shape": index.feature_shape,
        "progress": stage,
        "reason": error or index.audit_error or (why_held(index) if index.serving else "") or None,
        "evaluation": evaluation_as_json(index),
    }


def evaluation_as_json(index: AttributionIndex) -> dict[str, Any] | None:
    if index.audit is None:
        return None
    own = agreement(index)
    return {
        "passed": bool(index.audit["passed"]),
        "made": index.audit.get("made", "here"),
        "lds": own["lds"],
        "lower": own["low"],
        "upper": own["high"],
        "weight": index.weight_ppb / 10**9,
        "coalitions": index.audit["coalitions"],
        "rule": index.rule,
        "at": index.audited_at,
    }
