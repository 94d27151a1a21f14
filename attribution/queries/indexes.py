"""Reads of indexes: build progress and evaluation results."""

from __future__ import annotations

from dataclasses import dataclass

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
