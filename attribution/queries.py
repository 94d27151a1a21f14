"""Reads of attribution, for the layers above and for pages. Nothing here changes a row."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import ObjectDoesNotExist

from attribution.models import AttributionIndex, ModelService, ModelVersion, TrainingManifest


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """A model version, what it was trained on and what attributes its generations."""

    model_version: ModelVersion
    manifest: TrainingManifest | None
    index: AttributionIndex | None


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
    return [VersionSummary(version, _manifest_of(version), serving.get(version.pk)) for version in found]


def _manifest_of(version: ModelVersion) -> TrainingManifest | None:
    try:
        return version.manifest
    except ObjectDoesNotExist:
        return None
