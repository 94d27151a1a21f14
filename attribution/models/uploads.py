"""Checkpoints that a service uploads in parts: the announced files, and the state of the upload."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from attribution.models.model_services import ModelService
from people.models import uuid7


class CheckpointUpload(models.Model):
    """A directory that a service uploads file by file, each in parts. Its bytes lie under TRIBUTARY_DATA/uploads/."""

    # open -> complete (every digest agrees, the directory is in the store); open -> expired (its bytes are removed)
    class State(models.TextChoices):
        OPEN = "open"
        COMPLETE = "complete"
        EXPIRED = "expired"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "open": {"complete", "expired"},
        "complete": set(),
        "expired": set(),
    }
    BEGINS: ClassVar[set[str]] = {"open"}

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="uploads")
    part_size = models.IntegerField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    # The digest of the whole directory, as ModelVersion.checkpoint_sha256.
    sha256 = models.BinaryField(max_length=32, null=True, blank=True)
    created_at = models.DateTimeField()
    # Each part prolongs it.
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["expires_at"], condition=Q(state="open"), name="upload_to_expire")]
        constraints = [
            models.CheckConstraint(condition=Q(part_size__gt=0), name="an_upload_has_parts_of_a_size"),
            models.CheckConstraint(
                condition=Q(state="complete", sha256__isnull=False) | (~Q(state="complete") & Q(sha256__isnull=True)),
                name="a_complete_upload_has_a_digest",
            ),
            models.CheckConstraint(condition=Q(expires_at__gt=F("created_at")), name="an_upload_ends_after_it_begins"),
        ]

    def __str__(self) -> str:
        return f"upload {self.public_id}"

    @property
    def directory(self) -> str:
        """The place of its files, relative to TRIBUTARY_DATA."""
        return f"uploads/{self.public_id}"


class UploadFile(models.Model):
    """A file of an upload as it was announced; the bytes on disk say how much of it is received."""

    upload = models.ForeignKey(CheckpointUpload, on_delete=models.CASCADE, related_name="files")
    path = models.CharField(max_length=300)
    size = models.BigIntegerField()
    sha256 = models.BinaryField(max_length=32)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["upload", "path"], name="an_upload_names_a_file_once"),
            models.CheckConstraint(condition=Q(size__gte=0), name="a_file_has_a_size"),
        ]

    def __str__(self) -> str:
        return self.path
