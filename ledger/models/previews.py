"""The would-be effect of a proposed plan on a past month, as computed once and kept for its readers."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from ledger.models.books import Period
from ledger.models.royalties import RoyaltyPlan


class PlanPreview(models.Model):
    """One proposal over one month: its winners and its losers. It moves nothing."""

    # waiting -> done | failed (with the reason)
    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        FAILED = "failed"

    plan = models.ForeignKey(RoyaltyPlan, on_delete=models.CASCADE, related_name="previews")
    period = models.ForeignKey(Period, on_delete=models.CASCADE, related_name="previews")
    state = models.CharField(max_length=7, choices=State.choices, default=State.WAITING)
    error = models.CharField(max_length=300, blank=True)
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    computed_at = models.DateTimeField(null=True, blank=True)
    n_generations = models.BigIntegerField(default=0)
    # {line: [under the plans in effect, under the proposal]}, in units of the currency; see ledger.previewing.
    totals = models.JSONField(default=dict)
    # Parallel: each contributor's units under the plans in effect and under the proposal, base pool included.
    contributor_ids = ArrayField(models.BigIntegerField(), default=list)
    before = ArrayField(models.BigIntegerField(), default=list)
    after = ArrayField(models.BigIntegerField(), default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["plan", "period"], condition=Q(state="waiting"), name="a_preview_waits_once"
            ),
            models.CheckConstraint(
                condition=Q(state="done", computed_at__isnull=False) | ~Q(state="done"), name="a_done_preview_says_when"
            ),
            models.CheckConstraint(condition=~Q(state="failed") | ~Q(error=""), name="a_failed_preview_says_why"),
        ]

    def __str__(self) -> str:
        return f"{self.plan} over {self.period_id}"
