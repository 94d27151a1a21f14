"""Faults of model versions: failures of a model's own code, and attempts that a worker did not live to end."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from attribution.models.model_versions import ModelVersion


class ModelFault(models.Model):
    """Failures of a model version in succession. After FAILURES_MAX of them it is set aside, with the last reason."""

    FAILURES_MAX = 3

    model_version = models.OneToOneField(ModelVersion, on_delete=models.PROTECT, related_name="fault")
    failures = models.IntegerField(default=0)
    reason = models.CharField(max_length=500)
    failed_at = models.DateTimeField()
    # Null while it is tried again. A person takes it up again.
    set_aside_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(failures__gte=0), name="failures_are_not_negative"),
            models.CheckConstraint(
                condition=Q(set_aside_at__isnull=True) | ~Q(reason=""), name="a_model_set_aside_says_why"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_version}: {self.reason}"


class MeasuringAttempt(models.Model):
    """One attempt of a worker at a batch. It is removed at its end, so that one left behind tells of a dead worker.

    The worker holds the advisory lock of the row's number while it lives.
    """

    id = models.BigIntegerField(primary_key=True)
    model_version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="attempts")
    started_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"attempt {self.pk} at {self.model_version_id}"
