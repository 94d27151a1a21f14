"""Changes after a report or an accrual: generations that are void, and restatements by a new index.

Staff propose both, and somebody else confirms; a service takes its own generations back by itself.
"""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from ledger.models.proposals import Proposal, decided_by_another


class Void(models.Model):
    """A generation that the service takes back: it was a test, or was refunded. It earns nothing from then on."""

    class Reason(models.TextChoices):
        TEST = "test", "it was a test"
        REFUNDED = "refunded", "its user was refunded"
        DUPLICATE = "duplicate", "it was reported twice"
        MISTAKE = "mistake", "it was reported by mistake"

    generation = models.OneToOneField(
        "attribution.Generation", on_delete=models.PROTECT, primary_key=True, related_name="void"
    )
    reason = models.CharField(max_length=9, choices=Reason.choices)
    detail = models.CharField(max_length=300, blank=True)
    # Null where the service itself asked for it.
    voided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    voided_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(reason__in=["test", "refunded", "duplicate", "mistake"]), name="a_void_has_a_known_reason"
            )
        ]

    def __str__(self) -> str:
        return f"{self.generation_id} void: {self.reason}"

    @property
    def words(self) -> str:
        """Why, in words."""
        return f"{self.get_reason_display()}: {self.detail}" if self.detail else str(self.get_reason_display())


class VoidProposal(Proposal):
    """That a generation is taken back by staff, where its service does not do so itself."""

    # proposed -> voided (somebody else confirmed it) | rejected
    class State(models.TextChoices):
        PROPOSED = "proposed"
        VOIDED = "voided"
        REJECTED = "rejected"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "proposed": {"voided", "rejected"},
        "voided": set(),
        "rejected": set(),
    }
    BEGINS: ClassVar[set[str]] = {"proposed"}

    generation = models.ForeignKey("attribution.Generation", on_delete=models.PROTECT, related_name="void_proposals")
    reason = models.CharField(max_length=9, choices=Void.Reason.choices)
    # Why it is staff that voids it. It stands on the receipts of contributors.
    detail = models.CharField(max_length=300)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["generation"], condition=Q(state="proposed"), name="a_void_is_proposed_once_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(reason__in=["test", "refunded", "duplicate", "mistake"]),
                name="a_proposed_void_has_a_known_reason",
            ),
            models.CheckConstraint(condition=~Q(detail=""), name="a_void_by_staff_says_why"),
            *decided_by_another(
                accepted="voided",
                says="a_decided_void_says_by_whom_and_when",
                another="a_void_by_staff_is_confirmed_by_somebody_else",
            ),
        ]

    def __str__(self) -> str:
        return f"void of {self.generation_id} proposed"


class Restatement(models.Model):
    """One generation, or all of a model version, attributed again by an index that took over later. All of a version
    are worked on in batches."""

    # proposed -> running (another person confirmed it) | rejected; running -> done.
    class State(models.TextChoices):
        PROPOSED = "proposed"
        RUNNING = "running"
        DONE = "done"
        REJECTED = "rejected"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "proposed": {"running", "rejected"},
        "running": {"done"},
        "done": set(),
        "rejected": set(),
    }
    BEGINS: ClassVar[set[str]] = {"proposed"}

    index = models.ForeignKey("attribution.AttributionIndex", on_delete=models.PROTECT, related_name="restatements")
    # Null where every generation of the index's model version is restated.
    generation = models.ForeignKey(
        "attribution.Generation", on_delete=models.PROTECT, null=True, blank=True, related_name="restatements"
    )
    reason = models.CharField(max_length=300)
    # Generations that occurred before are left as they are.
    since = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    n_attributed = models.BigIntegerField(default=0)
    # Generations that the new index could not read keep their standing revision.
    n_kept = models.BigIntegerField(default=0)
    # The last generation that was looked at: the next batch begins after it.
    after_id = models.UUIDField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["index"],
                condition=Q(state__in=["proposed", "running"], generation__isnull=True),
                name="an_index_restates_once_at_a_time",
            ),
            models.UniqueConstraint(
                fields=["generation"],
                condition=Q(state__in=["proposed", "running"]),
                name="a_generation_is_restated_once_at_a_time",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="a_restatement_says_why"),
            models.CheckConstraint(
                condition=Q(state="proposed") | Q(decided_by__isnull=False, decided_at__isnull=False),
                name="a_decided_restatement_says_by_whom",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["running", "done"]) | ~Q(decided_by=F("proposed_by")),
                name="a_restatement_is_confirmed_by_somebody_else",
            ),
            models.CheckConstraint(
                condition=Q(state="done", finished_at__isnull=False) | (~Q(state="done") & Q(finished_at__isnull=True)),
                name="a_finished_restatement_says_when",
            ),
        ]

    def __str__(self) -> str:
        return f"restatement {self.pk} by {self.index}"
