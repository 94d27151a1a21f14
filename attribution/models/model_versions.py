"""Model versions, their training manifests and training items."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from attribution.models.model_services import ModelService
from contributors.models import Consent
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
    # The use that its training was, in the scopes of a consent: every work of its manifest needs consent to this use.
    purpose = models.CharField(max_length=24, choices=Consent.Scope.choices)
    # Texts of the service, for readers: the model that training began with, and the licence of this version.
    base_model = models.CharField(max_length=200, blank=True)
    licence = models.CharField(max_length=200, blank=True)
    # The input of its model, as it was registered: the number of its tokens, how many at a time, and the file of
    # its directory that decodes them. Null and "" where nobody here can tell.
    vocabulary = models.IntegerField(null=True, blank=True)
    context = models.IntegerField(null=True, blank=True)
    decoder = models.CharField(max_length=40, blank=True)
    # The directory models/<hex of this digest>/ under TRIBUTARY_DATA; the digest covers every file in it. Null for a
    # model that stays at its service and has pushed no features yet; they come with its first index.
    checkpoint_sha256 = models.BinaryField(max_length=32, null=True, blank=True)
    initial_sha256 = models.BinaryField(max_length=32, null=True, blank=True)
    # Null where only the end of the training is known. Consent must hold from here to `trained_at`.
    training_started_at = models.DateTimeField(null=True, blank=True)
    trained_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.REGISTERED)
    # The version that the service runs in its place. Only a retired version has one.
    superseded_by = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="supersedes"
    )
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service", "name"], name="a_service_names_a_model_version_once"),
            models.CheckConstraint(condition=~Q(name=""), name="model_version_has_a_name"),
            models.CheckConstraint(
                condition=Q(purpose__in=Consent.Scope.values), name="model_version_has_a_purpose_of_consent"
            ),
            models.CheckConstraint(
                condition=Q(checkpoint_sha256__isnull=False) | Q(factory="pushed"),
                name="only_a_pushed_model_version_lacks_a_checkpoint",
            ),
            models.CheckConstraint(
                condition=Q(training_started_at__isnull=True) | Q(training_started_at__lte=F("trained_at")),
                name="training_begins_before_it_ends",
            ),
            models.CheckConstraint(
                condition=Q(superseded_by__isnull=True) | Q(state="retired"), name="a_superseded_version_is_retired"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def directory(self) -> str:
        """The model's directory, relative to TRIBUTARY_DATA; empty for a model without files here."""
        return f"models/{bytes(self.checkpoint_sha256).hex()}" if self.checkpoint_sha256 else ""


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
    """A part of a work that a model was trained on, or the whole of it.

    A part of a text is a range of tokens of the model's own tokeniser; a part of anything else has a number.
    """

    manifest = models.ForeignKey(TrainingManifest, on_delete=models.PROTECT, related_name="items")
    ordinal = models.IntegerField()
    work = models.ForeignKey("contributors.Work", on_delete=models.PROTECT, related_name="training_items")
    token_start = models.IntegerField(null=True, blank=True)
    token_end = models.IntegerField(null=True, blank=True)
    part = models.IntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["manifest", "ordinal"], name="a_manifest_numbers_an_item_once"),
            models.CheckConstraint(
                condition=Q(token_start__gte=0, token_end__gt=F("token_start"), part__isnull=True)
                | Q(token_start__isnull=True, token_end__isnull=True),
                name="training_item_is_a_range_of_tokens_or_a_part",
            ),
            models.CheckConstraint(
                condition=Q(part__isnull=True) | Q(part__gte=0), name="training_item_numbers_its_part_from_0"
            ),
        ]

    def __str__(self) -> str:
        return f"item {self.ordinal}"
