"""Reads of indexes: build progress and evaluation results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from attribution.models import (
    AttributionIndex,
)


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """Progress of the workers on an index: steps done, steps known, the stage at work, and the obstacle, if any."""

    done: int
    steps: int
    stage: str
    error: str


def build_progress(index: AttributionIndex) -> BuildProgress | None:
    """Read the progress of an index that workers build; None for one that nobody queued, or that is built."""
    if index.state != AttributionIndex.State.BUILDING or index.queued_at is None:
        return None
    counts = index.steps.aggregate(steps=Count("pk"), done=Count("done_at"))
    at_work = index.steps.filter(done_at=None).order_by("position", "pk").first()
    failed = index.steps.exclude(error="").order_by("-failures").first()
    return BuildProgress(
        counts["done"], counts["steps"], at_work.stage if at_work else "", failed.error if failed else ""
    )


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One agreement of an audit: which queries, which predictor, the LDS and its 90 % interval."""

    queries: str
    predictor: str
    lds: float
    low: float
    high: float


def audit_rows(index: AttributionIndex) -> list[AuditRow]:
    """The agreements that an index's audit reports, own generations first; none before it was audited."""
    audit = index.audit or {}
    return [
        AuditRow(words, predictor.replace("_", " "), found["lds"], found["low"], found["high"])
        for part, words in (("own_generations", "the model's own generations"), ("held_out", "held-out text"))
        for predictor, found in audit.get(part, {}).items()
    ]


@dataclass(frozen=True, slots=True)
class PaidRow:
    """The paid shares of one rule on one kind of queries, as an audit judged them."""

    rule: str
    queries: str
    lds: float
    low: float
    high: float
    # Part of the pool that lies elsewhere than the effects found by retraining.
    misplaced: float
    holders: float
    # The share of an account that alone is cut into one an item, over its share before; None where nobody was paid.
    split_gain: float | None
    lds_split: float


RULES = {"rule_1": "Rule 1: sums of holders", "rule_2": "Rule 2: items, then sums"}


def paid_rows(index: AttributionIndex) -> list[PaidRow]:
    """The paid shares that an index's audit judged, by both rules; none where it is older than that."""
    paid: dict[str, Any] = (index.audit or {}).get("paid") or {}
    return [
        PaidRow(
            rule=RULES[rule],
            queries=words,
            lds=found["lds"],
            low=found["low"],
            high=found["high"],
            misplaced=found["tv"],
            holders=found["holders"],
            split_gain=found["split_gain"],
            lds_split=found["split"]["lds"],
        )
        for part, words in (("own_generations", "the model's own generations"), ("held_out", "held-out text"))
        for rule, found in paid.get(part, {}).items()
    ]
