"""The base of every view of the API: strict input, problem details, the key scheme in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.utils import OpenApiResponse
from rest_framework import parsers, serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from attribution.api.authentication import HasScope
from attribution.api.bodies import ShallowJSONParser, too_large

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
    "invalid-media": "The content of a part contradicts its type, or the type is not taken.",
    "limit-reached": "The service has reached the limit that it set for its charges of the month.",
    "malformed-line": "A line of the body is not JSON.",
    "malformed-text": "A text cannot be stored as UTF-8.",
    "media-too-large": "A part of the output is too large.",
    "missing-content": "The model version is measured here, and the bytes of the output are missing.",
    "missing-features": "The model version is attributed by features that the service reports, and there are none.",
    "missing-field": "A field is missing.",
    "missing-file": "A part of the output names a file that did not come with the request.",
    "no-room-to-wait": "Too many reports of the service wait for a name of their model.",
    "no-manifest": "The model version has no training manifest, so that nobody can be credited.",
    "retired-model-version": "The model version is retired.",
    "text-and-tokens-differ": "The text and the token ids of the output contradict each other.",
    "text-too-long": "A text is too long.",
    "token-outside-vocabulary": "The model has no token of this number.",
    "too-many-tokens": "There are too many token ids.",
    "unexpected-features": "No index of the model version takes features.",
    "unknown-currency": "No royalty plan has this currency.",
    "unknown-field": "There is a field that nobody reads.",
    "unknown-model-version": "The service has no model version of this name.",
    "wrong-modality": "The output is of another kind than the model version makes.",
}


# --- what the documents say -------------------------------------------------------------------------------------------
class StrictSerializer(serializers.Serializer[Any]):
    """An object that takes no other fields than its own."""


class StrictSerializerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    target_class = "attribution.api.problems.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**schema, "additionalProperties": False}


class ServiceKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "attribution.api.authentication.ServiceKeyAuthentication"
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
    """Describe the problems that any operation may answer in place of its result."""
    meanings = {
        400: "The body is not JSON, or a parameter is not valid.",
        401: "No valid key was given.",
        403: "The key lacks the scope.",
        404: "There is nothing here for this key.",
        406: "Only JSON is spoken here.",
        409: "It contradicts the stored report.",
        410: "It was here, and is kept in an archive.",
        413: "The request is too large.",
        415: "The media type is none of this operation's, or the content encoding neither gzip nor deflate.",
        422: "The request as a whole cannot be carried out.",
        429: "Too many requests; Retry-After says when to come back.",
    }
    everywhere = (401, 403, 406, 429)
    return {
        (status, PROBLEM_JSON): OpenApiResponse(ProblemSerializer, meanings[status])
        for status in sorted({*statuses, *everywhere})
    }


# --- views ----------------------------------------------------------------------------------------------------------
class WritingView(APIView):
    """Base of the views to which a service sends a body. The body's length is checked before it is read."""

    permission_classes = (HasScope,)
    parser_classes: tuple[type[parsers.BaseParser], ...] = (ShallowJSONParser,)
    # True for a body that is read in blocks and has a limit of its own.
    is_streamed = False

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        bytes_max = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if not self.is_streamed and int(request.META.get("CONTENT_LENGTH") or 0) > bytes_max:
            raise too_large(bytes_max)
