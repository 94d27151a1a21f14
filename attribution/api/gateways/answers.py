"""The parts that all doors of gateways share: taking the records, hinting at workers, and the answer in JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request

from attribution.api.authentication import service_of
from attribution.api.generations import hint
from attribution.api.problems import PROBLEMS, WritingView
from attribution.models import GatewayTally, ServiceKey
from attribution.operations.dialects.calls import SKIPS, Item
from attribution.operations.gateways import RecordResult, take_records

OUTCOMES = [outcome.value for outcome in GatewayTally.Outcome if outcome != GatewayTally.Outcome.EXPIRED]
EXPLAINED = (
    "Each record is judged alone and answered in the order given: `stored` as a generation, `known` from before, "
    "`waiting` until the staff lead the model's name to a model version, `skipped` with a `reason`, or `refused` with "
    "a `problem`. Sending a record again is safe. The gateway's own cost of a call is never taken for its gross."
)


class RecordProblemSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    title = serializers.CharField()
    detail = serializers.CharField()
    field = serializers.CharField(required=False)
    line = serializers.IntegerField(required=False)


class RecordResultSerializer(serializers.Serializer[Any]):
    external_id = serializers.CharField(allow_null=True, help_text="The id under which the generation is stored.")
    outcome = serializers.ChoiceField(OUTCOMES)
    id = serializers.UUIDField(required=False)
    reason = serializers.CharField(required=False, help_text=f"Of a skipped record: {', '.join(sorted(SKIPS))}.")
    detail = serializers.CharField(required=False)
    problem = RecordProblemSerializer(required=False)


class RecordsTakenSerializer(serializers.Serializer[Any]):
    results = RecordResultSerializer(many=True)
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="How many of each outcome.")


class GatewayView(WritingView):
    """Base of the doors. A door names itself and reads its format into items."""

    throttle_scope = "report"
    scopes = {"POST": ServiceKey.Scope.GENERATIONS_WRITE.value}
    door: str

    def take(self, request: Request, items: Sequence[Item]) -> list[RecordResult]:
        results = take_records(service=service_of(request), door=self.door, items=items, at=timezone.now())
        if any(result.outcome == GatewayTally.Outcome.STORED for result in results):
            transaction.on_commit(hint)
        return results


def as_json(results: Sequence[RecordResult]) -> dict[str, Any]:
    return {
        "results": [_result(result) for result in results],
        "counts": dict(Counter(str(result.outcome) for result in results)),
    }


def _result(result: RecordResult) -> dict[str, Any]:
    answer: dict[str, Any] = {"external_id": result.external_id, "outcome": str(result.outcome)}
    if result.id is not None:
        answer["id"] = result.id
    if result.outcome == GatewayTally.Outcome.SKIPPED:
        answer |= {"reason": result.reason, "detail": result.words}
    if result.refusal is not None:
        answer["problem"] = problem_of(result)
    return answer


def problem_of(result: RecordResult) -> dict[str, Any]:
    assert result.refusal is not None, "A refused record has a refusal."
    slug = result.refusal.problem
    return {
        "type": f"/problems/{slug}",
        "title": PROBLEMS[slug],
        "detail": str(result.refusal),
        **result.refusal.members,
    }
