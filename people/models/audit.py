"""The audit log."""

from __future__ import annotations

from django.db import models


class AuditEvent(models.Model):
    """An act of a person or of the system: actor, time, address, age of the second factor in seconds. Append-only.

    A trigger sets `sequence`, `prev_hash` and `hash` under one lock: sha256(prev || canonical text of the row).
    """

    sequence = models.BigIntegerField(unique=True, editable=False)
    at = models.DateTimeField()
    actor = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    action = models.CharField(max_length=60)
    subject = models.CharField(max_length=120)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    ip = models.GenericIPAddressField(null=True, blank=True)
    mfa_age_seconds = models.IntegerField(null=True, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    prev_hash = models.BinaryField(max_length=32, editable=False)
    hash = models.BinaryField(max_length=32, unique=True, editable=False)

    class Meta:
        indexes = [
            models.Index(fields=["subject", "-sequence"], name="audit_events_of_a_subject"),
            models.Index(fields=["action", "-sequence"], name="audit_events_of_an_action"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"
