"""Model versions, their training manifests and training items."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from attribution.models.model_services import ModelService
from people.models import uuid7


class ModelVersion(models.Model):
    """One trained checkpoint of a service's model, with everything needed to load it again."""

    # registered -> ready (its manifest is stored) -> retired; registered -> retired
    class State(models.TextChoices):
        REGISTERED = "registered"
        READY = "ready"
        RETIRED = "retired"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "registered": {"ready", "retired"},
        "ready": {"retired"},
        "retired": set(),
    }

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="model_versions")
    name = models.CharField(max_length=100)
    adapter = models.CharField(max_length=40)
    factory = models.CharField(max_length=40)
    config = models.JSONField(default=dict)
    # The directory models/<hex of this digest>/ under TRIBUTARY_DATA; the digest covers every file in it.
    checkpoint_sha256 = models.BinaryField(max_length=32)
    initial_sha256 = models.BinaryField(max_length=32, null=True, blank=True)
    trained_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.REGISTERED)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service", "name"], name="a_service_names_a_model_version_once"),
            models.CheckConstraint(condition=~Q(name=""), name="model_version_has_a_name"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def directory(self) -> str:
        """The model's directory, relative to TRIBUTARY_DATA."""
        return f"models/{bytes(self.checkpoint_sha256).hex()}"


class TrainingManifest(models.Model):
    """The exact training data of a model version."""

    model_version = models.OneToOneField(ModelVersion, on_delete=models.PROTECT, related_name="manifest")
    sha256 = models.BinaryField(max_length=32)
    n_items = models.IntegerField()
    n_works = models.IntegerField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(n_items__gt=0), name="manifest_has_items")]

    def __str__(self) -> str:
        return f"manifest of {self.model_version}"


class ManifestWork(models.Model):
    """A work of a manifest with the consent that allowed its use when the model was trained."""

    manifest = models.ForeignKey(TrainingManifest, on_delete=models.PROTECT, related_name="works")
    work = models.ForeignKey("contributors.Work", on_delete=models.PROTECT, related_name="manifest_works")
    consent = models.ForeignKey("contributors.Consent", on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["manifest", "work"], name="a_manifest_names_a_work_once")]

    def __str__(self) -> str:
        return f"{self.work} in {self.manifest}"


class TrainingItem(models.Model):
    """A part of a work that a model was trained on, in tokens of the model's own tokeniser."""

    manifest = models.ForeignKey(TrainingManifest, on_delete=models.PROTECT, related_name="items")
    ordinal = models.IntegerField()
    work = models.ForeignKey("contributors.Work", on_delete=models.PROTECT, related_name="training_items")
    token_start = models.IntegerField()
    token_end = models.IntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["manifest", "ordinal"], name="a_manifest_numbers_an_item_once"),
            models.CheckConstraint(
                condition=Q(token_start__gte=0, token_end__gt=F("token_start")),
                name="training_item_is_a_range_of_tokens",
            ),
        ]

    def __str__(self) -> str:
        return f"item {self.ordinal}"
