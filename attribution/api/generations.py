"""Reports of generations by a model service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from kombu.exceptions import OperationalError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from attribution import tasks
from attribution.api.authentication import principal_of
from attribution.api.bodies import (
    NDJSON,
    Lines,
    NDJSONParser,
    QuickJSONRenderer,
    Report,
    ReportWithFilesParser,
    ShallowJSONParser,
)
from attribution.api.generation_lists import GenerationListView
from attribution.api.problems import PROBLEMS, StrictSerializer, problem_responses
from attribution.models import ServiceKey
from attribution.operations.candidates import (
    EXTERNAL_ID_CHARACTERS_MAX,
    MODEL_VERSION_CHARACTERS_MAX,
    OUTPUT_BYTES_MAX,
    PROMPT_BYTES_MAX,
    PROMPT_TOKEN_IDS_MAX,
    TOKEN_ID_MAX,
    TOKEN_IDS_MAX,
)
from attribution.operations.outputs import MEDIA_BYTES_MAX, PARTS_MAX
from attribution.operations.reports import BATCH_MAX, ReportResult, UnableToReport, report_generations
from influence.features import FEATURES_MAX

LINES_MAX = 10 * BATCH_MAX
FEATURES_TEXT_MAX = 4 * -(-4 * FEATURES_MAX // 3)

log = structlog.get_logger(__name__)


class PromptSerializer(StrictSerializer):
    text = serializers.CharField(
        max_length=PROMPT_BYTES_MAX,
        allow_blank=True,
        trim_whitespace=False,
        required=False,
        allow_null=True,
        help_text=f"At most {PROMPT_BYTES_MAX} bytes of UTF-8. Read by the model, never scored. Where prompt and "
        "output are longer than the model's context, the last tokens are read, and the receipt says how many. May be "
        "missing beside token_ids.",
    )
    token_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=TOKEN_ID_MAX),
        max_length=PROMPT_TOKEN_IDS_MAX,
        required=False,
        allow_null=True,
        help_text="The prompt's tokens as the model read them, special ones included. Without them the text is "
        "tokenised.",
    )


class MediaSerializer(StrictSerializer):
    type = serializers.CharField(
        help_text="The media type, as image/png. Pictures in PNG, JPEG, WebP or GIF, recordings in WAV, FLAC, Ogg, MP3 "
        "or M4A and films in MP4, WebM or Matroska are verified by their content. Any other type is kept unread."
    )
    base64 = serializers.CharField(
        required=False, help_text=f"The bytes, at most {MEDIA_BYTES_MAX} of them. Or `file`, or `sha256`."
    )
    file = serializers.CharField(required=False, help_text="The name of a part of a multipart/form-data body.")
    sha256 = serializers.RegexField(
        r"^[0-9a-f]{64}$",
        required=False,
        help_text="The digest alone, of an output that may not leave the service. Only for a model version of which "
        "the service reports features.",
    )
    size = serializers.IntegerField(required=False, min_value=1, help_text="Of the bytes; beside `sha256` alone.")
    fingerprint = serializers.RegexField(
        r"^([0-9a-f]{2}){0,64}$", required=False, help_text="The service's own fingerprint; beside `sha256` alone."
    )


class PartSerializer(StrictSerializer):
    text = serializers.CharField(
        max_length=OUTPUT_BYTES_MAX, allow_blank=True, trim_whitespace=False, required=False, help_text="Or `media`."
    )
    media = MediaSerializer(required=False)


class OutputSerializer(StrictSerializer):
    text = serializers.CharField(
        max_length=OUTPUT_BYTES_MAX,
        allow_blank=True,
        trim_whitespace=False,
        required=False,
        allow_null=True,
        help_text=f"At most {OUTPUT_BYTES_MAX} bytes of UTF-8. Null, as of a tool call, beside token_ids only. Or "
        "`media`, or `parts`.",
    )
    media = MediaSerializer(required=False, help_text="An output that is one picture, recording, film or other file.")
    parts = serializers.ListField(
        child=PartSerializer(),
        min_length=1,
        max_length=PARTS_MAX,
        required=False,
        help_text="An output of several parts, in order; each is text or media.",
    )
    token_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=TOKEN_ID_MAX),
        max_length=TOKEN_IDS_MAX,
        required=False,
        allow_null=True,
        help_text="The output's own tokens. Without them the text is tokenised again. They must decode to the text, "
        "special symbols, spaces and case aside. With the file of the model's tokeniser they are compared at the "
        "report (text-and-tokens-differ), else by the worker. Those of black boxes and pushed models are not compared.",
    )


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
        required=False,
        allow_null=True,
        help_text="Features that the service computed beside its model, for an index that takes them. Needs "
        "features:write.",
    )
    gross = GrossSerializer(
        required=False, allow_null=True, help_text="The charged amount, under a plan that shares revenue."
    )


class ReportSerializer(StrictSerializer):
    generations = serializers.ListField(child=GenerationSerializer(), min_length=1, max_length=BATCH_MAX)


class ItemProblemSerializer(serializers.Serializer[Any]):
    type = serializers.ChoiceField([f"/problems/{slug}" for slug in PROBLEMS])
    title = serializers.CharField()
    detail = serializers.CharField()
    field = serializers.CharField(required=False, help_text="Which field is meant.")
    line = serializers.IntegerField(required=False, help_text="Which line of the body is meant.")
    currency = serializers.CharField(required=False, help_text="Of a limit that is reached.")
    limit = serializers.CharField(required=False, help_text="The limit of the month's charges.")
    accrued = serializers.CharField(required=False, help_text="Charged in the month when the limit was reached.")
    until = serializers.DateTimeField(required=False, help_text="When the next month begins.")
    differs = serializers.ListField(
        child=serializers.ChoiceField(["model_version", "occurred_at", "prompt", "output", "gross"]),
        required=False,
        help_text="The parts that differ from the earlier report.",
    )


class ReportResultSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField(required=False, help_text="The line of the body, where it has lines.")
    external_id = serializers.CharField(allow_null=True, help_text="Null when the one given cannot be one.")
    status = serializers.ChoiceField([200, 201, 402, 409, 422])
    id = serializers.UUIDField(required=False)
    held = serializers.CharField(
        required=False, help_text="Why it waits: its model version has no index, or one that is not evaluated."
    )
    notice = serializers.CharField(
        required=False, help_text="Of a stored generation: it cannot be attributed, or a part of it is not read."
    )
    problem = ItemProblemSerializer(required=False)


class ReportedSerializer(serializers.Serializer[Any]):
    results = ReportResultSerializer(many=True)


class GenerationsView(GenerationListView):
    scopes = {**GenerationListView.scopes, "POST": ServiceKey.Scope.GENERATIONS_WRITE.value}
    parser_classes = (ShallowJSONParser, NDJSONParser, ReportWithFilesParser)
    renderer_classes = (QuickJSONRenderer,)

    @extend_schema(
        operation_id="report_generations",
        summary="Report generations",
        description=(
            "Up to 1,000 at once, always as a list. Every generation is judged alone and answered in the order given: "
            "201 stored; 200 stored before with the same body; 409 stored before with another body, `differs` names "
            "the parts; 402 the limit of the month is reached; "
            "422 refused, `problem` says why. One bad item does not affect the others, and repeating a "
            "report is safe. Needs the scope `generations:write`.\n\n"
            f"As `{NDJSON}` the body has one generation a line, up to {LINES_MAX:,} lines; each answer names its "
            "`line`. A body may be packed (`Content-Encoding: gzip` or `deflate`) and sent in chunks.\n\n"
            "An output is `text`, `media` or several `parts`. The bytes of media come as base64, or as files: the body "
            "is then `multipart/form-data` with this JSON as the part `report`, and `file` names another part."
        ),
        tags=["generations"],
        request={"application/json": ReportSerializer, NDJSON: GenerationSerializer},
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
                "A picture",
                request_only=True,
                value={
                    "generations": [
                        {
                            "external_id": "p1",
                            "model_version": "icons-1",
                            "occurred_at": "2026-10-03T10:00:00Z",
                            "prompt": {"text": "in the manner of Google"},
                            "output": {"media": {"type": "image/png", "base64": "iVBORw0KGgo="}},
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
        principal = principal_of(request)
        body: Any = request.data
        files: Mapping[str, bytes] = {}
        if isinstance(body, Report):
            body, files = body.body, body.uploaded
        batches = _batches_of(body) if isinstance(body, Lines) else [_generations_of(body)]
        results = [
            result
            for batch in batches
            for result in report_generations(
                service=principal.service,
                generations=batch,
                may_push_features=ServiceKey.Scope.FEATURES_WRITE.value in principal.scopes,
                at=timezone.now(),
                files=files,
            )
        ]
        if any(result.status == 201 for result in results):
            transaction.on_commit(hint)
        answers = [_as_json(result) for result in results]
        if isinstance(body, Lines):
            answers = [{"line": line, **answer} for line, answer in zip(body.numbers, answers, strict=True)]
        return Response({"results": answers}, status=207)


def _generations_of(body: Any) -> list[Any]:
    if not isinstance(body, Mapping) or set(body) != {"generations"} or not isinstance(body["generations"], list):
        raise UnableToReport('The body must be {"generations": [...]}.')
    return body["generations"]


def _batches_of(lines: Lines) -> Sequence[Sequence[Any]]:
    """Cut the lines into batches. Raises UnableToReport for no line or too many of them."""
    if not 1 <= len(lines) <= LINES_MAX:
        raise UnableToReport(f"A body has 1 to {LINES_MAX:,} lines with a generation each, not {len(lines):,}.")
    return [lines[start : start + BATCH_MAX] for start in range(0, len(lines), BATCH_MAX)]


def hint() -> None:
    """Tell a worker that there is something to do. The sweep finds it anyway, so that a lost hint loses nothing."""
    try:
        tasks.attribute_received.apply_async(retry=False, expires=tasks.HINT_EXPIRES_SECONDS)
    except OperationalError as error:
        log.warning("no hint was sent", error=str(error))


def _as_json(result: ReportResult) -> dict[str, Any]:
    answer: dict[str, Any] = {"external_id": result.external_id, "status": result.status}
    if result.refusal is None:
        said = {"held": result.held, "notice": result.notice}
        return {**answer, "id": result.id, **{name: words for name, words in said.items() if words}}
    slug = result.refusal.problem
    problem = {"type": f"/problems/{slug}", "title": PROBLEMS[slug], "detail": str(result.refusal)}
    return {**answer, "problem": {**problem, **result.refusal.members}}
