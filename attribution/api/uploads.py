"""Uploads of checkpoints in parts by a model service."""

from __future__ import annotations

import uuid
from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from attribution.api.authentication import HasScope, service_of
from attribution.api.fields import BytesParser, read_body, stream_of
from attribution.api.problems import StrictSerializer, WritingView, problem_responses
from attribution.models import CheckpointUpload, ServiceKey
from attribution.operations import uploads

SCOPE = ServiceKey.Scope.MODELS_WRITE.value


class NewFileSerializer(StrictSerializer):
    path = serializers.CharField(
        max_length=uploads.PATH_CHARACTERS_MAX, trim_whitespace=False, help_text="Relative, with / between folders."
    )
    size = serializers.IntegerField(min_value=0, help_text="Bytes.")
    sha256 = serializers.RegexField(r"^[0-9a-f]{64}$", help_text="64 hexadecimal digits in small letters.")


class NewUploadSerializer(StrictSerializer):
    files = NewFileSerializer(many=True, allow_empty=False)


class UploadFileSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    size = serializers.IntegerField()
    received = serializers.IntegerField(help_text="Bytes from the beginning that have arrived: go on at this offset.")


class UploadSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(CheckpointUpload.State.choices)
    part_size = serializers.IntegerField(help_text="A part has at most so many bytes.")
    files = UploadFileSerializer(many=True)
    sha256 = serializers.CharField(allow_null=True, help_text="Of the whole directory, once it is complete.")
    expires_at = serializers.DateTimeField(help_text="Each part prolongs it.")


class ReceivedSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    received = serializers.IntegerField()


class UploadsView(WritingView):
    throttle_scope = "models"
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="open_upload",
        summary="Begin the upload of a checkpoint",
        description=(
            "Announces the files of a directory. Send each file in parts, in order, then complete the upload. An "
            "upload without a part for 48 hours expires. Needs the scope `models:write`."
        ),
        tags=["model versions"],
        request=NewUploadSerializer,
        responses={201: UploadSerializer, **problem_responses(400, 409, 413, 415, 422)},
    )
    def post(self, request: Request) -> Response:
        body = read_body(request, NewUploadSerializer)
        files = [uploads.NewFile(file["path"], file["size"], file["sha256"]) for file in body["files"]]
        upload = uploads.open_upload(service=service_of(request), files=files, at=timezone.now())
        return Response(upload_as_json(upload), status=201)


class UploadView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": SCOPE}

    @extend_schema(
        operation_id="get_upload",
        summary="Read the state of an upload",
        description="Needs the scope `models:write`.",
        tags=["model versions"],
        responses={200: UploadSerializer, **problem_responses(404)},
    )
    def get(self, request: Request, id: uuid.UUID) -> Response:
        return Response(upload_as_json(_upload_of(request, id)))


class PartsView(WritingView):
    throttle_scope = "models"
    scopes = {"PUT": SCOPE}
    parser_classes = (BytesParser,)

    @extend_schema(
        operation_id="put_upload_part",
        summary="Send a part of a file",
        description=(
            "The body is the bytes themselves. `offset` is at most the received bytes of the file; a part may be "
            "repeated. Needs the scope `models:write`."
        ),
        tags=["model versions"],
        parameters=[
            OpenApiParameter("path", str, required=True, description="The file, as it was announced."),
            OpenApiParameter("offset", int, required=True, description="The place of the part's first byte."),
        ],
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses={200: ReceivedSerializer, **problem_responses(404, 409, 410, 413, 422)},
    )
    def put(self, request: Request, id: uuid.UUID) -> Response:
        upload = _upload_of(request, id)
        path, offset = request.query_params.get("path", ""), request.query_params.get("offset", "")
        if not path:
            raise uploads.UnableToUpload("path names the file.", field="path")
        if not (offset.isascii() and offset.isdigit() and len(offset) < 19):
            raise uploads.UnableToUpload("offset is a whole number from 0.", field="offset")
        block = stream_of(request).read(upload.part_size + 1)
        at = timezone.now()
        has = uploads.write_part(upload=upload, path=path, offset=int(offset), block=block, at=at)
        return Response({"path": path, "received": has})


class CompleteView(WritingView):
    throttle_scope = "models"
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="complete_upload",
        summary="Complete an upload",
        description=(
            "Checks the digest of every file and keeps the directory under the digest of all: `sha256`, by which a "
            "model version names its checkpoint. Needs the scope `models:write`."
        ),
        tags=["model versions"],
        request=None,
        responses={200: UploadSerializer, **problem_responses(404, 409, 410, 422)},
    )
    def post(self, request: Request, id: uuid.UUID) -> Response:
        upload = uploads.complete_upload(upload=_upload_of(request, id), at=timezone.now())
        return Response(upload_as_json(upload))


def _upload_of(request: Request, id: uuid.UUID) -> CheckpointUpload:
    return get_object_or_404(CheckpointUpload, service=service_of(request), public_id=id)


def upload_as_json(upload: CheckpointUpload) -> dict[str, Any]:
    has = uploads.received(upload)
    return {
        "id": upload.public_id,
        "state": upload.state,
        "part_size": upload.part_size,
        "files": [
            {"path": file.path, "size": file.size, "received": has[file.path]} for file in upload.files.order_by("path")
        ],
        "sha256": bytes(upload.sha256).hex() if upload.sha256 else None,
        "expires_at": upload.expires_at,
    }
