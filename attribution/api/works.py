"""Works for model services: those with consent to a use, their contents, and the registration of works for many."""

from __future__ import annotations

import base64
import binascii
import uuid
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from attribution.api.authentication import HasScope, principal_of, service_of
from attribution.api.cursors import PARAMETERS, UnableToPage, address_after, after_of, limit_of, moment_of, page_of
from attribution.api.fields import UnableToReadBody, read_body
from attribution.api.problems import StrictSerializer, WritingView, problem_responses
from attribution.models import ServiceKey
from attribution.operations.deliveries import deliver_content
from attribution.operations.mandates import find_mandate, register_dataset_under, register_works_under
from attribution.queries.works import ConsentedWork, consent_feed, consented_works
from contributors.models import Consent, Work
from contributors.operations.works import WORKS_MAX, NewWork

READ, WRITE = ServiceKey.Scope.WORKS_READ.value, ServiceKey.Scope.WORKS_WRITE.value
PURPOSE = OpenApiParameter(
    "purpose", str, required=True, enum=Consent.Scope.values, description="The use that needs consent."
)


class ConsentSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    scope = serializers.ChoiceField(Consent.Scope.choices)
    value = serializers.ChoiceField(Consent.Value.choices)
    contributor = serializers.UUIDField()
    dataset = serializers.UUIDField(allow_null=True)
    work = serializers.UUIDField(allow_null=True)
    valid_from = serializers.DateTimeField()
    valid_to = serializers.DateTimeField(allow_null=True)
    recorded_at = serializers.DateTimeField()
    evidence_sha256 = serializers.CharField()


class ConsentsSerializer(serializers.Serializer[Any]):
    results = ConsentSerializer(many=True)
    next = serializers.URLField(help_text="The address of later statements; it stays true when there are none yet.")


class DatasetSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    licence = serializers.CharField()


class WorkSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    title = serializers.CharField()
    modality = serializers.ChoiceField(Work.Modality.choices)
    sha256 = serializers.CharField()
    fingerprint = serializers.CharField(help_text="Hexadecimal digits, by which a manifest may name the work.")
    size_bytes = serializers.IntegerField()
    published_on = serializers.DateField(allow_null=True)
    dataset = DatasetSerializer()
    contributor = serializers.UUIDField()
    holder = serializers.UUIDField()
    consent = ConsentSerializer(help_text="The statement that allows the use.")


class WorksSerializer(serializers.Serializer[Any]):
    results = WorkSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class NewDatasetSerializer(StrictSerializer):
    mandate = serializers.UUIDField(help_text="The recorded mandate of the organisation that acts.")
    contributor = serializers.UUIDField(help_text="One of the contributors of the mandate.")
    name = serializers.CharField(max_length=200)
    description = serializers.CharField(max_length=2_000, required=False, allow_blank=True)
    licence = serializers.CharField(max_length=200)
    uses = serializers.ListField(
        child=serializers.ChoiceField(Consent.Scope.choices),
        required=False,
        max_length=len(Consent.Scope.values),
        help_text="Uses to which the mandate lets the organisation consent; they hold for the dataset.",
    )


class NewWorkSerializer(StrictSerializer):
    title = serializers.CharField(max_length=300)
    modality = serializers.ChoiceField(Work.Modality.choices)
    content = serializers.CharField(trim_whitespace=False, help_text="Base64 of the bytes of the work.")
    published_on = serializers.DateField(required=False, allow_null=True)


class NewWorksSerializer(StrictSerializer):
    mandate = serializers.UUIDField()
    dataset = serializers.UUIDField()
    works = serializers.ListField(child=NewWorkSerializer(), min_length=1, max_length=WORKS_MAX)


class RegisteredWorkSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    title = serializers.CharField()
    sha256 = serializers.CharField()


class RegisteredWorksSerializer(serializers.Serializer[Any]):
    results = RegisteredWorkSerializer(many=True)


class MandatedDatasetSerializer(DatasetSerializer):
    contributor = serializers.UUIDField()
    uses = serializers.ListField(child=serializers.CharField())


class WorksView(WritingView):
    throttle_scope = "models"
    scopes = {"GET": READ, "POST": WRITE}

    @extend_schema(
        operation_id="list_works",
        summary="List the works with consent to a use",
        description=(
            "In the order of their registration. A page may be short, or empty, although `next` leads on. Needs the "
            "scope `works:read`."
        ),
        tags=["works"],
        parameters=[
            PURPOSE,
            OpenApiParameter("at", datetime, description="The moment at which consent holds; by default now."),
            OpenApiParameter("modality", str, enum=Work.Modality.values),
            *PARAMETERS,
        ],
        responses={200: WorksSerializer, **problem_responses(400)},
    )
    def get(self, request: Request) -> Response:
        modality = request.query_params.get("modality")
        if modality is not None and modality not in Work.Modality.values:
            raise UnableToPage("modality", f"is one of {', '.join(Work.Modality.values)}.")
        found, after = consented_works(
            purpose=_purpose(request),
            at=moment_of(request, "at") or timezone.now(),
            after=after_of(request) or 0,
            limit=limit_of(request),
            modality=modality,
        )
        following = None if after is None else address_after(request, after)
        return Response({"results": [_work_as_json(each) for each in found], "next": following})

    @extend_schema(
        operation_id="register_works",
        summary="Register works under a mandate",
        description=(
            "For an organisation that registers for many, with a recorded proof of mandate. All or none. Needs the "
            "scope `works:write`."
        ),
        tags=["works"],
        request=NewWorksSerializer,
        responses={201: RegisteredWorksSerializer, **problem_responses(400, 413, 415, 422)},
    )
    def post(self, request: Request) -> Response:
        body, at = read_body(request, NewWorksSerializer), timezone.now()
        mandate = find_mandate(service=service_of(request), public_id=str(body["mandate"]), at=at)
        works = [
            NewWork(work["title"], work["modality"], _content(place, work["content"]), work.get("published_on"))
            for place, work in enumerate(body["works"])
        ]
        made = register_works_under(mandate=mandate, dataset_id=str(body["dataset"]), works=works, at=at)
        results = [{"id": work.public_id, "title": work.title, "sha256": bytes(work.sha256).hex()} for work in made]
        return Response({"results": results}, status=201)


class ContentView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "models"
    scopes = {"GET": READ}

    @extend_schema(
        operation_id="get_work_content",
        summary="Fetch the content of a work",
        description="Only with consent to the purpose now; each delivery is recorded. Needs the scope `works:read`.",
        tags=["works"],
        parameters=[PURPOSE],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, **problem_responses(400, 404)},
    )
    def get(self, request: Request, id: uuid.UUID) -> HttpResponse:
        principal = principal_of(request)
        purpose, work = _purpose(request), get_object_or_404(Work, public_id=id)
        found = deliver_content(
            service=principal.service, work=work, purpose=purpose, key_prefix=principal.prefix, at=timezone.now()
        )
        answer = HttpResponse(found, content_type="application/octet-stream")
        answer["Content-Disposition"] = f'attachment; filename="{work.public_id}"'
        answer["ETag"] = f'"{bytes(work.sha256).hex()}"'
        return answer


class DatasetsView(WritingView):
    throttle_scope = "models"
    scopes = {"POST": WRITE}

    @extend_schema(
        operation_id="register_dataset",
        summary="Open a dataset under a mandate",
        description=(
            "Of one contributor of the mandate. Consent is given to `uses` alone, each of which the mandate names, and "
            "ends with the mandate. Needs the scope `works:write`."
        ),
        tags=["works"],
        request=NewDatasetSerializer,
        responses={201: MandatedDatasetSerializer, **problem_responses(400, 413, 415, 422)},
    )
    def post(self, request: Request) -> Response:
        body, at = read_body(request, NewDatasetSerializer), timezone.now()
        mandate = find_mandate(service=service_of(request), public_id=str(body["mandate"]), at=at)
        uses = sorted(set(body.get("uses", [])))
        dataset = register_dataset_under(
            mandate=mandate,
            contributor_id=str(body["contributor"]),
            name=body["name"],
            description=body.get("description", ""),
            licence=body["licence"],
            uses=uses,
            at=at,
        )
        made = {"id": dataset.public_id, "name": dataset.name, "licence": dataset.licence}
        return Response({**made, "contributor": body["contributor"], "uses": uses}, status=201)


class ConsentsView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "models"
    scopes = {"GET": READ}

    @extend_schema(
        operation_id="list_consents",
        summary="Read the feed of consents",
        description=(
            "Every permission and refusal in the order in which it was recorded. Keep `next` and ask it again later: "
            "no statement is missed or told twice. Needs the scope `works:read`."
        ),
        tags=["works"],
        parameters=PARAMETERS,
        responses={200: ConsentsSerializer, **problem_responses(400)},
    )
    def get(self, request: Request) -> Response:
        found, following = page_of(request, consent_feed())
        if following is None:
            # The end of the feed today: later statements follow this one.
            last = found[-1].pk if found else after_of(request) or 0
            following = address_after(request, last)
        return Response({"results": [consent_as_json(consent) for consent in found], "next": following})


def _purpose(request: Request) -> str:
    told = request.query_params.get("purpose", "")
    if told not in Consent.Scope.values:
        raise UnableToPage("purpose", f"is one of {', '.join(Consent.Scope.values)}.")
    return told


def _content(place: int, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnableToReadBody(f"works.{place}.content", "must be base64.") from None


def consent_as_json(consent: Consent) -> dict[str, Any]:
    return {
        "id": consent.public_id,
        "scope": consent.scope,
        "value": consent.value,
        "contributor": consent.contributor.public_id,
        "dataset": consent.dataset.public_id if consent.dataset else None,
        "work": consent.work.public_id if consent.work else None,
        "valid_from": consent.valid_from,
        "valid_to": consent.valid_to,
        "recorded_at": consent.recorded_at,
        "evidence_sha256": bytes(consent.evidence_sha256).hex(),
    }


def _work_as_json(found: ConsentedWork) -> dict[str, Any]:
    work = found.work
    return {
        "id": work.public_id,
        "title": work.title,
        "modality": work.modality,
        "sha256": bytes(work.sha256).hex(),
        "fingerprint": bytes(work.fingerprint).hex(),
        "size_bytes": work.size_bytes,
        "published_on": work.published_on,
        "dataset": {"id": work.dataset.public_id, "name": work.dataset.name, "licence": work.dataset.licence},
        "contributor": work.dataset.contributor.public_id,
        "holder": work.holder.public_id,
        "consent": consent_as_json(found.consent),
    }
