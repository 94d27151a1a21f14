"""Works, the datasets they are in, and which of them are duplicates of each other."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import F, Q

from contributors.models.people import PPB, Contributor
from contributors.models.splits import Holder
from people.models import uuid7


class Dataset(models.Model):
    """A named set of works that one contributor registered under one licence."""

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    licence = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["contributor", "name"], name="a_contributor_names_a_dataset_once"),
            models.CheckConstraint(condition=~Q(name=""), name="dataset_has_a_name"),
        ]

    def __str__(self) -> str:
        return self.name


class DuplicateCluster(models.Model):
    """Works that are the same or nearly so, registered by any contributors. Attribution splits a cluster's value."""

    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"cluster {self.pk}"


class Work(models.Model):
    """A unit of ownership, of consent and of receipts: a whole address, a whole picture.

    The content lies in a file named by its digest (see `content_path`), never in the database.
    """

    class Modality(models.TextChoices):
        TEXT = "text"
        IMAGE = "image"
        AUDIO = "audio"
        VIDEO = "video"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="works")
    holder = models.ForeignKey(Holder, on_delete=models.PROTECT, related_name="works")
    title = models.CharField(max_length=300)
    modality = models.CharField(max_length=5, choices=Modality.choices)
    sha256 = models.BinaryField(max_length=32)
    size_bytes = models.BigIntegerField()
    published_on = models.DateField(null=True, blank=True)
    # Text: the MinHash signature; image: the perceptual hash. Compared by contributors.operations.
    fingerprint = models.BinaryField(blank=True)
    cluster = models.ForeignKey(DuplicateCluster, on_delete=models.PROTECT, null=True, blank=True, related_name="works")
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["sha256"], name="work_sha256")]
        constraints = [
            models.UniqueConstraint(fields=["dataset", "sha256"], name="a_dataset_holds_a_content_once"),
            models.CheckConstraint(condition=Q(size_bytes__gt=0), name="work_is_not_empty"),
            models.CheckConstraint(condition=~Q(title=""), name="work_has_a_title"),
        ]
        triggers = [
            # A title may be corrected, a work may join a cluster; its content and its owner stay.
            pgtrigger.ReadOnly(
                name="a_work_keeps_its_content",
                fields=[
                    "public_id",
                    "dataset",
                    "modality",
                    "sha256",
                    "size_bytes",
                    "fingerprint",
                    "created_at",
                ],
            ),
            pgtrigger.Protect(name="a_work_is_never_deleted", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def kind_words(self) -> str:
        """Name its kind for readers: "a picture"."""
        words = {"text": "text", "image": "a picture", "audio": "a recording", "video": "a film"}
        return words[self.modality]

    @property
    def content_path(self) -> str:
        """The content's path, relative to TRIBUTARY_DATA."""
        digest = bytes(self.sha256).hex()
        return f"works/{digest[:2]}/{digest}"


class FingerprintBand(models.Model):
    """A part of a work's fingerprint. Works that share one are compared; the index makes a full scan unnecessary."""

    work = models.ForeignKey(Work, on_delete=models.PROTECT, related_name="bands", db_index=False)
    key = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "work"], name="a_work_has_a_band_once")]
        triggers = [pgtrigger.Protect(name="a_band_never_changes", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"band {self.key} of {self.work}"


class DuplicatePair(models.Model):
    """Two works found to be the same (`exact`) or nearly so (`near`), the earlier one first."""

    class Kind(models.TextChoices):
        EXACT = "exact"
        NEAR = "near"

    first = models.ForeignKey(Work, on_delete=models.PROTECT, related_name="duplicates_after")
    second = models.ForeignKey(Work, on_delete=models.PROTECT, related_name="duplicates_before")
    kind = models.CharField(max_length=5, choices=Kind.choices)
    similarity_ppb = models.BigIntegerField()
    found_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["first", "second"], name="a_duplicate_pair_is_found_once"),
            models.CheckConstraint(condition=Q(first__lt=F("second")), name="a_duplicate_pair_is_ordered"),
            models.CheckConstraint(
                condition=Q(similarity_ppb__gte=0, similarity_ppb__lte=PPB), name="similarity_is_a_part_of_the_whole"
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="a_duplicate_pair_never_changes", operation=pgtrigger.Update | pgtrigger.Delete)
        ]

    def __str__(self) -> str:
        return f"{self.first} = {self.second} ({self.kind})"
