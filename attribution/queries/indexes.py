"""Reads of indexes: build progress and evaluation results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from attribution.models import AttributionIndex

BILLION = 10**9


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


@dataclass(frozen=True, slots=True)
class ControlRow:
    """A planted contributor of an evaluation: its paid share with one account and with one an item, in parts per
    billion, and its part of the items; None where it is not told."""

    contributor: str
    share: int
    split: int | None
    items: int | None


def control_rows(index: AttributionIndex) -> list[ControlRow]:
    """Read the planted contributors of an index's evaluation; none where none could be planted."""
    told: dict[str, float] = (index.audit or {}).get("controls") or {}
    if not told:
        return []

    def ppb(name: str) -> int | None:
        return round(told[name] * BILLION) if name in told else None

    return [
        ControlRow("Random tokens", ppb("noise") or 0, ppb("noise_split"), ppb("noise_items")),
        ControlRow("An exact copier", ppb("copier") or 0, ppb("copier_split"), None),
        ControlRow("The copied contributor", ppb("copied") or 0, None, None),
    ]


def agreement(index: AttributionIndex) -> dict[str, float]:
    """Agreement of the paid shares with retraining on own generations, by the index's own rule: "lds", "low", "high".

    An evaluation that judged scores alone, as the first ones did, gives theirs. Empty before an evaluation.
    """
    audit: dict[str, Any] = index.audit or {}
    of_scores = (audit.get("own_generations") or {}).get("specific")
    of_shares = ((audit.get("paid") or {}).get("own_generations") or {}).get(f"rule_{index.rule}")
    found: dict[str, float] = of_shares or of_scores or {}
    return found


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
