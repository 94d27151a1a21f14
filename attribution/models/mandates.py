"""Mandates of organisations that register works for many, and the works that services have fetched."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from attribution.models.model_services import ModelService
from contributors.models import Consent, Contributor
from people.models import User, uuid7


class Mandate(models.Model):
    """A proof that an organisation may register works, and state consent, for named contributors through a service.

    Consent is given only for the uses that the mandate names, and only while it holds.
    """

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="mandates")
    organisation = models.CharField(max_length=200)
    contributors = models.ManyToManyField(Contributor, related_name="mandates")
    uses = ArrayField(models.CharField(max_length=24, choices=Consent.Scope.choices), blank=True)
    # The place of the signed document, in words, and its digest.
    evidence = models.CharField(max_length=300)
    evidence_sha256 = models.BinaryField(max_length=32)
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True, blank=True)
    recorded_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(organisation=""), name="a_mandate_names_its_organisation"),
            models.CheckConstraint(condition=~Q(evidence=""), name="a_mandate_names_its_evidence"),
            models.CheckConstraint(
                condition=Q(valid_to__isnull=True) | Q(valid_to__gt=F("valid_from")),
                name="a_mandate_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return f"mandate of {self.organisation}"


class WorkDelivery(models.Model):
    """A content of a work that a service fetched, with the consent that allowed it. Append-only."""

    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="+", db_index=False)
    work = models.ForeignKey("contributors.Work", on_delete=models.PROTECT, related_name="deliveries")
    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="+", db_index=False)
    key_prefix = models.CharField(max_length=16)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["service", "at"], name="work_delivery_of_service")]

    def __str__(self) -> str:
        return f"{self.work} for {self.service}"
