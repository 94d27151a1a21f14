"""Reads of model versions, and of the models trained on a contributor's works."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Count, QuerySet

from attribution.models import (
    AttributionIndex,
    CheckpointUpload,
    Generation,
    ManifestWork,
    ModelService,
    ModelVersion,
    TrainingManifest,
)
from contributors.models import Contributor, Work
from contributors.queries import consents


def models_trained_on(contributor: Contributor) -> QuerySet[ManifestWork]:
    """The contributor's works in training manifests, each with its model version and the consent that allowed it."""
    return (
        ManifestWork.objects.filter(work__dataset__contributor=contributor)
        .select_related("work", "consent", "manifest__model_version__service")
        .order_by("manifest__model_version__name", "work__title", "pk")
    )


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model that was trained on works of a contributor, and the effect of a later withdrawal on it."""

    model_version: ModelVersion
    works: int
    # Of these, how many may no longer be used for the purpose of the version.
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
    allowed = {
        purpose: consents.consents_in_force(work_ids=sorted(works), scope=purpose, at=at)
        for purpose, works in _works_of_purposes(of_version).items()
    }
    return [
        TrainedModel(version, len(works), sum(work_id not in allowed[version.purpose] for work_id in works))
        for version, works in of_version.items()
    ]


def _works_of_purposes(of_version: Mapping[ModelVersion, Sequence[int]]) -> dict[str, set[int]]:
    """Join the works of all versions with the same purpose, so that consent is asked once a purpose."""
    found: dict[str, set[int]] = {}
    for version, works in of_version.items():
        found.setdefault(version.purpose, set()).update(works)
    return found


# --- services and their models --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class VersionSummary:
    """A model version, its training data, its attributing index, and the number of generations that wait for it."""

    model_version: ModelVersion
    manifest: TrainingManifest | None
    index: AttributionIndex | None
    waiting: int = 0
    # The reason for which reported generations wait; "" where they are attributed.
    holds: str = ""


def model_versions_of(service: ModelService, *, name: str | None = None, limit: int = 100) -> list[VersionSummary]:
    """Newest first."""
    versions = ModelVersion.objects.filter(service=service).select_related("manifest").order_by("-pk")
    if name is not None:
        versions = versions.filter(name=name)
    return summaries_of(versions[:limit])


def summaries_of(versions: Iterable[ModelVersion]) -> list[VersionSummary]:
    """Summarise these versions, in their order."""
    found = list(versions)
    serving = {
        index.model_version_id: index
        for index in AttributionIndex.objects.filter(model_version__in=found, serving=True)
    }
    received = Generation.objects.filter(model_version__in=found, state=Generation.State.RECEIVED)
    waiting = dict(received.values_list("model_version_id").annotate(n=Count("pk")).order_by())
    return [
        VersionSummary(
            version,
            _manifest_of(version),
            serving.get(version.pk),
            waiting.get(version.pk, 0),
            why_held(serving.get(version.pk)),
        )
        for version in found
    ]


def checkpoints_of(service: ModelService, limit: int = 50) -> list[tuple[str, str]]:
    """List a service's uploaded checkpoints, the newest first: the digest, and words for it."""
    rows = CheckpointUpload.objects.filter(service=service, state=CheckpointUpload.State.COMPLETE).order_by("-pk")
    digests = {bytes(row.sha256 or b"").hex(): row for row in rows[:limit]}
    return [
        (digest, f"{digest[:12]}…, uploaded {row.created_at:%Y-%m-%d %H:%M} UTC") for digest, row in digests.items()
    ]


def successors_of(version: ModelVersion) -> QuerySet[ModelVersion]:
    """The versions of the same service that could run in place of this one."""
    ready = ModelVersion.objects.filter(service_id=version.service_id, state=ModelVersion.State.READY)
    return ready.exclude(pk=version.pk).order_by("-pk")


def why_held(index: AttributionIndex | None) -> str:
    """Say why reported generations wait for the index that serves a version; "" where it attributes them."""
    if index is None:
        return "No index attributes this model version yet: build one. Its generations wait."
    if index.settles:
        return ""
    return (
        "The index of this model version is not evaluated: its generations wait until it is, or until two people "
        "decide that the base pool pays them."
    )


def _manifest_of(version: ModelVersion) -> TrainingManifest | None:
    try:
        return version.manifest
    except ObjectDoesNotExist:
        return None
