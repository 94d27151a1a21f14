"""The receipt of one generation, for the model service that reported it."""

from __future__ import annotations

import uuid
from typing import Any

from django.urls import reverse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from attribution.api.authentication import HasScope, Principal
from attribution.api.problems import problem_responses
from attribution.models import Attribution, Generation, ServiceKey
from ledger.models import Period
from ledger.money import format_amount
from ledger.operations import pools
from ledger.queries import archived, receipt
from ledger.queries.receipt import HolderShare, ServiceReceipt
from people.presentation import dates

STATES = {
    "received": "Stored; its attribution is under way.",
    "attributed": (
        "Shares are known; the next accrual turns them into money, or the close of the month where the plan divides a "
        "pool: until then `estimate` gives the expected amount."
    ),
    "accrued": "Credited: amounts and the journal entry are final unless it is restated.",
    "unattributable": (
        "The model could not read it; `reason` says why. The next accrual charges its price, which goes to the base "
        "pool, and its state is then `accrued`; it stays `unattributable`, uncharged, where the plan leaves such "
        "generations free."
    ),
    "voided": "Voided by the service; its earnings are reversed.",
    "refused": "The royalty plan refuses it; `reason` says why. Nothing is charged.",
}


class WorkScoreSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="The work's public id.")
    score = serializers.FloatField(
        help_text="Summed influence of the training items cut from the work; under rule 2 the pay of its paid items."
    )


class ShareSerializer(serializers.Serializer[Any]):
    holder = serializers.UUIDField(help_text="The owner: the public id of a set of splits in force.")
    ppb = serializers.IntegerField(min_value=0, max_value=10**9, help_text="Parts per billion of the direct pool.")
    se_ppb = serializers.IntegerField(
        min_value=0, help_text="Standard error of the share, in parts per billion; 0 under rule 2, which needs none."
    )
    number = serializers.IntegerField(help_text="The holder's number, which decides between equal remainders.")
    part = serializers.IntegerField(
        allow_null=True, help_text="Rule 2: its part of the grid of 2^30, from which `ppb` follows; null under rule 1."
    )
    amount = serializers.CharField(allow_null=True, help_text="Credited, in `currency`; null until it is accrued.")
    works = WorkScoreSerializer(many=True, help_text="The holder's works behind the share, the strongest first.")


class EntrySerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    hash = serializers.CharField(help_text="SHA-256, hexadecimal. Entries are chained by it.")
    period = serializers.CharField(help_text="The month in which it is posted, YYYY-MM.")


class MediaFactsSerializer(serializers.Serializer[Any]):
    position = serializers.IntegerField(min_value=0, help_text="Among all parts of the output, text included.")
    type = serializers.CharField(help_text="The media type, verified by the content where it was reported.")
    sha256 = serializers.CharField()
    size = serializers.IntegerField(allow_null=True, help_text="In bytes.")
    kept = serializers.BooleanField(help_text="Whether the bytes were reported, and not their digest alone.")


class TokensSerializer(serializers.Serializer[Any]):
    given = serializers.IntegerField(min_value=0)
    read = serializers.IntegerField(min_value=0)


class ItemsSerializer(serializers.Serializer[Any]):
    paid_at_most = serializers.IntegerField(help_text="K: so many items with the largest scores can be paid.")
    counted = serializers.IntegerField(help_text="Training items that were judged, copies once.")
    threshold = serializers.FloatField(help_text="The score in nats that an item had to exceed, of item K + 1.")
    pay = serializers.FloatField(help_text="Sum in nats of the excess of all paid items, each times its factor.")


class ReceiptSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    external_id = serializers.CharField()
    model_version = serializers.CharField()
    modality = serializers.ChoiceField(Generation.Modality.choices, help_text="The kind of its output.")
    media = MediaFactsSerializer(many=True, help_text="The parts of the output that are not text.")
    occurred_at = serializers.DateTimeField()
    received_at = serializers.DateTimeField()
    texts_deleted_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When prompt, output and media were deleted, after the period of the service. Nothing can be "
        "measured anew from then on; digests, shares and entries stay.",
    )
    state = serializers.ChoiceField(list(STATES), help_text=" ".join(f"`{k}`: {v}" for k, v in STATES.items()))
    reason = serializers.CharField(
        allow_null=True, help_text="Why it is unattributable, voided or refused. It stays when it is accrued."
    )
    unattributable = serializers.BooleanField(help_text="No holder has a share: the base pool gets its price.")
    tokens = TokensSerializer(
        allow_null=True, help_text="The last `read` of the `given` tokens of prompt and output were read by the model."
    )
    revision = serializers.IntegerField(allow_null=True)
    index = serializers.UUIDField(allow_null=True)
    method = serializers.CharField(allow_null=True)
    weight_ppb = serializers.IntegerField(allow_null=True, help_text="The part of the pool that goes by attribution.")
    plan = serializers.CharField(allow_null=True)
    currency = serializers.CharField(allow_null=True)
    estimate = serializers.CharField(
        allow_null=True, help_text="The gross if the month closed now; only under a plan with a pool."
    )
    gross = serializers.CharField(allow_null=True)
    take = serializers.CharField(allow_null=True, help_text="The platform's part of the gross.")
    direct = serializers.CharField(allow_null=True, help_text="The part divided by shares.")
    floor = serializers.CharField(allow_null=True, help_text="The part for the base pool.")
    rule = serializers.IntegerField(
        allow_null=True, help_text="The rule of shares: 1 divides by sums of holders, 2 by single training items."
    )
    items = ItemsSerializer(allow_null=True, help_text="Rule 2: the figures that its shares come from.")
    shares = ShareSerializer(many=True)
    unattributed_ppb = serializers.IntegerField(allow_null=True)
    entry = EntrySerializer(allow_null=True)


class ReceiptView(APIView):
    permission_classes = (HasScope,)
    throttle_scope = "read"
    scopes = {"GET": ServiceKey.Scope.GENERATIONS_READ.value}

    @extend_schema(
        operation_id="get_generation",
        summary="Read a generation's receipt",
        description=(
            "The credits for one generation of this service: payees, amounts, works and journal entry. "
            "`take` + `direct`'s shares + `floor` make up `gross` exactly. Needs the scope `generations:read`."
        ),
        tags=["generations"],
        parameters=[OpenApiParameter("generation_id", uuid.UUID, OpenApiParameter.PATH)],
        responses={200: ReceiptSerializer, **problem_responses(404, 410)},
        examples=[
            OpenApiExample(
                "Accrued",
                response_only=True,
                status_codes=["200"],
                value={
                    "id": "0192f0c1-7d5c-7e57-9c5d-0d1f6b8f3c11",
                    "external_id": "g1",
                    "model_version": "sotu-1",
                    "modality": "text",
                    "media": [],
                    "occurred_at": "2026-10-03T10:00:00Z",
                    "received_at": "2026-10-03T10:00:02Z",
                    "texts_deleted_at": None,
                    "state": "accrued",
                    "reason": None,
                    "unattributable": False,
                    "tokens": {"given": 131, "read": 129},
                    "revision": 1,
                    "index": "0192f0c1-0000-7000-8000-000000000001",
                    "method": "midpoint",
                    "weight_ppb": 250_000_000,
                    "plan": "USD plan 1",
                    "currency": "USD",
                    "estimate": None,
                    "gross": "0.050000000",
                    "take": "0.010000000",
                    "direct": "0.008000000",
                    "floor": "0.032000000",
                    "rule": 2,
                    "items": {"paid_at_most": 100, "counted": 1_082, "threshold": 0.00012, "pay": 0.0173},
                    "shares": [
                        {
                            "holder": "0192f0c1-0000-7000-8000-000000000002",
                            "ppb": 1_000_000_000,
                            "se_ppb": 0,
                            "number": 4,
                            "part": 1_073_741_824,
                            "amount": "0.008000000",
                            "works": [{"id": "0192f0c1-0000-7000-8000-000000000003", "score": 0.0173}],
                        }
                    ],
                    "unattributed_ppb": 0,
                    "entry": {"id": 7, "hash": "5f" * 32, "period": "2026-10"},
                },
            )
        ],
    )
    def get(self, request: Request, generation_id: uuid.UUID) -> Response:
        assert isinstance(request.user, Principal)
        found = receipt.receipt_for_service(generation_id, request.user.service.pk)
        if found is None:
            # Another service's generation is as unknown as one that does not exist.
            raise NotFound("This service has no such generation.")
        if found.standing.state == "archived":
            raise UnableToReadReceipt(archived.archived_month(found.standing.generation))
        return Response(_as_json(found))


class UnableToReadReceipt(Exception):
    """Its documents were moved out of the database with those of its month; `members` carry the month's proof."""

    status = 410
    problem = "receipt-archived"

    def __init__(self, month: Period | None) -> None:
        words = "The receipt was moved to an archive with those of its month"
        self.members: dict[str, Any] = {}
        if month is not None:
            assert month.closed_at is not None, "a month is archived after it was closed"
            words += f", {month.code}, after the month was closed on {dates.day(month.closed_at)}"
            self.members = {
                "period": month.code,
                "closed_at": month.closed_at,
                "sealed_at": month.sealed_at,
                "root": month.root_hex or None,
                "roots": reverse("ledger:roots_json"),
            }
        super().__init__(f"{words}. Its credits stand in the journal under the month's published root.")


def _as_json(found: ServiceReceipt) -> dict[str, Any]:
    standing, division = found.standing, found.division
    generation, attribution, accrual = standing.generation, standing.attribution, standing.accrual
    entry = standing.taken_back or standing.entry
    estimated = pools.estimated_gross(generation=generation) if standing.state == "attributed" else None
    currency = accrual.plan.currency if accrual else (generation.currency if estimated is not None else None)

    def amount(units: int | None) -> str | None:
        return None if units is None or currency is None else format_amount(units, currency)

    return {
        "id": str(generation.pk),
        "external_id": generation.external_id,
        "model_version": generation.model_version.name,
        "modality": generation.modality,
        "media": _media(generation),
        "occurred_at": generation.occurred_at,
        "received_at": generation.received_at,
        "texts_deleted_at": generation.texts_deleted_at,
        "state": standing.state,
        "reason": _reason(found),
        "unattributable": attribution.unattributable if attribution else generation.state == "unattributable",
        "tokens": _tokens(attribution) if generation.modality in {"text", "mixed"} else None,
        "revision": attribution.revision if attribution else None,
        "index": str(attribution.index.public_id) if attribution else None,
        "method": attribution.index.method if attribution else None,
        "weight_ppb": attribution.weight_ppb if attribution else None,
        "plan": str(accrual.plan) if accrual else None,
        "currency": currency,
        "estimate": amount(estimated),
        "gross": amount(division.gross if division else None),
        "take": amount(division.take if division else None),
        "direct": amount(division.direct if division else None),
        "floor": amount(division.to_floor_pool if division else None),
        "rule": attribution.rule if attribution else None,
        "items": _items(attribution),
        "shares": [_share_as_json(share, amount(share.amount)) for share in found.shares],
        "unattributed_ppb": attribution.unattributed_ppb if attribution else None,
        "entry": ({"id": entry.pk, "hash": bytes(entry.hash).hex(), "period": entry.period.code} if entry else None),
    }


def _media(generation: Generation) -> list[dict[str, Any]]:
    if generation.modality == Generation.Modality.TEXT:
        return []
    return [
        {
            "position": part.position,
            "type": part.media_type,
            "sha256": bytes(part.sha256).hex(),
            "size": part.size_bytes,
            "kept": part.is_kept and generation.texts_deleted_at is None,
        }
        for part in generation.media.order_by("position")
    ]


def _tokens(attribution: Attribution | None) -> dict[str, int] | None:
    if attribution is None or not attribution.given_tokens:
        return None
    return {"given": attribution.given_tokens, "read": attribution.read_tokens}


def _items(attribution: Attribution | None) -> dict[str, Any] | None:
    if attribution is None or attribution.rule != Attribution.Rule.ITEMS:
        return None
    return {
        "paid_at_most": attribution.items_paid,
        "counted": attribution.items_counted,
        "threshold": attribution.threshold,
        "pay": attribution.pay,
    }


def _reason(found: ServiceReceipt) -> str | None:
    if found.standing.void is not None:
        return found.standing.void.words
    if found.standing.refusal is not None:
        refusal = found.standing.refusal
        return refusal.detail or str(refusal.get_reason_display())
    return found.standing.generation.error or None


def _share_as_json(share: HolderShare, amount: str | None) -> dict[str, Any]:
    return {
        "holder": str(share.holder.public_id),
        "ppb": share.ppb,
        "se_ppb": share.se_ppb,
        "number": share.holder.pk,
        "part": share.part,
        "amount": amount,
        "works": [{"id": str(work.public_id), "score": score} for work, score in share.works],
    }
