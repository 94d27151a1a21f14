"""Reads of stored attributions: shares, groups and evidence of a generation. Nothing here loads torch."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from attribution.models import Attribution, AttributionIndex, GeneralShares, Generation, ModelService, ModelVersion
from contributors.models import Holder, Work
from contributors.queries.contents import DamagedContent
from contributors.queries.works import content
from influence.evidence import Passage, shared_passage
from influence.shares import BILLION, GroupScore


# --- what a generation drew on --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class HolderShare:
    """One holder's part of one generation. `se_ppb` is the standard error of the specific part."""

    holder: Holder
    ppb: int
    se_ppb: int
    general_ppb: int
    score: float
    se: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A work behind a share, with its own score; `passage` is None where the content is not text."""

    work: Work
    score: float
    passage: Passage | None


def attribution_of(generation_id: uuid.UUID, *, revision: int | None = None) -> Attribution | None:
    """The latest attribution of a generation, or the one of a revision."""
    rows = Attribution.objects.filter(generation_id=generation_id).select_related(
        "generation__service", "index__model_version__manifest", "general"
    )
    if revision is not None:
        rows = rows.filter(revision=revision)
    return rows.order_by("-revision").first()


def general_key(index: AttributionIndex) -> str:
    """Key that decides between equal remainders of general shares, the same for every generation of an index."""
    return str(index.public_id)


@dataclass(frozen=True, slots=True)
class Group:
    """Holders that counted as one for a generation, with the scores of all their works together."""

    holder_ids: tuple[int, ...]
    score: float
    se: float
    general_score: float
    general_se: float

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        return {"holders": list(fields.pop("holder_ids")), **fields}

    @property
    def specific(self) -> GroupScore:
        return GroupScore(self.holder_ids, self.score, self.se)

    @property
    def general(self) -> GroupScore:
        return GroupScore(self.holder_ids, self.general_score, self.general_se)


def groups_of(attribution: Attribution | GeneralShares) -> list[Group]:
    return [
        Group(tuple(group["holders"]), **{k: v for k, v in group.items() if k != "holders"})
        for group in attribution.groups
    ]


def group_of(attribution: Attribution, holder_id: int) -> Group | None:
    """Find the group of the same beneficial owner that a holder counted in; None for a holder that counted alone."""
    return next((group for group in groups_of(attribution) if holder_id in group.holder_ids), None)


def shares_by_holder(attribution: Attribution) -> dict[int, int]:
    """Map each holder of the row to its specific share, in parts per billion."""
    return dict(zip(attribution.holder_ids, attribution.shares_ppb, strict=True))


def general_by_holder(attribution: Attribution) -> dict[int, int]:
    """Map each holder of the index to its general share, in parts per billion."""
    if attribution.general is not None:
        return dict(zip(attribution.general.holder_ids, attribution.general.ppb, strict=True))
    return dict(zip(attribution.holder_ids, attribution.general_ppb, strict=True))


def weighed_holders(attribution: Attribution) -> set[int]:
    """The holders of works in the index, paid or not."""
    return set(attribution.holder_ids if attribution.general is None else attribution.general.holder_ids)


def positive_sum(attribution: Attribution) -> float:
    """Sum the whole that shares are parts of: the positive scores of counted holders, a group once; the pay of items
    under rule 2."""
    if attribution.general is not None:
        return float(attribution.pay)
    groups = groups_of(attribution)
    grouped = {holder_id for group in groups for holder_id in group.holder_ids}
    alone = zip(attribution.holder_ids, attribution.scores, strict=True)
    scores: list[float] = [
        *(score for holder, score in alone if holder not in grouped),
        *(group.score for group in groups),
    ]
    return sum(max(score, 0.0) for score in scores)


def shares_of(attribution: Attribution) -> list[HolderShare]:
    """Every holder with a part in the direct or the general shares, the largest first."""
    specific, general = shares_by_holder(attribution), general_by_holder(attribution)
    named = {holder for holder in specific.keys() | general.keys() if specific.get(holder) or general.get(holder)}
    holders, positive = Holder.objects.in_bulk(named), positive_sum(attribution)
    places = {holder: place for place, holder in enumerate(attribution.holder_ids)}

    def figures(holder: int) -> tuple[int, float, float]:
        """(error on the scale of shares, score, error); rule 2 has the holder's pay in nats and no error."""
        if attribution.general is not None:
            return 0, attribution.pay * specific.get(holder, 0) / BILLION, 0.0
        score, error = attribution.scores[places[holder]], attribution.se[places[holder]]
        return min(round(error / positive * BILLION), BILLION) if positive > 0 else 0, score, error

    found = []
    for holder in named:
        se_ppb, score, se = figures(holder)
        found.append(
            HolderShare(
                holder=holders[holder],
                ppb=specific.get(holder, 0),
                se_ppb=se_ppb,
                general_ppb=general.get(holder, 0),
                score=score,
                se=se,
            )
        )
    return sorted(found, key=lambda share: (-share.ppb, -share.general_ppb, share.holder.pk))


def top_works(
    attribution: Attribution, *, holder_ids: Collection[int] | None = None, limit: int = 5, with_passages: bool = False
) -> dict[int, list[Evidence]]:
    """For each holder (all, or those asked for) the works behind its share, strongest first.

    `with_passages` reads the works' contents; ask for it only for the owners of the works.
    """
    wanted = {
        int(holder): works[:limit]
        for holder, works in attribution.top_works.items()
        if holder_ids is None or int(holder) in holder_ids
    }
    works = Work.objects.select_related("dataset").in_bulk(
        {int(work) for pairs in wanted.values() for work, _ in pairs}
    )
    output = attribution.generation.output_text if with_passages else ""
    return {
        holder: [
            Evidence(works[int(work)], score, _passage(works[int(work)], output) if with_passages else None)
            for work, score in pairs
        ]
        for holder, pairs in wanted.items()
    }


def _passage(work: Work, output: str) -> Passage | None:
    if work.modality != Work.Modality.TEXT:
        return None
    try:
        return shared_passage(content(work).decode("utf-8"), output)
    except (DamagedContent, UnicodeDecodeError):
        return None


def texts_due(service: ModelService, *, before: datetime) -> QuerySet[Generation]:
    """Select the generations of a service, reported before a moment, that are attributed and still have their text."""
    return Generation.objects.filter(service=service, received_at__lt=before, texts_deleted_at__isnull=True).exclude(
        state=Generation.State.RECEIVED
    )


def count_texts_due(at: datetime) -> int:
    """Count the generations of all services with texts past the period."""
    services = ModelService.objects.filter(text_retention_days__isnull=False)
    return sum(
        texts_due(service, before=at - timedelta(days=service.text_retention_days or 0)).count() for service in services
    )


# --- lists ----------------------------------------------------------------------------------------------------------
def generations_of(
    service: ModelService,
    *,
    external_id: str | None = None,
    state: str | None = None,
    model_version: ModelVersion | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: uuid.UUID | None = None,
) -> QuerySet[Generation]:
    """Select generations of a service, the last reported first, without their texts. `before` is an id."""
    given = {
        "external_id": external_id,
        "state": state,
        "model_version": model_version,
        "occurred_at__gte": since,
        "occurred_at__lt": until,
        "pk__lt": before,
    }
    rows = Generation.objects.filter(service=service, **{name: to for name, to in given.items() if to is not None})
    # The token ids and texts of one generation may have megabytes.
    shown = ("external_id", "model_version__name", "modality", "occurred_at", "received_at", "state", "error")
    return rows.select_related("model_version").only(*shown).order_by("-pk")
