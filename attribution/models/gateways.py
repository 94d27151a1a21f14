"""Reports by way of gateways: names of models, reports that wait for a name, and counts of all that arrived."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from attribution.models.model_services import ModelService
from attribution.models.model_versions import ModelVersion
from people.models import User, uuid7


class ModelName(models.Model):
    """A gateway's name of a model, led to a model version for a time.

    Only its end is ever set (trigger), so that a generation of the past keeps its model version.
    """

    class Kind(models.TextChoices):
        EXACT = "exact", "This name"
        PREFIX = "prefix", "Every name that begins so"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="model_names")
    kind = models.CharField(max_length=6, choices=Kind.choices)
    pattern = models.CharField(max_length=200)
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="names")
    # For generations that occurred from the one moment on and before the other.
    begins_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    recorded_at = models.DateTimeField()
    recorded_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["service", "kind", "pattern"],
                condition=Q(ends_at__isnull=True),
                name="a_name_leads_to_one_model_version",
            ),
            models.CheckConstraint(condition=~Q(pattern=""), name="model_name_is_not_empty"),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gte=F("begins_at")),
                name="model_name_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pattern}*" if self.kind == self.Kind.PREFIX else self.pattern

    def matches(self, name: str) -> bool:
        return name.startswith(self.pattern) if self.kind == self.Kind.PREFIX else name == self.pattern


class WaitingReport(models.Model):
    """A well-formed report of a model that no name leads to yet. It becomes a generation when one does."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="waiting_reports")
    external_id = models.CharField(max_length=200)
    model_name = models.CharField(max_length=200)
    door = models.CharField(max_length=20)
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    # The generation as its service would report it, without a model version.
    body = models.JSONField()
    n_bytes = models.IntegerField()
    request_sha256 = models.BinaryField(max_length=32)
    # The refusal of the last try to make it a generation; it is tried again when the names change.
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["service", "model_name"], name="waiting_report_by_name"),
            models.Index(fields=["received_at"], name="waiting_report_by_age"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["service", "external_id"], name="an_external_id_waits_once"),
        ]

    def __str__(self) -> str:
        return self.external_id


class GatewayTally(models.Model):
    """A count of records that one door took on one day, by outcome and reason."""

    class Outcome(models.TextChoices):
        STORED = "stored"
        KNOWN = "known", "Known already"
        WAITING = "waiting"
        SKIPPED = "skipped"
        REFUSED = "refused"
        EXPIRED = "expired", "Waited too long"

    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="tallies")
    day = models.DateField()
    door = models.CharField(max_length=20)
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    reason = models.CharField(max_length=200, blank=True)
    n = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["service", "day", "door", "outcome", "reason"], name="a_door_counts_an_outcome_once_a_day"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.n} {self.outcome} by {self.door} on {self.day}"
