"""Reads of attribution, for the layers above and for pages. Nothing here changes a row, and nothing loads torch."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Count, Max, Q, QuerySet

from attribution.evidence import Passage, shared_passage
from attribution.models import (
    Attribution,
    AttributionIndex,
    Generation,
    ManifestWork,
    ModelService,
    ModelVersion,
    ServiceKey,
    TrainingManifest,
)
from attribution.shares import BILLION, GroupScore
from contributors import queries as contributor_queries
from contributors.models import Contributor, Holder, Work


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
        "generation__service", "index__model_version__manifest"
    )
    if revision is not None:
        rows = rows.filter(revision=revision)
    return rows.order_by("-revision").first()


def general_key(index: AttributionIndex) -> str:
    """What decides between equal remainders of general shares, which are the same for every generation of an index."""
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


def groups_of(attribution: Attribution) -> list[Group]:
    return [Group(tuple(group["holders"]), **{k: v for k, v in group.items() if k != "holders"})
            for group in attribution.groups]  # fmt: skip


def group_of(attribution: Attribution, holder_id: int) -> Group | None:
    """With whom a holder counted as one; None for one that counted alone."""
    return next((group for group in groups_of(attribution) if holder_id in group.holder_ids), None)


def positive_sum(attribution: Attribution) -> float:
    """What shares are parts of: the positive scores of those who count, a group once."""
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
    holders = Holder.objects.in_bulk(attribution.holder_ids)
    positive = positive_sum(attribution)
    found = [
        HolderShare(
            holder=holders[holder_id],
            ppb=ppb,
            se_ppb=min(round(error / positive * BILLION), BILLION) if positive > 0 else 0,
            general_ppb=general,
            score=score,
            se=error,
        )
        for holder_id, ppb, general, score, error in zip(
            attribution.holder_ids,
            attribution.shares_ppb,
            attribution.general_ppb,
            attribution.scores,
            attribution.se,
            strict=True,
        )
        if ppb or general
    ]
    return sorted(found, key=lambda share: (-share.ppb, -share.general_ppb, share.holder.pk))


def top_works(
    attribution: Attribution, *, holder_ids: Collection[int] | None = None, limit: int = 5, with_passages: bool = False
) -> dict[int, list[Evidence]]:
    """For each holder (all, or those asked for) the works behind its share, strongest first.

    `with_passages` reads the works' contents; ask for it only for those to whom the works belong.
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
        return shared_passage(contributor_queries.content(work).decode("utf-8"), output)
    except (contributor_queries.DamagedContent, UnicodeDecodeError):
        return None


def models_trained_on(contributor: Contributor) -> QuerySet[ManifestWork]:
    """The contributor's works in training manifests, each with its model version and the consent that allowed it."""
    return (
        ManifestWork.objects.filter(work__dataset__contributor=contributor)
        .select_related("work", "consent", "manifest__model_version__service")
        .order_by("manifest__model_version__name", "work__title", "pk")
    )


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model that was trained on works of a contributor, and what a withdrawal since then means for it."""

    model_version: ModelVersion
    works: int
    # Of these, how many may no longer be used to train a generative model.
    withdrawn: int

    @property
    def is_retired(self) -> bool:
        return self.model_version.state == ModelVersion.State.RETIRED


def trained_models(*, contributor: Contributor, at: datetime, work: Work | None = None) -> list[TrainedModel]:
    """The models trained on the contributor's works, or on one of them, each with its status of withdrawal."""
    rows = models_trained_on(contributor)
    if work is not None:
        rows = rows.filter(work=work)
    of_version: dict[ModelVersion, list[int]] = {}
    for row in rows:
        of_version.setdefault(row.manifest.model_version, []).append(row.work_id)
    allowed = contributor_queries.consents_in_force(
        work_ids=sorted({work_id for works in of_version.values() for work_id in works}),
        scope="train_generative",
        at=at,
    )
    return [
        TrainedModel(version, len(works), sum(work_id not in allowed for work_id in works))
        for version, works in of_version.items()
    ]


# --- services and their models --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class VersionSummary:
    """A model version, what it was trained on, what attributes its generations, and how many wait for that."""

    model_version: ModelVersion
    manifest: TrainingManifest | None
    index: AttributionIndex | None
    waiting: int = 0


def model_versions_of(service: ModelService, *, name: str | None = None, limit: int = 100) -> list[VersionSummary]:
    """Newest first."""
    versions = ModelVersion.objects.filter(service=service).select_related("manifest").order_by("-pk")
    if name is not None:
        versions = versions.filter(name=name)
    found = list(versions[:limit])
    serving = {
        index.model_version_id: index
        for index in AttributionIndex.objects.filter(model_version__in=found, serving=True)
    }
    received = Generation.objects.filter(model_version__in=found, state=Generation.State.RECEIVED)
    waiting = dict(received.values_list("model_version_id").annotate(n=Count("pk")).order_by())
    return [
        VersionSummary(version, _manifest_of(version), serving.get(version.pk), waiting.get(version.pk, 0))
        for version in found
    ]


def _manifest_of(version: ModelVersion) -> TrainingManifest | None:
    try:
        return version.manifest
    except ObjectDoesNotExist:
        return None


@dataclass(frozen=True, slots=True)
class ServiceSummary:
    service: ModelService
    keys_in_force: int
    model_versions: int
    last_used_at: datetime | None


def services(*, at: datetime) -> list[ServiceSummary]:
    """Every service by name, with what its list shows."""
    in_force = ServiceKey.objects.in_force(at)
    rows = ModelService.objects.annotate(
        n_keys=Count("keys", filter=Q(keys__in=in_force), distinct=True),
        n_versions=Count("model_versions", distinct=True),
        last_used_at=Max("keys__last_used_at"),
    )
    return [ServiceSummary(row, row.n_keys, row.n_versions, row.last_used_at) for row in rows.order_by("name")]


@dataclass(frozen=True, slots=True)
class KeyState:
    key: ServiceKey
    word: str
    in_force: bool


def keys_of(service: ModelService, *, at: datetime) -> list[KeyState]:
    """A service's keys, those in force first, each with the word for its state."""
    keys = ServiceKey.objects.filter(service=service).select_related("issued_by", "replaces").order_by("-pk")
    states = [KeyState(key, _word(key, at), key.in_force(at)) for key in keys]
    return sorted(states, key=lambda state: not state.in_force)


def _word(key: ServiceKey, at: datetime) -> str:
    if key.revoked_at and key.revoked_at <= at:
        return "revoked"
    if key.expires_at and key.expires_at <= at:
        return "expired"
    return "ending" if hasattr(key, "replaced_by") else "in force"


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far the workers are with an index: steps done, steps known, the stage at work, and what stands in the way."""

    done: int
    steps: int
    stage: str
    error: str


def build_progress(index: AttributionIndex) -> BuildProgress | None:
    """Of an index that workers build; None for one that nobody queued, or that is built."""
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
