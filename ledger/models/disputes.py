"""Contributors' objections to their receipts, and the answers."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

WORDS_MAX = 2000


class ReceiptDispute(models.Model):
    """A contributor holds one receipt to be wrong. It moves no money: a contested amount is put on hold, and a wrong
    receipt restated, by entries of their own. Its words stand as they were written."""

    # open -> upheld (the receipt is to be restated) | declined; open -> withdrawn by the contributor.
    class State(models.TextChoices):
        OPEN = "open", "waits for an answer"
        UPHELD = "upheld"
        DECLINED = "declined"
        WITHDRAWN = "withdrawn"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "open": {"upheld", "declined", "withdrawn"},
        "upheld": set(),
        "declined": set(),
        "withdrawn": set(),
    }

    contributor = models.ForeignKey("contributors.Contributor", on_delete=models.PROTECT, related_name="disputes")
    generation = models.ForeignKey("attribution.Generation", on_delete=models.PROTECT, related_name="disputes")
    # Of the receipt as the contributor saw it.
    revision = models.IntegerField()
    words = models.CharField(max_length=WORDS_MAX)
    raised_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    raised_at = models.DateTimeField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.OPEN)
    answer = models.CharField(max_length=WORDS_MAX, blank=True)
    answered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["contributor", "generation"],
                condition=Q(state="open"),
                name="a_receipt_is_disputed_once_at_a_time",
            ),
            models.CheckConstraint(condition=~Q(words=""), name="a_dispute_says_what_is_wrong"),
            models.CheckConstraint(
                condition=Q(state__in=["open", "withdrawn"], answered_by__isnull=True, answer="")
                | Q(state__in=["upheld", "declined"], answered_by__isnull=False) & ~Q(answer=""),
                name="a_decided_dispute_has_an_answer",
            ),
            models.CheckConstraint(
                condition=Q(state="open", answered_at__isnull=True) | ~Q(state="open") & Q(answered_at__isnull=False),
                name="a_dispute_that_ended_says_when",
            ),
            models.CheckConstraint(
                condition=Q(answered_by__isnull=True) | ~Q(answered_by=F("raised_by")),
                name="a_dispute_is_answered_by_somebody_else",
            ),
        ]

    def __str__(self) -> str:
        return f"dispute {self.pk} on {self.generation_id}"
