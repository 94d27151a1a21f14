"""Training manifests of a service's model versions: checked in a dry run, or stored."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from attribution.api.authentication import service_of
from attribution.api.cursors import UnableToPage
from attribution.api.fields import BytesParser, stream_of
from attribution.api.model_versions import ManifestSerializer, version_of
from attribution.api.problems import WritingView, problem_responses
from attribution.models import ServiceKey
from attribution.operations import manifests
from attribution.operations.manifest_lines import ITEMS_MAX, JSON_LINES, PARQUET, read_lines

REFUSED_REASONS = ("refused", "no-consent", "refused-copy", "unknown", "ambiguous", "misfit")


class RefusedSerializer(serializers.Serializer[Any]):
    work = serializers.CharField(
        allow_null=True, help_text="The id of the work; null where none or several were found."
    )
    title = serializers.CharField(allow_null=True)
    reference = serializers.CharField(help_text="As the lines name it, such as sha256:…")
    lines = serializers.ListField(child=serializers.IntegerField(), help_text="The first 100 lines.")
    n_lines = serializers.IntegerField()
    reason = serializers.ChoiceField(REFUSED_REASONS)
    detail = serializers.CharField()
    consent = serializers.CharField(allow_null=True, help_text="The statement that refuses the use.")
    candidates = serializers.ListField(child=serializers.CharField(), help_text="The works that fit the reference.")


class CheckedSerializer(serializers.Serializer[Any]):
    items = serializers.IntegerField()
    works = serializers.IntegerField()
    refused = RefusedSerializer(many=True)
    would_be_accepted = serializers.BooleanField()


class ManifestView(WritingView):
    throttle_scope = "models"
    scopes = {"PUT": ServiceKey.Scope.MODELS_WRITE.value}
    parser_classes = (BytesParser,)
    is_streamed = True

    @extend_schema(
        operation_id="put_manifest",
        summary="Send the training manifest",
        description=(
            f"One line for each training item, up to {ITEMS_MAX:,}, as JSON lines or Parquet. A line names its work by "
            "exactly one of `work` (its id), `sha256`, `iscc` or `fingerprint`, and its part by `token_start` and "
            '`token_end` (text) or `part` (anything else); without either it is the whole work: `{"work": "0192…", '
            '"token_start": 0, "token_end": 512}`. Every work needs consent to the purpose of the version over the '
            "whole training. Where one lacks it nothing is stored, and `refused` names all such works with their "
            "lines. The same manifest again is answered the same. Needs the scope `models:write`."
        ),
        tags=["model versions"],
        parameters=[OpenApiParameter("dry_run", bool, description="Check only, and store nothing.")],
        request={JSON_LINES: OpenApiTypes.BINARY, PARQUET: OpenApiTypes.BINARY},
        responses={200: CheckedSerializer, 201: ManifestSerializer, **problem_responses(400, 404, 409, 413, 415, 422)},
    )
    def put(self, request: Request, name: str) -> Response:
        version = version_of(service_of(request), name)
        is_dry = _flag(request, "dry_run")
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        if media_type not in {JSON_LINES, PARQUET}:
            raise UnableToReadMediaType(media_type)
        with read_lines(stream_of(request), media_type=media_type) as lines:
            if is_dry:
                checked = manifests.check_manifest(model_version=version, lines=lines)
                return Response(checked_as_json(checked))
            manifest = manifests.store_manifest(model_version=version, lines=lines, at=timezone.now())
        stored = {
            "sha256": bytes(manifest.sha256).hex(),
            "items": manifest.n_items,
            "works": manifest.n_works,
            "created_at": manifest.created_at,
        }
        return Response(stored, status=201)


class UnableToReadMediaType(Exception):
    """The body is sent as neither JSON lines nor Parquet."""

    status = 415
    problem = "unsupported-media-type"

    def __init__(self, told: str) -> None:
        super().__init__(f"A manifest is sent as {JSON_LINES} or {PARQUET}, not as {told or 'nothing'}.")


def checked_as_json(checked: manifests.Checked) -> dict[str, Any]:
    return {
        "items": checked.items,
        "works": checked.works,
        "refused": [asdict(refused) for refused in checked.refused],
        "would_be_accepted": checked.would_be_accepted,
    }


def _flag(request: Request, name: str) -> bool:
    told = request.query_params.get(name, "false").lower()
    if told not in {"true", "false", "1", "0"}:
        raise UnableToPage(name, "is true or false.")
    return told in {"true", "1"}
