"""Changes after a report or an accrual: generations that are void, and restatements by a new index.

Staff propose both, and somebody else approves; a service takes its own generations back by itself.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from people.models import TWO_PEOPLE, Proposal


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

    generation = models.ForeignKey("attribution.Generation", on_delete=models.PROTECT, related_name="void_proposals")
    reason = models.CharField(max_length=9, choices=Void.Reason.choices)
    # Why it is staff that voids it. It stands on the receipts of contributors.
    detail = models.CharField(max_length=300)

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
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"void of {self.generation_id} proposed"


# Not decided yet, or running.
_OPEN = Q(state="proposed") | Q(state="approved", finished_at__isnull=True)


class Restatement(Proposal):
    """One generation, or all of a model version, attributed again by an index that took over later. All of a version
    are worked on in batches."""

    index = models.ForeignKey("attribution.AttributionIndex", on_delete=models.PROTECT, related_name="restatements")
    # Null where every generation of the index's model version is restated.
    generation = models.ForeignKey(
        "attribution.Generation", on_delete=models.PROTECT, null=True, blank=True, related_name="restatements"
    )
    reason = models.CharField(max_length=300)
    # Generations that occurred before are left as they are.
    since = models.DateTimeField()
    # An approved restatement runs until it has this.
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
                condition=_OPEN & Q(generation__isnull=True),
                name="an_index_restates_once_at_a_time",
            ),
            models.UniqueConstraint(
                fields=["generation"],
                condition=_OPEN,
                name="a_generation_is_restated_once_at_a_time",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="a_restatement_says_why"),
            models.CheckConstraint(
                condition=Q(state="approved") | Q(finished_at__isnull=True),
                name="only_an_approved_restatement_finishes",
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"restatement {self.pk} by {self.index}"

    @property
    def is_open(self) -> bool:
        """Tell whether it waits for a decision or runs."""
        return self.state == self.State.PROPOSED or self.is_running

    @property
    def is_running(self) -> bool:
        return self.state == self.State.APPROVED and self.finished_at is None

    @property
    def standing(self) -> tuple[str, str]:
        """Return the tone and the word of its badge: the state, and of an approved one how far it is."""
        if self.state != self.State.APPROVED:
            return ("info" if self.state == self.State.PROPOSED else "neutral"), str(self.get_state_display())
        return ("warn", "Running") if self.finished_at is None else ("good", "Done")
